"""Keep kubelet from starting before the node joins, and check kubelet's configuration."""

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
    "# kubeadm writes kubelet's configuration when the node joins. Until then kubelet would fail\n"
    "# every ten seconds. Written by chaos-engine\n"
    f"[Unit]\nConditionPathExists={KUBELET_CONFIG}\n",
)
LARGEST_ENTRY = 128 * 1024
"""Bytes by which a container's log may exceed Docker's limit. Docker checks the size before it
writes an entry, not after it (``checkCapacityAndRotate`` in daemon/logger/loggerutils/logfile.go).
An entry has up to 16 KiB of output (``defaultBufSize`` in daemon/logger/copier.go). JSON may turn
each of these bytes into six."""

_QUIET_UNIT = Unit("kubelet.service", enabled=None, running=None)


@converge(
    reads=lambda: [
        Read.of(Joined),
        Read.of(Files, paths=(KUBELET_CONFIG,)),
        *files.reads([_QUIET], units=[_QUIET_UNIT]),
    ]
)
def quiet_kubelet() -> Commands:
    """Keep kubelet from starting before it has a configuration.

    kubeadm writes the configuration when the node joins a cluster. Without it, kubelet fails every
    ten seconds, and each failure is logged. The operation writes a drop-in, so that systemd starts
    the unit only if the configuration exists. Call the operation before kubelet is installed. If
    kubelet already keeps failing, the operation stops it: at an automatic restart, systemd does not
    check the drop-in's condition (``unit_start`` in systemd's src/core/unit.c).

    **Example:** ``quiet_kubelet(name="Keep kubelet quiet until the node joins")``
    """
    unit = observe(Units, units=(("kubelet.service", ()),))["kubelet.service"]
    ready = observe(Joined) or KUBELET_CONFIG in observe(Files, paths=(KUBELET_CONFIG,))
    loops = restarts_in_vain(unit.active, ready)
    apply = "unit_was kubelet.service; settle; systemctl stop kubelet.service" if loops else ""
    if loops:
        because("stop kubelet.service: it keeps failing, because it has no configuration")
    todo = files.decide([_QUIET], units=[_QUIET_UNIT])
    yield from files.transaction(todo, apply=apply, force=loops, noop="kubelet is quiet")


def restarts_in_vain(active: str, ready: bool) -> bool:
    """Tell whether systemd keeps restarting a kubelet that has no configuration.

    This is a pure function.

    + active: ActiveState of kubelet's unit; "activating" between two restarts
    + ready: whether kubelet has the configuration that kubeadm writes
    """
    return not ready and active not in ("inactive", "failed")


@converge(reads=lambda gates, log_size: [Read.of(KubeletConfiguration)])
def report_configuration(gates: Mapping[str, bool], log_size: LogSize) -> Commands:
    """Warn about problems in the kubelet configuration of a node that has joined a cluster.

    + gates: feature gates that kubelet needs, as
      `chaos_engine.operations.compatibility.feature_gates` returns them
    + log_size: size at which Docker rotates a container's log, such as ``10m``

    Nothing is changed, because kubeadm owns kubelet's configuration file.

    **Example:** ``report_configuration(gates={}, log_size="10m")``
    """
    found = observe(KubeletConfiguration)
    problems = [*flaws(found, gates, log_size)]
    for problem in problems:
        warn(
            f"{problem}. Edit the cluster's kubelet configuration: kubectl -n kube-system edit "
            "configmap kubelet-config; then apply it on each node: kubeadm upgrade node phase "
            "kubelet-config && systemctl restart kubelet"
        )
    if not problems:
        current()[1].noop("kubelet's configuration: no problem was found")
    yield from ()


def flaws(config: Mapping[str, Any], gates: Mapping[str, bool], log_size: str) -> Iterator[str]:
    """Yield a message for each problem in a kubelet's configuration. This is a pure function.

    + config: the configuration; {} if the node has not joined a cluster. {} has no problems
    + gates, log_size: the arguments of `report_configuration`
    """
    if not config:
        return
    found = config.get("featureGates") or {}
    for gate, on in gates.items():
        if found.get(gate) is not on:
            yield (
                f"kubectl exec and attach fail on this node, because its kubelet needs the feature "
                f"gate {gate}={str(on).lower()} (Mirantis/cri-dockerd#569)"
            )
    size = str(config.get("containerLogMaxSize") or "10Mi")
    most = quantity(size)
    if most is not None and most <= docker_bytes(log_size) + LARGEST_ENTRY:
        yield (
            f"kubelet's containerLogMaxSize is {size}, but must be well above {log_size}. At "
            f"{log_size} Docker rotates a container's log, and a kubelet that uses cri-dockerd "
            "cannot rotate logs itself. Set containerLogMaxSize to 1Ti, for example"
        )


def quantity(text: str) -> float | None:
    """Convert a Kubernetes quantity to a number of bytes; ``None`` if the text is no quantity.

    The grammar is at kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity.

    **Example:** ``quantity("10Mi") == 10485760``
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(k|Ki|[MGT]i?|)", text)
    if not match:
        return None
    power = "KMGT".index(match[2][0].upper()) + 1 if match[2] else 0
    return float(match[1]) * float((1024 if match[2].endswith("i") else 1000) ** power)


def docker_bytes(size: str) -> int:
    """Convert a log size of Docker to a number of bytes: ``docker_bytes("10m") == 10000000``.

    Docker's units are decimal (``FromHumanSize`` of github.com/docker/go-units).
    """
    power: int = "kmg".index(size[-1]) + 1
    return int(size[:-1]) * int(1000**power)
