"""Keep kubelet quiet until the node has joined a cluster; then report what its settings lack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from chaos_engine.facts.files import Files
from chaos_engine.facts.kubernetes import KUBELET_CONFIG, Joined, KubeletConfiguration
from chaos_engine.facts.observe import Read, current, observe, warn
from chaos_engine.facts.systemd import Units
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import LogSize
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.files import File, Unit

_QUIET = File(
    "/etc/systemd/system/kubelet.service.d/05-chaos-engine.conf",
    "# Without this file, which kubeadm writes when the node joins, kubelet fails every ten\n"
    "# seconds. Written by chaos-engine\n"
    f"[Unit]\nConditionPathExists={KUBELET_CONFIG}\n",
)
_QUIET_UNIT = Unit("kubelet.service", enabled=None, running=None)


@converge(
    reads=lambda: [
        Read.of(Joined),
        Read.of(Files, paths=(KUBELET_CONFIG,)),
        *files.reads([_QUIET], units=[_QUIET_UNIT]),
    ]
)
def quiet_kubelet() -> Commands:
    """Have kubelet wait for its configuration, instead of failing every ten seconds.

    Each failure would be logged. With a drop-in, the unit starts only if the configuration is
    there. The drop-in has to be written before kubelet is installed. A kubelet that keeps failing
    already is stopped, because systemd does not check the condition when it restarts a service by
    itself (``unit_start`` in systemd's src/core/unit.c).

    **Example:** ``quiet_kubelet(name="Keep kubelet quiet until the node joins")``
    """
    unit = observe(Units, units=(("kubelet.service", ()),))["kubelet.service"]
    ready = observe(Joined) or KUBELET_CONFIG in observe(Files, paths=(KUBELET_CONFIG,))
    loops = restarts_in_vain(unit.active, ready)
    apply = "unit_was kubelet.service; settle; systemctl stop kubelet.service" if loops else ""
    if loops:
        because("stop kubelet.service: without configuration it is started again and again")
    todo = files.decide([_QUIET], units=[_QUIET_UNIT])
    yield from files.transaction(todo, apply=apply, force=loops, noop="kubelet is quiet")


def restarts_in_vain(active: str, ready: bool) -> bool:
    """Tell whether systemd keeps starting kubelet in vain: a pure function.

    + active: systemd's ActiveState; "activating" between two attempts
    + ready: whether kubelet has the configuration that kubeadm writes
    """
    return not ready and active not in ("inactive", "failed")


@converge(reads=lambda gates, log_size: [Read.of(KubeletConfiguration)])
def report_configuration(gates: Mapping[str, bool], log_size: LogSize) -> Commands:
    """Warn if a joined node's kubelet lacks settings that it would have in a new cluster.

    + gates: feature gates that kubelet needs, as
      `chaos_engine.operations.compatibility.feature_gates` returns them
    + log_size: size at which Docker rotates a container's log, as ``10m``

    Nothing is changed: kubeadm owns the file.

    **Example:** ``report_configuration(gates={}, log_size="10m")``
    """
    found = observe(KubeletConfiguration)
    problems = [*flaws(found, gates, log_size)]
    for problem in problems:
        warn(
            f"{problem}. Change that for the cluster: kubectl -n kube-system edit configmap "
            "kubelet-config; then on each node: kubeadm upgrade node phase kubelet-config && "
            "systemctl restart kubelet"
        )
    if not problems:
        current()[1].noop("kubelet's configuration: as a new cluster's")
    yield from ()


def flaws(config: Mapping[str, Any], gates: Mapping[str, bool], log_size: str) -> Iterator[str]:
    """Say what is wrong in a kubelet's configuration: a pure function.

    + config: the configuration, {} if the node has not joined a cluster: nothing is wrong then
    + gates, log_size: as `report_configuration` takes them
    """
    if not config:
        return
    found = config.get("featureGates") or {}
    for gate, on in gates.items():
        if found.get(gate) is not on:
            yield (
                f"kubectl exec and attach fail on this node: its kubelet lacks featureGates: "
                f"{gate}: {str(on).lower()} (Mirantis/cri-dockerd#569)"
            )
    size = str(config.get("containerLogMaxSize") or "10Mi")
    if (most := quantity(size)) is not None and most <= docker_bytes(log_size):
        yield (
            f"kubelet tries to rotate containers' logs at containerLogMaxSize: {size}, no later "
            f"than Docker, which does it at {log_size}; with cri-dockerd kubelet's attempt fails; "
            "set a larger containerLogMaxSize, as 1Ti"
        )


def quantity(text: str) -> float | None:
    """Return the number of bytes of a Kubernetes quantity, ``None`` if the text is no quantity.

    The grammar is at kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity.

    **Example:** ``quantity("10Mi") == 10485760``
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(k|Ki|[MGT]i?|)", text)
    if not match:
        return None
    power = "KMGT".index(match[2][0].upper()) + 1 if match[2] else 0
    return float(match[1]) * float((1024 if match[2].endswith("i") else 1000) ** power)


def docker_bytes(size: str) -> int:
    """Return the number of bytes of one of Docker's log sizes: ``docker_bytes("10m") == 10000000``.

    They are decimal (``FromHumanSize`` of github.com/docker/go-units).
    """
    power: int = "kmg".index(size[-1]) + 1
    return int(size[:-1]) * int(1000**power)
