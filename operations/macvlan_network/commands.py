"""Describe Docker's macvlan network, and say what is wrong with it or keeps it from being made."""

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
    """Docker's macvlan network as it shall be.

    + name: its name
    + parent: the network interface that it is on
    + subnet: the LAN's
    + gateway: the LAN's router
    + vip: the one address that Docker may give to a container
    + hairpin: the address of the hairpin link, which Docker must not give to a container
    """

    name: DockerName
    parent: LinkName
    subnet: IPv4Network
    gateway: IPv4Address
    vip: IPv4Address
    hairpin: IPv4Address

    @property
    def create(self) -> str:
        """Return the shell command that creates it."""
        return quote(
            *("docker", "network", "create", "--driver", "macvlan"),
            *("--subnet", str(self.subnet), "--gateway", str(self.gateway)),
            # Without a range, Docker would give a container any address of the LAN
            *("--ip-range", f"{self.vip}/32", "--aux-address", f"hairpin={self.hairpin}"),
            *("--opt", f"parent={self.parent}", "--opt", "macvlan_mode=bridge", self.name),
        )


def parent_problem(wanted: Macvlan, parent: InterfaceState | None) -> str:
    """Say why the parent interface cannot carry macvlan links; "" if it can: a pure function.

    + parent: the state of this interface, ``None`` if there is none

    Docker does not check the parent. If it is missing and its name looks like a VLAN's, Docker
    creates it.
    """
    name, key = wanted.parent, setting("parent_interface")
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
        return (
            f"{name} is down, or has no cable; connect it and bring it up, or set {key} to the one "
            "on the LAN"
        )
    if not any(IPv4Interface(address).ip in wanted.subnet for address in parent.addresses):
        found = f"only {', '.join(parent.addresses)}" if parent.addresses else "nor any other"
        return (
            f"{name} has no address in {setting('lan_subnet')} {wanted.subnet}, {found}; set "
            f"{key} to the one on the LAN"
        )
    for key, address in (("vip", wanted.vip), ("hairpin_address", wanted.hairpin)):
        if any(IPv4Interface(own).ip == address for own in parent.addresses):
            return (
                f"{setting(key)}: {address} is the node's own address on {name}; choose a free "
                "address"
            )
    return ""


def network_conflict(wanted: Macvlan, others: Mapping[str, DockerNetwork], version: str) -> str:
    """Say which other Docker network keeps this one from being created, and what to do.

    + others: Docker's other networks by name
    + version: Docker's, "" if unknown

    Returns "" if none does. A pure function.
    """
    for name, other in others.items():
        if other.config_only:
            continue
        shared = other.driver == "macvlan" and other.parent == wanted.parent
        way_out = f"if nothing needs it, remove it: docker network rm {name}"
        if shared:
            way_out = f"set {setting('macvlan_network')} to {name}, or, {way_out}"
        overlaps = any(wanted.subnet.overlaps(subnet) for subnet in _ipv4(other.subnets))
        if overlaps and other.pool == "local default":
            return (
                f"the Docker network {name} has addresses of {setting('lan_subnet')} "
                f"{wanted.subnet}, which Docker gives to one network only; {way_out}"
            )
        # https://github.com/moby/moby/pull/47318
        if shared and (major(version) or 0) < 28:
            return (
                f"the Docker network {name} is on {wanted.parent}, which Docker {version} gives to "
                f"one macvlan network only; {way_out}"
            )
    return ""


def differences(wanted: Macvlan, found: DockerNetwork) -> list[str]:
    """Say how the network differs from the wanted one: a pure function.

    A missing address range for containers is no difference, and IPv6 is ignored.
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
    """Return the IPv4 networks among some networks; an address is a network of one address."""
    parsed = (ip_network(text, strict=False) for text in networks)
    return [one for one in parsed if isinstance(one, IPv4Network)]
