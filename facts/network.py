"""Read the node's network interfaces, and which machines have addresses on its LAN."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.macvlan import ipv4_addresses
from chaos_engine.facts.observe import NodeFact, SeveralFact, Value


@dataclass(frozen=True)
class InterfaceState(Value):
    """A network interface.

    + up: whether it is up and has a carrier
    + master: the bridge or bond that it belongs to, "" for none
    + addresses: IPv4 with prefix
    """

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

    + interface: its name, such as ``eth0``

    **Example:** ``host.get_fact(Interface, interface="eth0")``
    """

    program = "ip"

    @override
    def command(self, interface: str) -> StringCommand:
        return StringCommand("sh -c", QuoteString(_INTERFACE), "sh", QuoteString(interface))

    @override
    def parse(self, lines: list[str]) -> InterfaceState | None:
        """Read a line of JSON, ``wireless`` or ``wired``, and arp_ignore."""
        if not lines:
            return None
        (found,) = (one for one in json.loads(lines[0]) if one)
        return InterfaceState(
            up={"UP", "LOWER_UP"} <= {*found["flags"]},
            wireless=lines[1] == "wireless",
            master=found.get("master", ""),
            mac=found.get("address", ""),
            addresses=ipv4_addresses(found),
            arp_ignore=int(lines[2]),
        )


# systemd is asked whether Docker runs: docker.socket would start Docker for any client, and a read
# must not start it. Before each question to the LAN, the address is removed from the kernel's table
# of neighbours, unless an administrator has set it there
_OWNERS = """\
ask() {
  if [ -n "$2" ] && systemctl is-active --quiet docker.service && [ "$(timeout 10 \\
    docker container inspect --format '{{.State.Running}}' -- "$2" 2>/dev/null)" = true ]
  then return; fi
  link=$(ip -o -4 route get "$1" 2>/dev/null |
    sed -n '/^local \\|^broadcast \\| via /!s/.* dev \\([^ ]*\\) .*/\\1/p')
  [ -n "$link" ] || return
  for _ in 1 2 3; do
    ip -4 neighbour flush to "$1" dev "$link" >/dev/null 2>&1
    timeout 1 bash -c 'echo > "/dev/udp/$1/9"' bash "$1" 2>/dev/null
    for _ in 1 2 3 4 5 6; do
      mac=$(ip -4 neighbour show to "$1" dev "$link" | sed -n 's/.* *lladdr \\([^ ]*\\).*/\\1/p')
      if [ -n "$mac" ]; then echo "$1 $mac"; return; fi
      sleep 0.05
    done
  done
}
while [ $# -gt 0 ]; do ask "$1" "$2" & shift 2; done
wait
"""


class AddressOwners(SeveralFact[str]):
    """The MAC address of the machine that has each IPv4 address on the node's LAN, by IPv4 address.

    An IPv4 address is missing if no machine answers for it within a second, if the node itself has
    it, or if it is not on the LAN.

    + addresses: tuples of an IPv4 address and a container's name, "" for none. While that container
      runs on this node, the address is not looked up

    A datagram to the address makes the kernel ask the LAN for its owner (arp(7)). Up to three
    datagrams are sent. Ubuntu Server has no ``arping``.

    **Example:** ``host.get_fact(AddressOwners, addresses=(("192.168.1.60", "lb-haproxy"),))``
    """

    argument = "addresses"
    of_others = True
    program = "ip"

    @override
    def command(self, addresses: tuple[tuple[str, str], ...]) -> StringCommand:
        words = (QuoteString(word) for pair in addresses for word in pair)
        return StringCommand("sh -c", QuoteString(_OWNERS), "sh", *words)

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return dict(line.split() for line in lines)
