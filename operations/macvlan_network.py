"""A Docker network whose containers have addresses of their own on the node's LAN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network

from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.facts.docker import DockerNetwork, DockerNetworks
from chaos_engine.facts.network import Interface, InterfaceState
from chaos_engine.facts.observe import NodeError, Read, current, observe
from chaos_engine.operations.converge import Commands, converge
from chaos_engine.operations.shell import quote

CONTAINER = "lb-haproxy"
SERVICE = "docker_haproxy.service"


@dataclass(frozen=True)
class Macvlan:
    """How the network shall be.

    + name: its name
    + parent: the network interface that it is on
    + subnet: the LAN's
    + gateway: the LAN's router
    + vip: the one address that Docker may give to a container
    + hairpin: the address of the node's own link, which Docker shall not give away
    """

    name: str
    parent: str
    subnet: IPv4Network
    gateway: IPv4Address
    vip: IPv4Address
    hairpin: IPv4Address

    @property
    def create(self) -> str:
        """The command that creates it."""
        return quote(
            *("docker", "network", "create", "--driver", "macvlan"),
            *("--subnet", str(self.subnet), "--gateway", str(self.gateway)),
            # else a container without an address of its own would get any of the LAN's
            *("--ip-range", f"{self.vip}/32", "--aux-address", f"hairpin={self.hairpin}"),
            *("--opt", f"parent={self.parent}", "--opt", "macvlan_mode=bridge", self.name),
        )


def reads(wanted: Macvlan) -> list[Read]:
    """What `network` will observe for the same arguments."""
    return [Read.of(DockerNetworks), Read.of(Interface, interface=wanted.parent)]


@converge(reads=reads)
def network(wanted: Macvlan) -> Commands:
    """Have a macvlan network in Docker.

    + wanted: how it shall be

    One that differs is made anew; the proxy's service stops for that long, and the old network
    comes back if the new one cannot be made. Raises `NodeError` if its parent cannot carry macvlan
    links, if another network has its subnet, or if containers that are not ours would have to go.

    **Example:** ``network(name="Create the proxy's network", wanted=Macvlan("lb-network", ...))``
    """
    problem = unfit(wanted, observe(Interface, interface=wanted.parent))
    if problem:
        raise NodeError(problem)
    networks = observe(DockerNetworks)
    if networks is None:
        current()[1].noop(f"{wanted.name}: Docker does not run to tell")
        return
    found = networks.get(wanted.name)
    others = {name: other for name, other in networks.items() if name != wanted.name}
    problem = overlaps(wanted, others)
    if problem:
        raise NodeError(problem)
    differs = differences(wanted, found) if found else []
    if found and not differs:
        current()[1].noop(f"{wanted.name}: as wanted")
        return
    strangers = sorted(set(found.containers) - {CONTAINER}) if found else []
    if strangers:
        raise NodeError(
            f"the Docker network {wanted.name} has {', '.join(differs)}, but cannot be made anew: "
            f"the containers {', '.join(strangers)} are on it; stop them, or move them to another "
            "network"
        )
    yield StringCommand("sh -c", QuoteString(compose(wanted, found)))


def unfit(wanted: Macvlan, parent: InterfaceState | None) -> str:
    """Why the network's parent cannot carry macvlan links; "" if it can: a pure function."""
    name, key = wanted.parent, "chaos_parent_interface"
    if parent is None:
        return f"{name}: there is no such network interface; set {key} to the one on the LAN"
    if parent.wireless:
        return (
            f"{name} is wireless: access points drop the frames of a second MAC address; connect "
            f"the node by cable and set {key} to that interface"
        )
    if parent.master:
        return (
            f"{name} is a port of {parent.master}, which takes its frames before a macvlan link "
            f"gets them; set {key} to {parent.master}"
        )
    if not parent.up:
        return f"{name} is down; connect it and bring it up, or set {key} to the one on the LAN"
    if not any(IPv4Interface(address).ip in wanted.subnet for address in parent.addresses):
        return (
            f"{name} has no address in chaos_lan_subnet {wanted.subnet}, only "
            f"{', '.join(parent.addresses) or 'none'}; set {key} to the one on the LAN"
        )
    return ""


def overlaps(wanted: Macvlan, others: Mapping[str, DockerNetwork]) -> str:
    """Which other Docker network has addresses of the subnet, and what to do; "" if none has."""
    for name, other in others.items():
        if any(wanted.subnet.overlaps(_ipv4(subnet)) for subnet in other.subnets if _ipv4(subnet)):
            return (
                f"the Docker network {name} has addresses of chaos_lan_subnet {wanted.subnet}, "
                f"which Docker gives to one network only; remove it: docker network rm {name}"
            )
    return ""


def differences(wanted: Macvlan, found: DockerNetwork) -> list[str]:
    """What of the network is not as wanted, in words: a pure function.

    A network without a range for its containers' addresses is left as it is.
    """
    differs = []
    if found.driver != "macvlan":
        differs.append(f"the driver {found.driver}")
    if found.parent != wanted.parent:
        differs.append(f"the parent {found.parent or 'none'}")
    if found.mode != "bridge":
        differs.append(f"the mode {found.mode}")
    if [_ipv4(subnet) for subnet in found.subnets] != [wanted.subnet]:
        differs.append(f"the subnet {', '.join(found.subnets) or 'none'}")
    if found.gateways != (str(wanted.gateway),):
        differs.append(f"the gateway {', '.join(found.gateways) or 'none'}")
    if found.ip_ranges and not any(wanted.vip in _ipv4(one) for one in found.ip_ranges):
        differs.append(f"the range {', '.join(found.ip_ranges)} without {wanted.vip}")
    return differs


def compose(wanted: Macvlan, found: DockerNetwork | None) -> str:
    """The shell script that makes the network, in place of the one that is there."""
    lines = [
        "set -eu",
        "command -v docker >/dev/null || {",
        '  echo "Docker is not installed; deploy chaos_engine.deploys.docker first" >&2; exit 1',
        "}",
    ]
    if found is None:
        return "\n".join([*lines, f"{wanted.create} >/dev/null"])
    again = _recreate(wanted.name, found)
    return "\n".join(
        [
            *lines,
            f"was=$(systemctl is-active {SERVICE}) || true",
            f"systemctl stop {SERVICE} 2>/dev/null || true",
            f"docker rm --force {CONTAINER} >/dev/null 2>&1 || true",
            f"docker network rm {quote(wanted.name)} >/dev/null",
            "status=0",
            f"{wanted.create} >/dev/null || {{ status=$?; {again} >/dev/null; }}",
            # one that does not run is not this operation's to start
            f"case $was in active|reloading) systemctl start {SERVICE};; esac",
            "exit $status",
        ]
    )


def _recreate(name: str, found: DockerNetwork) -> str:
    options = [
        *(word for subnet in found.subnets for word in ("--subnet", subnet)),
        *(word for gateway in found.gateways for word in ("--gateway", gateway)),
        *(word for one in found.ip_ranges for word in ("--ip-range", one)),
        *(("--opt", f"parent={found.parent}") if found.parent else ()),
        *(("--opt", f"macvlan_mode={found.mode}") if found.mode else ()),
    ]
    return quote("docker", "network", "create", "--driver", found.driver, *options, name)


def _ipv4(text: str) -> IPv4Network:
    """A network of Docker's; an IPv6 one is none of ours."""
    parsed = ip_network(text, strict=False)
    return parsed if isinstance(parsed, IPv4Network) else IPv4Network("0.0.0.0/32")
