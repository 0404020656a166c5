"""Give proxies faults that last as long as a context: power, network, HAProxy, Docker, processor.

Each fault is undone at the end, whatever happens, and whatever has become of the node meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.cluster.faults import Fault, cable_pulled
from tests.cluster.virtual_cluster import Cluster
from tests.lab import cpu
from tests.lab.cgroup import Group

CONTAINER = "lb-haproxy"
VRRP = "112"
"""The number of VRRP's protocol."""
ANY = "all"

_STOPPED = "/run/haproxy.stopped"
_STOP = f"""\
docker top {CONTAINER} -eo pid | sed 1d >{_STOPPED}
test -s {_STOPPED} && xargs kill -STOP <{_STOPPED}
"""


@contextmanager
def power_cut(cluster: Cluster, node: str) -> Iterator[None]:
    """Cut a node's power. It boots at the end."""
    cluster.power(node, "cut")
    try:
        yield
    finally:
        cluster.power(node, "on")


@contextmanager
def frozen(cluster: Cluster, node: str) -> Iterator[None]:
    """Have all processes of a node do nothing. Its kernel still answers ARP and accepts packets."""
    group = Group.of(cluster.name, node)
    group.freeze()
    try:
        yield
    finally:
        group.thaw()


def link_down(cluster: Cluster, node: str) -> Fault:
    """Take the carrier from a node's network interface."""
    return cable_pulled(cluster, node)


def container_killed(cluster: Cluster, node: str) -> Fault:
    """Kill HAProxy's container. Its unit starts another one."""
    return _undone(cluster, node, f"docker kill {CONTAINER}")


def haproxy_stopped(cluster: Cluster, node: str) -> Fault:
    """Stop the processes of HAProxy's container by SIGSTOP. The kernel still takes connections."""
    return _undone(cluster, node, _STOP, f"xargs kill -CONT <{_STOPPED}; rm -f {_STOPPED}")


def haproxy_killed(cluster: Cluster, node: str) -> Fault:
    """Kill the processes of HAProxy's container. Its unit starts another one."""
    # One of them may end by the end of another one
    return _undone(
        cluster, node, f"docker top {CONTAINER} -eo pid | sed 1d | xargs kill -KILL || true"
    )


def docker_stopped(cluster: Cluster, node: str) -> Fault:
    """Stop Docker, and HAProxy's container with it, as systemd does it."""
    return _undone(
        cluster,
        node,
        "systemctl stop docker.socket docker.service",
        "systemctl start docker.service docker_haproxy.service",
    )


def docker_killed(cluster: Cluster, node: str) -> Fault:
    """Kill Docker's daemon. systemd starts another one, which ends containers that it finds."""
    return _undone(cluster, node, "kill -KILL $(systemctl show -p MainPID --value docker)")


def cut_off(cluster: Cluster, node: str) -> Fault:
    """Let no packet of a node's containers out, as a firewall does that has lost Docker's rules."""
    rule = "FORWARD --in-interface docker0 --jump DROP"
    return _undone(cluster, node, f"iptables -w --insert {rule}", f"iptables -w --delete {rule}")


@contextmanager
def partition(
    cluster: Cluster, deaf: str, mute: str, *, both: bool = False, protocol: str = ANY
) -> Iterator[None]:
    """Have one node not hear another one.

    + deaf, mute: what `mute` sends from its own address does not reach `deaf`
    + both: whether `mute` does not hear `deaf` either
    + protocol: what is dropped, all by default
    """
    with ExitStack() as rules:
        rules.enter_context(_dropped(cluster, deaf, mute, protocol))
        if both:
            rules.enter_context(_dropped(cluster, mute, deaf, protocol))
        yield


@contextmanager
def slow(cluster: Cluster, node: str, percent: int) -> Iterator[None]:
    """Have a node use at most so many percent of one processor."""
    with cpu.limited(Group.of(cluster.name, node), percent):
        yield


def _dropped(cluster: Cluster, at: str, sender: str, protocol: str) -> Fault:
    # The node's own network has its hairpin link; the proxy's address is in the container's
    rule = f"PREROUTING --source {cluster.address(sender)} --protocol {protocol} --jump DROP"
    return _undone(
        cluster,
        at,
        f"iptables -w --table raw --insert {rule}",
        f"iptables -w --table raw --delete {rule}",
    )


@contextmanager
def _undone(cluster: Cluster, node: str, begin: str, end: str = ":") -> Iterator[None]:
    """Run a shell command on a node before the body, and another one after it.

    The second one may fail: the node may have booted meanwhile.
    """
    cluster.exec(node, begin)
    try:
        yield
    finally:
        cluster.exec(node, end, ok=False)
