"""Network interfaces of the node, and who has an address on its LAN."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.macvlan import ipv4_addresses
from chaos_engine.facts.observe import NodeFact, Value


@dataclass(frozen=True)
class InterfaceState(Value):
    """A network interface. `master` is the bridge or bond that it belongs to, "" for none;
    `addresses` are IPv4 with prefix."""

    up: bool
    wireless: bool
    master: str
    mac: str
    addresses: tuple[str, ...]
    arp_ignore: int


class Interface(NodeFact["InterfaceState | None"]):
    """A network interface of the node, ``None`` if there is none of that name.

    + interface: its name, as ``eth0``

    **Example:** ``host.get_fact(Interface, interface="eth0")``
    """

    @override
    def requires_command(self, interface: str) -> str:
        return "ip"

    @override
    def command(self, interface: str) -> StringCommand:
        quoted, folder = QuoteString(interface), QuoteString(f"/sys/class/net/{interface}")
        return StringCommand(
            "echo",
            quoted,
            "; if test -e",
            folder,
            "; then ip -j address show dev",
            quoted,
            "| tr -d '\\n'; echo; if test -e",
            QuoteString(f"/sys/class/net/{interface}/wireless"),
            "-o -e",
            QuoteString(f"/sys/class/net/{interface}/phy80211"),
            "; then echo wireless; else echo wired; fi; cat",
            QuoteString(f"/proc/sys/net/ipv4/conf/{interface}/arp_ignore"),
            "; fi",
        )

    @staticmethod
    @override
    def default() -> None:
        return None

    @override
    def parse(self, lines: list[str]) -> InterfaceState | None:
        return parse_interface(lines)


def parse_interface(lines: list[str]) -> InterfaceState | None:
    """Read the name, and if there is such an interface: JSON, ``wireless`` or ``wired``, and its
    arp_ignore, a line each."""
    name, *found = lines
    if not found:
        return None
    interfaces = [one for one in json.loads(found[0]) if one.get("ifname") == name]
    return InterfaceState(
        up="UP" in interfaces[0]["flags"],
        wireless=found[1] == "wireless",
        master=interfaces[0].get("master", ""),
        mac=interfaces[0].get("address", ""),
        addresses=ipv4_addresses(interfaces, name),
        arp_ignore=int(found[2]),
    )


class AddressOwner(NodeFact[str]):
    """The MAC address of the machine that has an IPv4 address on the node's LAN, "" if none
    answers within a second, or the node itself has it.

    + address: the IPv4 address
    + unless_container: name of a container; while it runs on this node nobody is asked

    Without ``arping``, which Ubuntu Server does not bring: a datagram to the address has the kernel
    ask for it (``man 7 arp``), and what it knows from before is dropped first.

    **Example:** ``host.get_fact(AddressOwner, address="192.168.1.60", unless_container="proxy")``
    """

    @override
    def requires_command(self, address: str, unless_container: str) -> str:
        return "ip"

    @override
    def command(self, address: str, unless_container: str) -> StringCommand:
        script = (
            # a container is not asked for through docker.socket, which would start Docker
            'if systemctl is-active --quiet docker.service && test "$(timeout 10 docker container '
            'inspect --format \'{{.State.Running}}\' -- "$2" 2>/dev/null)" = true; then exit; fi\n'
            'test -z "$(ip -o -4 address show to "$1")" || exit 0\n'
            'dev=$(ip -o -4 route get "$1" 2>/dev/null | sed -n "s/.* dev \\([^ ]*\\).*/\\1/p")\n'
            'ip neighbour del "$1" dev "$dev" 2>/dev/null\n'
            "for try in 1 2 3 4 5 6 7 8 9 10; do\n"
            '  timeout 1 bash -c "echo >/dev/udp/$1/9" 2>/dev/null\n'
            '  mac=$(ip -4 neighbour show to "$1" | sed -n "s/.* lladdr \\([^ ]*\\).*/\\1/p")\n'
            '  if test -n "$mac"; then echo "$mac"; exit; fi\n'
            "  sleep 0.1\n"
            "done; exit 0"
        )
        return StringCommand(
            "sh -c",
            QuoteString(script),
            "sh",
            QuoteString(address),
            QuoteString(unless_container),
        )

    @staticmethod
    @override
    def default() -> str:
        return ""

    @override
    def parse(self, lines: list[str]) -> str:
        return lines[0]
