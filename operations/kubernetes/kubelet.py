"""Keep kubelet from starting before the node joins, and check and complete its configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from chaos_engine.facts.files import Files
from chaos_engine.facts.kubernetes import KUBELET_CONFIG, Joined, KubeletConfiguration
from chaos_engine.facts.observe import Read, current, observe, warn
from chaos_engine.facts.systemd import Units
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import LogSize
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.files import File, Unit
from chaos_engine.operations.kubernetes.skew import UPGRADE
from chaos_engine.operations.rolling.kubectl import ClusterError, Json, Kubectl, find, update

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

NO_LIMIT = "1Ti"
"""The size for kubelet's ``containerLogMaxSize`` that no log reaches."""

CONFIGMAP = "/api/v1/namespaces/kube-system/configmaps/kubelet-config"
"""The URL's path of kubelet's configuration in the cluster. kubeadm writes it on each node."""

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
    if loops:
        because("stop kubelet.service: it keeps failing, because it has no configuration")
    todo = files.decide([_QUIET], units=[_QUIET_UNIT])
    yield from files.transaction(
        todo,
        before="unit_was kubelet.service" if loops else "",
        apply="systemctl stop kubelet.service" if loops else "",
        force=loops,
        noop="kubelet is quiet",
    )


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
            f"{problem}. Run {UPGRADE}, which sets it in the cluster and on each node; or edit the "
            "configmap kubelet-config in kube-system, and on each node run: kubeadm upgrade node "
            "phase kubelet-config && systemctl restart kubelet"
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
    if "containerLogMaxSize" in needed(config, {}, log_size):
        yield (
            f"kubelet's containerLogMaxSize is {_log_size(config)}, but must be well above "
            f"{log_size}. At {log_size} Docker rotates a container's log, and a kubelet that uses "
            "cri-dockerd cannot rotate logs itself"
        )


def needed(config: Mapping[str, Any], gates: Mapping[str, bool], log_size: str) -> dict[str, Any]:
    """Return what a kubelet's configuration lacks to work with cri-dockerd.

    + config: the configuration
    + gates, log_size: the arguments of `report_configuration`

    The result has the configuration's keys with their new values. This is a pure function.

    **Example:** ``needed({}, {}, "100m") == {"containerLogMaxSize": "1Ti"}``
    """
    values: dict[str, Any] = {}
    found = config.get("featureGates") or {}
    if any(found.get(gate) is not on for gate, on in gates.items()):
        values["featureGates"] = {**found, **gates}
    most = quantity(_log_size(config))
    if most is not None and most <= docker_bytes(log_size) + LARGEST_ENTRY:
        values["containerLogMaxSize"] = NO_LIMIT
    return values


def _log_size(config: Mapping[str, Any]) -> str:
    """Return the size at which kubelet would rotate a container's log."""
    return str(config.get("containerLogMaxSize") or "10Mi")


def cluster_configuration(kubectl: Kubectl) -> dict[str, Any]:
    """Return kubelet's configuration in the cluster, {} if there is none or it cannot be read.

    Raises `ClusterError` if the cluster does not answer.
    """
    return _configuration(find(kubectl, CONFIGMAP) or {})


def change_configuration(
    kubectl: Kubectl, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> None:
    """Change kubelet's configuration in the cluster, and keep the rest of it.

    + change: function that takes the configuration, and returns the keys to change, with their new
      values. {} changes nothing

    Raises `ClusterError` if the cluster does not answer, or if kubeadm has not made it.
    """

    def apply(item: Json) -> bool:
        config = _configuration(item)
        if not config:
            raise ClusterError("the configmap kubelet-config has no configuration")
        values = change(config)
        item["data"]["kubelet"] = yaml.safe_dump({**config, **values})
        return bool(values)

    try:
        update(kubectl, CONFIGMAP, apply)
    except ClusterError as error:
        if error.reason != "Forbidden":
            raise
        raise ClusterError(
            f"{error}; the user of {setting('kubeconfig')} needs the rights get and update for the "
            "configmap kubelet-config in kube-system"
        ) from None


def _configuration(item: Json) -> dict[str, Any]:
    """Return the configuration in the ConfigMap, {} if there is none."""
    try:
        found = yaml.safe_load(item["data"]["kubelet"])
    except (yaml.YAMLError, LookupError, TypeError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


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
