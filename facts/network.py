"""Read the node's network interfaces, and which machine on the LAN has a given IPv4 address."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.docker import DOCKER_GET, path_of
from chaos_engine.facts.macvlan import ipv4_addresses
from chaos_engine.facts.observe import NodeFact, SeveralFact, Value


@dataclass(frozen=True)
class InterfaceState(Value):
    """The state of a network interface.

    + up: whether the interface is up and has a carrier
    + master: the bridge or bond that the interface belongs to, "" for none
    + mac: MAC address
    + addresses: IPv4 addresses with prefix length, such as "192.168.1.50/24"
    + arp_ignore: the kernel's setting ``net.ipv4.conf.NAME.arp_ignore``
    """

    up: bool
    wireless: bool
    master: str
    mac: str
    addresses: tuple[str, ...]
    arp_ignore: int


_INTERFACE = """\
test -e "/sys/class/net/$1" || exit 0
if test -e "/sys/class/net/$1/wireless" || test -e "/sys/class/net/$1/phy80211"
then echo wireless; else echo wired; fi
cat "/proc/sys/net/ipv4/conf/$1/arp_ignore"
ip -j address show dev "$1"
"""


class Interface(NodeFact["InterfaceState | None"]):
    """The state of a network interface of the node, ``None`` if the node has no such interface.

    + interface: the interface's name, such as ``eth0``

    **Example:** ``host.get_fact(Interface, interface="eth0")``
    """

    program = "ip"

    @override
    def command(self, interface: str) -> StringCommand:
        return StringCommand("set --", QuoteString(interface), f"\n{_INTERFACE}")

    @override
    def parse(self, lines: list[str]) -> InterfaceState | None:
        """Parse the output of `command`.

        The first line is ``wireless`` or ``wired``, the second line is the value of arp_ignore. The
        rest is JSON of ``ip``.
        """
        if not lines:
            return None
        medium, arp_ignore, *rest = lines
        (found,) = (one for one in json.loads("".join(rest)) if one)
        return InterfaceState(
            up={"UP", "LOWER_UP"} <= {*found["flags"]},
            wireless=medium == "wireless",
            master=found.get("master", ""),
            mac=found.get("address", ""),
            addresses=ipv4_addresses(found),
            arp_ignore=int(arp_ignore),
        )


# Before each ARP request, the script removes the address from the kernel's neighbour table. An
# entry that an administrator has added stays in the table
_OWNERS = """\
container="" state=""
runs() { # CONTAINER: whether it runs. Several addresses of one container take one question
  [ "$1" = "$container" ] || { container=$1; state=$(docker_get State "$1"); }
  case $state in *'"Running":true'*) ;; *) false ;; esac
}
ask() {
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
while [ $# -gt 0 ]; do
  if ! runs "$2"; then ask "$1" & fi
  shift 2
done
wait
"""


class AddressOwners(SeveralFact[str]):
    """The MAC addresses of the machines on the node's LAN that have the given IPv4 addresses.

    The value is a dictionary from IPv4 address to MAC address. An IPv4 address is missing if no
    machine answers for that address within about a second, if the node itself has the address, or
    if the address is not on the LAN.

    + addresses: pairs of an IPv4 address and the name of a container, "" for no container. The fact
      skips an address while its container runs on this node

    To find the owner of an address, the fact sends up to three datagrams to the address. A datagram
    makes the kernel send ARP requests for the address (arp(7)). The fact does not use ``arping``,
    because Ubuntu Server does not have ``arping``.

    **Example:** ``host.get_fact(AddressOwners, addresses=(("192.168.1.60", "lb-haproxy"),))``
    """

    argument = "addresses"
    of_others = True
    program = "ip"

    @override
    def command(self, addresses: tuple[tuple[str, str], ...]) -> StringCommand:
        words = (
            QuoteString(word)
            for address, container in addresses
            for word in (address, container and path_of("containers", container))
        )
        return StringCommand("set --", *words, f"\n{DOCKER_GET}{_OWNERS}")

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return dict(line.split() for line in lines)
