"""Check the inventory's groups, and tell which hosts are proxies.

All nodes must be in ``workers``. One or several of them are in ``proxy``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from chaos_engine.deploys.settings import PREFIX, SettingsError
from chaos_engine.deploys.site import EndpointSettings, ipv4, node_address, node_name
from chaos_engine.deploys.summary import summarized
from chaos_engine.facts.observe import current

WORKERS = "workers"
GROUP = "proxy"
ONE_FOR_PROXIES = (
    "chaos_vrrp_id",
    "chaos_vrrp_interval",
    "chaos_vip_mac",
    "chaos_lan_subnet",
    "chaos_lan_gateway",
)
"""Settings that must be the same on all proxies."""


@dataclass(frozen=True)
class ProxyNode:
    """A host of the inventory's group ``proxy``.

    + host: the host's name in the inventory
    + name: the node's name in the cluster
    + address: the node's own address, from chaos_nodes
    + hairpin: the address of the link through which the node reaches its own HAProxy container
    """

    host: str
    name: str
    address: IPv4Address
    hairpin: IPv4Address


@summarized
def check_groups() -> None:
    """Check the current host's groups, and the settings that must be the same on all hosts.

    Raises `SettingsError` if:

    + the host is neither in ``workers`` nor in ``proxy``
    + the host is in ``proxy`` but not in ``workers``, so it would not get the settings of the group
      ``workers``
    + hosts have different settings for the address, name or port of the API
    """
    host = current()[1]
    if WORKERS not in host.groups:
        if GROUP in host.groups:
            raise SettingsError(no_worker(host.name))
        raise SettingsError(
            f"{host.name}: not in the inventory's group {WORKERS}, only in "
            f"{', '.join(host.groups) or 'all'}; add the host to {WORKERS} in inventory.py, or "
            f"exclude it with --exclude {host.name}"
        )
    workers = [other for other in host.inventory if WORKERS in other.groups]
    for name, field in EndpointSettings.model_fields.items():
        key = f"{PREFIX}{name}"
        values = {other.name: other.data.get(key, field.default) for other in workers}
        if problem := disagreement(key, {name: v for name, v in values.items() if v is not None}):
            raise SettingsError(problem)


def no_worker(name: str) -> str:
    """Return the error for a host that is in the group ``proxy``, but not in ``workers``."""
    return (
        f"{name}: in the inventory's group {GROUP}, but not in {WORKERS}, so the host would not "
        f"get the settings in group_data/{WORKERS}.py; add the host to {WORKERS} in inventory.py "
        "too"
    )


def disagreement(
    key: str, values: Mapping[str, object], why: str = "all nodes use the same API", file: str = ""
) -> str:
    """Return an error if hosts have different values of a setting, "" otherwise.

    This is a pure function.

    + key: the setting's key, such as "chaos_vip"
    + values: the setting's value by host name
    + why: the reason why the values have to be equal
    + file: the name of the file in which to set the value; "" for all.py
    """
    first: dict[str, str] = {}
    for name, value in values.items():
        first.setdefault(str(value), name)
    if len(first) < 2:
        return ""
    found = ", ".join(f"{value} for {name}" for value, name in first.items())
    return (
        f"{key}: the value is {found}, but {why}; set {key} once, in group_data/{file or 'all.py'}"
    )


def check_proxy_group() -> None:
    """Raise `SettingsError` if the current host is not in the inventory's group ``proxy``."""
    host = current()[1]
    problem = proxy_problem(host.name, [one.name for one in _members(host)])
    if problem:
        raise SettingsError(problem)


def proxy_problem(name: str, members: Sequence[str]) -> str:
    """Return the reason why a host cannot be a proxy, "" if it can. This is a pure function.

    + name: the host's name in the inventory
    + members: the names of the hosts in the group ``proxy``
    """
    if name in members:
        return ""
    others = f", which has only {', '.join(members)}" if members else ""
    return (
        f"{name}: not in the inventory's group {GROUP}{others}; exclude this host with --limit "
        f"{GROUP}, or make it a proxy in inventory.py"
    )


def several_proxies() -> bool:
    """Tell whether the inventory has several proxies. Hosts that are not in the run count too."""
    return len(_members(current()[1])) > 1


