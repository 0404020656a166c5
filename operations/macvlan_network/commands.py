"""Describe Docker's macvlan network. Find its faults, and what prevents its creation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network

from chaos_engine.facts.docker import DockerNetwork
from chaos_engine.facts.network import InterfaceState
from chaos_engine.facts.text import setting
from chaos_engine.operations.compatibility import major
from chaos_engine.operations.engine.arguments import DockerName, LinkName
from chaos_engine.operations.engine.shell import quote

CONTAINER = "lb-haproxy"
SERVICE = "docker_haproxy.service"


@dataclass(frozen=True)
class Macvlan:
    """The wanted state of Docker's macvlan network.

    + name: the network's name
    + parent: the network interface that the network is on
    + subnet: the LAN's subnet
    + gateway: the address of the LAN's router
    + vip: the only address that Docker may give to a container
    + hairpin: the address of the node's own link to the network. Docker must not give it to a
      container
    """

    name: DockerName
    parent: LinkName
    subnet: IPv4Network
    gateway: IPv4Address
    vip: IPv4Address
    hairpin: IPv4Address

    @property
    def create(self) -> str:
        """Return the shell command that creates the network."""
        return quote(
            *("docker", "network", "create", "--driver", "macvlan"),
            *("--subnet", str(self.subnet), "--gateway", str(self.gateway)),
            # Without a range, Docker would give a container any address of the LAN
            *("--ip-range", f"{self.vip}/32", "--aux-address", f"hairpin={self.hairpin}"),
            *("--opt", f"parent={self.parent}", "--opt", "macvlan_mode=bridge", self.name),
        )


def parent_problem(wanted: Macvlan, parent: InterfaceState | None) -> str:
    """Return why the parent interface cannot carry macvlan links, and what to do.

    + parent: the state of the parent interface, ``None`` if the interface does not exist

    Returns "" if the interface has no problem. Docker does not check the parent interface. Docker
    even creates a missing interface if its name looks like a VLAN's, such as ``eth0.5``. This is a
    pure function.
    """
    name, key = wanted.parent, setting("parent_interface")
    if parent is None:
        return f"{name}: there is no such network interface; set {key} to the LAN's interface"
    if parent.wireless:
        return (
            f"{name} is wireless: access points drop the frames of a second MAC address; connect "
            f"the node by cable and set {key} to the wired interface"
        )
    if parent.master:
        return (
            f"{name} is a port of {parent.master}, so a macvlan link on {name} gets no frames; set "
            f"{key} to {parent.master}"
        )
    if not parent.up:
        return (
            f"{name} is down, or has no cable; connect the cable and bring {name} up, or set "
            f"{key} to the LAN's interface"
        )
    if not any(IPv4Interface(address).ip in wanted.subnet for address in parent.addresses):
        found = f"only {', '.join(parent.addresses)}" if parent.addresses else "nor any other"
        return (
            f"{name} has no address in {setting('lan_subnet')} {wanted.subnet}, {found}; set "
            f"{key} to the LAN's interface"
        )
    for key, address in (("vip", wanted.vip), ("hairpin_address", wanted.hairpin)):
        if any(IPv4Interface(own).ip == address for own in parent.addresses):
            return (
                f"{setting(key)}: {address} is the node's own address on {name}; choose a free "
                "address"
            )
    return ""


def network_conflict(wanted: Macvlan, others: Mapping[str, DockerNetwork], version: str) -> str:
    """Return why another Docker network prevents the wanted network's creation, and what to do.

    + others: Docker's other networks by name
    + version: Docker's version, "" if unknown

    Returns "" if no other network prevents the creation. This is a pure function.
    """
    for name, other in others.items():
        if other.config_only:
            continue
        shared = other.driver == "macvlan" and other.parent == wanted.parent
        way_out = f"if nothing needs {name}, remove it: docker network rm {name}"
        if shared:
            way_out = f"set {setting('macvlan_network')} to {name}, or, {way_out}"
        overlaps = any(wanted.subnet.overlaps(subnet) for subnet in _ipv4(other.subnets))
        if overlaps and other.pool == "local default":
            return (
                f"the Docker network {name} has addresses of {setting('lan_subnet')} "
                f"{wanted.subnet}, and Docker lets no other network use them; {way_out}"
            )
        # Since Docker 28, an interface may have several: https://github.com/moby/moby/pull/47318
        if shared and (major(version) or 0) < 28:
            return (
                f"the Docker network {name} is on {wanted.parent}, and Docker "
                f"{version or 'before 28'} allows one macvlan network on an interface; {way_out}"
            )
    return ""


def differences(wanted: Macvlan, found: DockerNetwork) -> list[str]:
    """Return a list of texts that say how a network differs from the wanted network.

    IPv6 is ignored. A network without an address range for containers is accepted. This is a pure
    function.
    """
    differs = []
    if found.driver != "macvlan":
        differs.append(f"the driver {found.driver}")
    if found.parent != wanted.parent:
        differs.append(f"the parent {found.parent or 'none'}")
    if found.driver == "macvlan" and found.mode != "bridge":
        differs.append(f"the mode {found.mode}")
    if _ipv4(found.subnets) != [wanted.subnet]:
        differs.append(f"the subnet {', '.join(found.subnets) or 'none'}")
    if _ipv4(found.gateways) != [IPv4Network(wanted.gateway)]:
        differs.append(f"the gateway {', '.join(found.gateways) or 'none'}")
    ranges = _ipv4(found.ip_ranges)
    if ranges and not any(wanted.vip in one for one in ranges):
        differs.append(f"the range {', '.join(found.ip_ranges)} without {wanted.vip}")
    return differs


def _ipv4(networks: Iterable[str]) -> list[IPv4Network]:
    """Parse networks, and return only the IPv4 networks. A single address counts as a network."""
    parsed = (ip_network(text, strict=False) for text in networks)
    return [one for one in parsed if isinstance(one, IPv4Network)]
