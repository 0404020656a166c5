"""Read the node's macvlan links. Each link has a parent interface and its own MAC address."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value


@dataclass(frozen=True)
class MacvlanLink(Value):
    """A macvlan link.

    + parent: the parent interface, "" if the parent is in another network namespace
    + mode: "bridge", "private", "vepa", "passthru" or "source"
    + up: whether the link has the flag UP, with or without a carrier
    + addresses: the link's IPv4 addresses, with prefix
    + routes: a dictionary from each route's destination to the route's source address ("" for
      none), such as ``{"192.168.1.60/32": "192.168.1.222"}``
    """

    parent: str
    mode: str
    up: bool
    mac: str
    addresses: tuple[str, ...]
    routes: dict[str, str]
    arp_ignore: int


class MacvlanLinks(NodeFact[dict[str, MacvlanLink]]):
    """The macvlan links in the node's own network namespace, by name.

    Links of containers are in other namespaces, so the value does not have them.

    **Example:** ``{"lb-hairpin": MacvlanLink(parent="eth0", mode="bridge", up=True, ...)}``
    """

    program = "ip"

    @override
    def command(self) -> str:
        return (
            "for what in '-d address show type macvlan' '-4 route show'; do "
            # iproute2 may print nothing for an empty list
            'answer=$(ip -j $what) || exit; echo "${answer:-[]}"; done; '
            # `-s`, because a pod's link may be removed after the shell has listed the link's file
            "grep -s . /proc/sys/net/ipv4/conf/*/arp_ignore; true"
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, MacvlanLink]:
        """Parse the output of `command`.

        The first line is JSON of all links, the second line is JSON of all routes. All other lines
        are ``PATH:VALUE``, one for the setting arp_ignore of each interface.
        """
        if not lines:  # no ``ip``
            return {}
        links, routes = (json.loads(line) for line in lines[:2])
        arp_ignore = {line.split("/")[6]: int(line.rpartition(":")[2]) for line in lines[2:]}
        routes_of: dict[str, dict[str, str]] = {}
        for route in filter(None, routes):
            by_destination = routes_of.setdefault(route.get("dev", ""), {})
            by_destination[_with_prefix(route["dst"])] = route.get("prefsrc", "")
        return {
            link["ifname"]: MacvlanLink(
                # For a parent in another namespace iproute2 prints only a number, link_index
                parent=link.get("link") or "",
                mode=link["linkinfo"]["info_data"]["mode"],
                up="UP" in link["flags"],
                mac=link["address"],
                addresses=ipv4_addresses(link),
                routes=routes_of.get(link["ifname"], {}),
                arp_ignore=arp_ignore.get(link["ifname"], 0),
            )
            for link in links  # iproute2 prints {} for an interface that is no macvlan link
            if link.get("linkinfo", {}).get("info_kind") == "macvlan"
        }


def ipv4_addresses(interface: dict[str, Any]) -> tuple[str, ...]:
    """Return the IPv4 addresses of an interface with their prefixes.

    + interface: one object of ``ip -j address show``
    """
    return tuple(
        f"{address['local']}/{address['prefixlen']}"
        for address in interface["addr_info"]
        if address["family"] == "inet"
    )


def _with_prefix(destination: str) -> str:
    """Return a route's destination with a prefix. iproute2 omits the prefix of a single address."""
    return destination if "/" in destination or destination == "default" else f"{destination}/32"