def other_proxies(nodes: Mapping[str, IPv4Address]) -> tuple[IPv4Address, ...]:
    """Return the addresses of the other proxies if the current host is one of several proxies.

    + nodes: address of each node by its name in the cluster. A proxy without an address in `nodes`
      is left out

    Returns () if the current host is no proxy, or the only one.
    """
    host = current()[1]
    members = _members(host)
    if host.name not in [one.name for one in members]:
        return ()
    addresses = [
        node_address(one.name, one.data.get("ssh_hostname"), nodes)
        for one in members
        if one.name != host.name
    ]
    return tuple(address for address in addresses if address)


def proxies(nodes: Mapping[str, IPv4Address], subnet: IPv4Network) -> tuple[ProxyNode, ...]:
    """Return all proxies in the order of the inventory, () if there is only one.

    + nodes: address of each node by its name in the cluster
    + subnet: the subnet of the nodes' LAN

    Proxies that are not in the run are returned too, with their data from the inventory. Raises
    one `SettingsError` with all mistakes in the settings of the proxies.
    """
    members = _members(current()[1])
    if len(members) < 2:
        return ()
    mistakes = [no_worker(one.name) for one in members if WORKERS not in one.groups]
    for key in ONE_FOR_PROXIES:
        values = {one.name: _lowered(one.data.get(key)) for one in members}
        mistakes.append(disagreement(key, values, "all proxies need the same value", f"{GROUP}.py"))
    found: list[ProxyNode] = []
    for one in members:
        given = one.data.get("chaos_hairpin_address")
        hairpin = ipv4(given)
        name = node_name(one.name, one.data.get("ssh_hostname"), nodes)
        address = nodes.get(name)
        if address is None:
            mistakes.append(
                f"{one.name}: chaos_nodes lacks the address of this host, but the other proxies "
                "need the address; add it in group_data/all.py"
            )
        if hairpin is None:
            mistakes.append(
                f"{one.name}: chaos_hairpin_address is "
                f"{'not set' if given is None else f'{given!r}, which is no IPv4 address'}; give "
                f"each proxy its own: {_example(one.name)}"
            )
        if address and hairpin:
            found.append(ProxyNode(one.name, name, address, hairpin))
    mistakes += proxies_problems(found, subnet)
    if mistakes := [mistake for mistake in mistakes if mistake]:
        raise SettingsError(*mistakes)
    return tuple(found)


def proxies_problems(found: Sequence[ProxyNode], subnet: IPv4Network) -> list[str]:
    """Return the mistakes in the proxies' addresses. This is a pure function.

    A mistake is an address outside the LAN, or an address that two proxies have. Hairpin addresses
    have to differ in their last two numbers, because the link-local addresses of the containers are
    made of these.

    + found: the proxies
    + subnet: the subnet of the nodes' LAN
    """
    problems = [
        f"{one.host}: its address {one.address} in chaos_nodes is not in chaos_lan_subnet "
        f"{subnet}; all proxies have to be in that subnet, because they share the API's address"
        for one in found
        if one.address not in subnet
    ]
    first: dict[bytes, ProxyNode] = {}
    nodes: dict[IPv4Address, str] = {}
    for one in found:
        earlier = first.setdefault(one.hairpin.packed[2:], one)
        if earlier is not one and earlier.hairpin == one.hairpin:
            problems.append(
                f"chaos_hairpin_address: {earlier.host} and {one.host} have the same address "
                f"{one.hairpin}; give each proxy its own: {_example(one.host)}"
            )
        elif earlier is not one:
            problems.append(
                f"chaos_hairpin_address: {earlier.hairpin} of {earlier.host} and {one.hairpin} of "
                f"{one.host} end with the same two numbers; choose another: {_example(one.host)}"
            )
        if other := nodes.get(one.address):
            problems.append(
                f"{other} and {one.host} are the same node {one.name} of chaos_nodes; list it only "
                f"once in the group {GROUP} of inventory.py"
            )
        nodes.setdefault(one.address, one.host)
    return problems


def _example(host: str) -> str:
    """Return a text that tells the user how to give a proxy its own hairpin address."""
    return (
        f'in inventory.py, write ("{host}", {{"chaos_hairpin_address": "ADDRESS"}}) in the group '
        f"{GROUP}, with a free address for ADDRESS"
    )


def _members(host: Any) -> list[Any]:
    """Return the hosts of the inventory's group ``proxy``."""
    return list(host.inventory.groups.get(GROUP, []))


def _lowered(value: object) -> object:
    """Convert a setting's value, so that values with the same meaning become equal.

    Text becomes lower case, and ``None`` becomes "not set". Other values do not change.
    """
    if value is None:
        return "not set"
    return value.lower() if isinstance(value, str) else value
