"""Read whether another VRRP router on the LAN uses a number, and whether VRRP works here."""

from __future__ import annotations

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.health import Check
from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.systemd import RECORDS
from chaos_engine.facts.unit_traces import UNITS

VRRP = "haproxy_vrrp.service"
"""The unit that runs keepalived on each of several proxies."""

ENABLED = f"{UNITS}/multi-user.target.wants/{VRRP}"
"""The link by which systemd starts `VRRP` at boot."""

RUN = f"{RECORDS}/vrrp"
"""A folder in RAM with the numbers of keepalived's processes."""

LISTEN_SECONDS = 1.5
"""Seconds to listen for other routers. By default, a router sends an advert each second (RFC 5798,
5.2.7)."""

# 224.0.0.18 is the group of all VRRP routers, 112 is VRRP's protocol number. 35 is
# IP_ADD_MEMBERSHIP, with a struct ip_mreqn (ip(7))
_LISTEN = f"""\
[ -e {ENABLED} ] || perl - "$1" "$2" <<'PERL'
use strict;
use Socket;
my ($link, $number) = @ARGV;
sub now {{ open(my $file, "<", "/proc/uptime") or exit; (split(" ", <$file>))[0] }}
open(my $file, "<", "/sys/class/net/$link/ifindex") or exit;
my $all = inet_aton("224.0.0.18");
socket(my $vrrp, AF_INET, SOCK_RAW, 112) or exit;
setsockopt($vrrp, 0, 35, pack("a4a4i", $all, "", <$file>)) or exit;
my $end = now() + {LISTEN_SECONDS};
while ((my $left = $end - now()) > 0) {{
  my ($ready, $packet) = ("", "");
  vec($ready, fileno($vrrp), 1) = 1;
  next unless select($ready, undef, undef, $left) > 0;
  recv($vrrp, $packet, 1500, 0);
  my $head = 4 * (unpack("C", $packet) & 15);
  my ($type, $of) = unpack("x${{head}}CC", $packet);
  next unless length($packet) >= $head + 8 && ($type & 15) == 1 && $of == $number;
  if (substr($packet, 16, 4) eq $all) {{ print inet_ntoa(substr($packet, 12, 4)), "\\n"; exit }}
}}
PERL
"""


class OtherRouter(NodeFact[str]):
    """The address of a VRRP router on the LAN that uses a number, "" if none is heard.

    Nobody is listened for if this package's unit `VRRP` is enabled. Routers that send to single
    addresses (unicast) are not heard.

    + interface: the network interface of the LAN
    + number: the number (VRRP's virtual router ID), from 1 to 255

    **Example:** ``host.get_fact(OtherRouter, interface="eth0", number=60)``
    """

    @override
    def command(self, interface: str, number: int) -> StringCommand:
        return StringCommand("set --", QuoteString(interface), str(number), f"\n{_LISTEN}\ntrue")

    @override
    def parse(self, lines: list[str]) -> str:
        return "".join(lines[:1])


VRRP_RUNS = Check(
    "vrrp",
    # A node that is not one of several proxies does not have the unit
    f"[ ! -e {ENABLED} ] || {{ systemctl is-active --quiet {VRRP} && "
    f'kill -0 "$(cat {RUN}/vrrp.pid)"; }}',
    "this node does not take part in choosing the owner of the Kubernetes API's address; look at: "
    "journalctl -u haproxy_vrrp",
)
