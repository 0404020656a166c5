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
    """A network interface. `up` is whether it is up and has a carrier; `master` is the bridge or
    bond that it belongs to, "" for none; `addresses` are IPv4 with prefix."""

    up: bool
    wireless: bool
    master: str
    mac: str
    addresses: tuple[str, ...]
    arp_ignore: int


_INTERFACE = """\
test -e "/sys/class/net/$1" || exit 0
ip -j address show dev "$1" | tr -d '\\n' && echo
if test -e "/sys/class/net/$1/wireless" || test -e "/sys/class/net/$1/phy80211"
then echo wireless; else echo wired; fi
cat "/proc/sys/net/ipv4/conf/$1/arp_ignore"
"""


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
        return StringCommand("sh -c", QuoteString(_INTERFACE), "sh", QuoteString(interface))

    @staticmethod
    @override
    def default() -> None:
        return None

    @override
    def parse(self, lines: list[str]) -> InterfaceState | None:
        return parse_interface(lines)


def parse_interface(lines: list[str]) -> InterfaceState:
    """Read a line of JSON, ``wireless`` or ``wired``, and arp_ignore."""
    (found,) = (one for one in json.loads(lines[0]) if one)
    return InterfaceState(
        up={"UP", "LOWER_UP"} <= {*found["flags"]},
        wireless=lines[1] == "wireless",
        master=found.get("master", ""),
        mac=found.get("address", ""),
        addresses=ipv4_addresses([found], found["ifname"]),
        arp_ignore=int(lines[2]),
    )


# docker.socket would start a stopped Docker for whoever asks: a read must not. What the kernel
# remembers is dropped before each question, but for what an administrator has put there.
_OWNER = """\
if [ -n "$2" ] && systemctl is-active --quiet docker.service && [ "$(timeout 10 \\
  docker container inspect --format '{{.State.Running}}' -- "$2" 2>/dev/null)" = true ]
then exit; fi
link=$(ip -o -4 route get "$1" 2>/dev/null |
  sed -n '/^local \\|^broadcast \\| via /!s/.* dev \\([^ ]*\\) .*/\\1/p')
[ -n "$link" ] || exit 0
for question in 1 2 3; do
  ip -4 neighbour flush to "$1" dev "$link" >/dev/null 2>&1
  timeout 1 bash -c 'echo > "/dev/udp/$1/9"' bash "$1" 2>/dev/null
  for look in 1 2 3 4 5 6; do
    mac=$(ip -4 neighbour show to "$1" dev "$link" | sed -n 's/.* *lladdr \\([^ ]*\\).*/\\1/p')
    if [ -n "$mac" ]; then echo "$mac"; exit; fi
    sleep 0.05
  done
done; exit 0
"""


class AddressOwner(NodeFact[str]):
    """The MAC address of the machine that has an IPv4 address on the node's LAN, "" if none
    answers within a second, the node itself has it, or it is not on the LAN.

    + address: the IPv4 address
    + unless_container: name of a container; while it runs on this node nobody is asked

    Without ``arping``, which Ubuntu Server does not bring: a datagram to the address has the kernel
    ask for its owner (arp(7)), three times.

    **Example:** ``host.get_fact(AddressOwner, address="192.168.1.60", unless_container="proxy")``
    """

    @override
    def requires_command(self, address: str, unless_container: str = "") -> str:
        return "ip"

    @override
    def command(self, address: str, unless_container: str = "") -> StringCommand:
        return StringCommand(
            "sh -c",
            QuoteString(_OWNER),
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
