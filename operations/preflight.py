"""Check a node before the first change, and refuse a node that cannot become a work node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from chaos_engine.facts.node import NOT_ROOT, Node, NodeState
from chaos_engine.facts.observe import NO_SYSTEMD, NodeError, Read, current, observe, warn
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.converge import Commands, converge

if TYPE_CHECKING:
    from pyinfra.api.state import State

ARCHITECTURES = ("arm64", "amd64")

# 64-bit Raspberry Pi OS has the ID debian in /etc/os-release
SYSTEMS = {"ubuntu": ("24.04", "25.10", "26.04"), "debian": ("12", "13")}

MIN_FREE_MIB = 200
WANTED_FREE_MIB = 2048
MAX_SKEW_SECONDS = 120
MAX_RESOLVE_MS = 1000

_seen: WeakKeyDictionary[State, dict[str, str]] = WeakKeyDictionary()
"""For each run, a mapping from boot IDs and machine IDs to the first host that has the ID."""


@converge(reads=lambda known_as, address="": [Read.of(Node)])
def check_node(known_as: str, address: str = "") -> Commands:
    """Refuse a node that cannot become a work node. Nothing is changed on the node.

    + known_as: the node's name in the cluster, "" if it has none
    + address: the IPv4 address that other nodes use for the node, "" for any

    Raises `NodeError` with all reasons for which the node is refused.

    **Example:** ``check_node(name="Check node", known_as="pi1", address="192.168.1.50")``
    """
    state, host = current()
    node = observe(Node)
    problems = list(refusals(node, address))
    seen = _seen.setdefault(state, {})
    twin = seen.setdefault(node.boot_id, host.name)
    if twin != host.name:
        problems.append(f"this is the same machine as {twin}; list it only once in inventory.py")
    if problems:
        raise NodeError("; ".join(problems))
    for message in warnings(node, known_as):
        warn(message)
    twin = seen.setdefault(node.machine_id, host.name) if node.machine_id else host.name
    if twin != host.name:
        warn(
            f"/etc/machine-id is the same as on {twin}, so one card is probably a copy of the "
            "other: DHCP and the logs cannot tell the two nodes apart; run on one of them: "
            "rm /etc/machine-id; systemd-machine-id-setup; reboot"
        )
    host.noop(f"{host.name} can be a work node")
    yield from ()


def refusals(node: NodeState, address: str = "") -> Iterator[str]:
    """Yield each reason why a node cannot be a work node, and what to do.

    This is a pure function.
    """
    if not node.root:
        yield NOT_ROOT
    if not node.systemd:
        yield NO_SYSTEMD
    if not node.apt:
        yield f"its system, {node.system or 'unknown'}, has no apt; use Ubuntu or Debian"
    elif node.architecture not in ARCHITECTURES:
        yield (
            f"the node's system is for {node.architecture}; install a 64-bit system "
            f"({' or '.join(ARCHITECTURES)})"
        )
    if node.cgroup != "cgroup2":
        # from 1.35 on kubelet refuses cgroup version 1 (KEP-4569)
        yield (
            f"/sys/fs/cgroup is {node.cgroup or 'not mounted'}, not cgroup version 2; remove "
            "systemd.unified_cgroup_hierarchy=0 from the kernel's command line and reboot"
        )
    if node.read_only:
        yield (
            "its root file system is read-only, perhaps after errors on the card; look at dmesg, "
            "and check or replace the card"
        )
    if node.overlay:
        yield (
            f"the kernel's command line has {node.overlay}, so changes are lost at the next boot; "
            "turn off the overlay file system, for example with raspi-config"
        )
    if node.free_mib < MIN_FREE_MIB:
        yield (
            f"its root file system has only {node.free_mib} MiB free, {MIN_FREE_MIB} are needed; "
            "remove files from that file system"
        )
    if address and node.addresses and address not in node.addresses:
        # the other nodes' hosts file, and kubelet's node-ip, would name another machine
        yield (
            f"the node has the address {', '.join(node.addresses)}, but {setting('nodes')} has "
            f"{address}; correct {setting('nodes')}, or give the node the address {address}"
        )


def warnings(node: NodeState, known_as: str = "") -> Iterator[str]:
    """Yield a warning for each problem that is no reason to refuse the node.

    This is a pure function.
    """
    versions = SYSTEMS.get(node.system, ())
    if node.apt and node.version not in versions:
        tried = "; ".join(f"{name} {', '.join(known)}" for name, known in SYSTEMS.items())
        yield f"{node.system} {node.version} is not one of the supported systems: {tried}"
    if node.half_done:
        # each script of this package that calls apt first finishes interrupted installations
        names = ", ".join(node.half_done)
        yield (
            f"dpkg did not finish the installation of {names}; the next operation that calls apt "
            "will finish the installation first"
        )
    if MIN_FREE_MIB <= node.free_mib < WANTED_FREE_MIB:
        yield (
            f"only {node.free_mib} MiB are free on the root file system; container images need more"
        )
    if abs(node.skew) > MAX_SKEW_SECONDS:
        yield (
            f"its clock is {abs(node.skew)} s {'ahead of' if node.skew > 0 else 'behind'} this "
            "computer's clock, so certificates and package lists may seem expired or not yet "
            "valid; look at: timedatectl"
        )
    if not node.resolves or node.resolve_ms > MAX_RESOLVE_MS:
        slow = node.resolve_ms >= MAX_RESOLVE_MS
        yield (
            f"the node's own name {node.hostname} "
            f"{'resolves slowly' if node.resolves else 'has no address'}"
            f"{f' ({node.resolve_ms} ms), so each sudo is slow' if slow else ''}; "
            f"add the line 127.0.1.1 {node.hostname} to the node's /etc/hosts"
        )
    if known_as and node.hostname.partition(".")[0] != known_as:
        yield (
            f"its host name is {node.hostname}, not {known_as}, so Kubernetes would call the node "
            f"{node.hostname}; run on the node: hostnamectl set-hostname {known_as}"
        )
