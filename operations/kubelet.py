"""Keep kubelet quiet until the node has joined a cluster."""

from __future__ import annotations

from chaos_engine.facts.files import Files
from chaos_engine.facts.kubernetes import Joined
from chaos_engine.facts.observe import Read, observe
from chaos_engine.facts.systemd import Units
from chaos_engine.operations import files
from chaos_engine.operations.converge import Commands, converge
from chaos_engine.operations.files import File, Unit

KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
"""kubeadm writes it when the node joins, before it starts kubelet."""

_QUIET = File(
    "/etc/systemd/system/kubelet.service.d/05-chaos-engine.conf",
    "# Without this file, which kubeadm writes when the node joins, kubelet fails every ten\n"
    "# seconds. Written by chaos-engine\n"
    f"[Unit]\nConditionPathExists={KUBELET_CONFIG}\n",
)
_QUIET_UNIT = Unit("kubelet.service", enabled=None, running=None)


def reads() -> list[Read]:
    """What `keep_quiet` will observe."""
    return [
        Read.of(Joined),
        Read.of(Files, paths=(KUBELET_CONFIG,)),
        *files.reads([_QUIET], units=[_QUIET_UNIT]),
    ]


@converge(reads=reads)
def keep_quiet() -> Commands:
    """Have kubelet wait for its configuration instead of failing, and being logged, every ten
    seconds; to be called before kubelet is installed.

    A kubelet that fails already is stopped: systemd does not ask the condition again when it
    restarts a service by itself (``unit_start`` in systemd's src/core/unit.c).

    **Example:** ``keep_quiet(name="Keep kubelet quiet until the node joins")``
    """
    unit = observe(Units, units=(("kubelet.service", ()),))["kubelet.service"]
    ready = observe(Joined) or KUBELET_CONFIG in observe(Files, paths=(KUBELET_CONFIG,))
    loops = fails(unit.active, ready)
    apply = "unit_was kubelet.service; settle; systemctl stop kubelet.service" if loops else ""
    yield from files.transaction([_QUIET], units=[_QUIET_UNIT], apply=apply, force=loops)


def fails(active: str, ready: bool) -> bool:
    """Whether kubelet is started again and again, in vain: a pure function.

    + active: systemd's ActiveState; "activating" between two attempts
    + ready: whether it has what kubeadm gives it
    """
    return not ready and active not in ("inactive", "failed")
