"""Read which proxy has the Kubernetes API's address, and whether VRRP works on a proxy."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.haproxy import RUN as HAPROXY_RUN
from chaos_engine.facts.health import Check
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.systemd import RECORDS
from chaos_engine.facts.unit_traces import UNITS

VRRP = "haproxy_vrrp.service"
"""The unit that runs keepalived. A proxy has the unit only if there are several proxies."""

ENABLED = f"{UNITS}/multi-user.target.wants/{VRRP}"
"""The link by which systemd starts `VRRP` at boot."""

CONFIG = "/etc/keepalived/chaos-engine.conf"
"""keepalived's configuration. A proxy has the file only if there are several proxies."""

RUN = f"{RECORDS}/vrrp"
"""A folder in RAM with the PID files of keepalived."""

INDEX_SEEN = f"{RUN}/ifindex"
"""A file with the number of the parent interface when keepalived was started."""

LISTEN_SECONDS = 1.5
"""How many seconds a node listens for other VRRP routers. By default, a router sends an advert each
second (RFC 5798, 5.2.7)."""

# Succeeds if the network links of HAProxy's container are set up, and HAProxy answers within a
# second. The file `pid` is written after the links are set up. The comment above _SERVERS in
# facts/haproxy.py explains the numbers
_READY = f"""\
[ -e "/proc/$(cat {HAPROXY_RUN}/pid)/ns/net" ] && perl -e '
alarm 1;
socket($haproxy, 1, 1, 0) && connect($haproxy, pack("Sa108", 1, "{HAPROXY_RUN}/socket/admin.sock"))
  or exit 1;
syswrite($haproxy, "show info\n");
exit !<$haproxy>;
'"""

# The package perl-base lacks Time::HiRes, so `now` returns the uptime
PERL = """\
use strict;
use Socket;
sub now { open(my $file, "<", "/proc/uptime") or exit; (split(" ", <$file>))[0] }
sub of_link {
  open(my $file, "<", "/sys/class/net/$ARGV[0]/$_[0]") or exit;
  chomp(my $text = <$file>);
  $text
}
sub ready {
  my ($set, $left) = ("", shift);
  vec($set, fileno($_), 1) = 1 for @_;
  select($set, undef, undef, $left > 0 ? $left : 0) > 0 or return;
  grep vec($set, fileno($_), 1), @_
}
"""
"""Perl functions for scripts whose first argument is a network interface. ``ready`` takes a
number of seconds and some sockets, and returns the sockets that have a packet by then."""

# 224.0.0.18 is the multicast group of all VRRP routers. 112 is VRRP's protocol number. 35 is
# IP_ADD_MEMBERSHIP, which takes a struct ip_mreqn (ip(7))
_LISTEN = f"""\
[ -e {ENABLED} ] || perl - "$1" "$2" <<'PERL'
{PERL}
my $all = inet_aton("224.0.0.18");
socket(my $vrrp, AF_INET, SOCK_RAW, 112) or exit;
setsockopt($vrrp, 0, 35, pack("a4a4i", $all, "", of_link("ifindex"))) or exit;
my $end = now() + {LISTEN_SECONDS};
while ((my $left = $end - now()) > 0) {{
  ready($left, $vrrp) or next;
  recv($vrrp, my $packet, 1500, 0);
  my $head = 4 * (unpack("C", $packet) & 15);
  my ($type, $of) = unpack("x${{head}}CC", $packet);
  next unless length($packet) >= $head + 8 && ($type & 15) == 1 && $of == $ARGV[1];
  if (substr($packet, 16, 4) eq $all) {{ print inet_ntoa(substr($packet, 12, 4)), "\\n"; exit }}
}}
PERL
"""

# AF_PACKET is 17, ETH_P_ARP is 0x806, and an address is a struct sockaddr_ll (packet(7)). The
# script sends three ARP requests. Each machine that has the address answers each request once. The
# script prints the median of the three counts of answers. So one lost or repeated frame has no
# effect
_OWNER = f"""\
[ -e {ENABLED} ] || {{ echo alone; exit 0; }}
[ -z "$(ip -o -4 address show dev lo to "$6/32")" ] || echo here
if ( {_READY} ) >/dev/null 2>&1; then echo ready; fi
perl - "$@" <<'PERL'
{PERL}
my (undef, $own, $vip, $number, $seconds) = @ARGV;
my ($index, $mac) = (of_link("ifindex"), pack("H12", of_link("address") =~ tr/://dr));
socket(my $arp, 17, SOCK_DGRAM, unpack("S", pack("n", 0x806))) or exit;
bind($arp, pack("SniSCCa8", 17, 0x806, $index, 0, 0, 0, "")) or exit;
socket(my $vrrp, AF_INET, SOCK_RAW, 112) or exit;
my $ask = pack("nnCCna6a4a6a4", 1, 0x800, 6, 4, 1, $mac, inet_aton($own), "", inet_aton($vip));
my $everybody = pack("SniSCCa8", 17, 0x806, $index, 1, 0, 6, "\\xff" x 6);
my ($began, @answers, %senders) = (now());
while ((my $waited = now() - $began) < $seconds) {{
  if (@answers < 3 && $waited >= 0.2 * @answers) {{
    send($arp, $ask, 0, $everybody);
    push @answers, 0;
  }}
  for my $socket (ready(0.02, $arp, $vrrp)) {{
    recv($socket, my $packet, 1500, 0);
    if ($socket == $arp) {{
      my ($kind, $from, $has) = (unpack("nnCCna6a4", $packet))[4, 5, 6];
      $answers[-1]++ if length($packet) >= 28 && $kind == 2 && $has eq inet_aton($vip)
        && $from ne $mac && @answers;
    }} else {{
      my $head = 4 * (unpack("C", $packet) & 15);
      my ($type, $of) = unpack("x${{head}}CC", $packet);
      $senders{{inet_ntoa(substr($packet, 12, 4))}} = 1
        if length($packet) >= $head + 8 && $type == 0x31 && $of == $number;
    }}
  }}
}}
print "others ", (sort {{ $a <=> $b }} @answers)[1], "\\n";
print "advert $_\\n" for sort keys %senders;
PERL
"""


# The script sends each peer an ICMP echo request and a VRRP packet. If no program receives VRRP on
# the peer, its kernel answers with ICMP's "protocol unreachable" (type 3, code 2). If the peer
# answers only the echo request, a program receives VRRP there. The VRRP packet has the number 0,
# which no router has, so routers ignore it. ICMP's checksum is a sum of 16-bit words (RFC 1071)
_ASK_PEERS = f"""\
peers() {{
  sed -n '/unicast_peer/,/}}/s/^ *\\([0-9][0-9.]*\\)$/\\1/p' {CONFIG} 2>/dev/null |
    while read -r peer; do
      case " $* " in *" $peer "*) ;; *) echo "$peer" ;; esac
    done
}}
peers=$(peers "$@")
[ -z "$peers" ] || perl - "$peers" <<'PERL'
{PERL}
@ARGV = split(" ", $ARGV[0]);
socket(my $icmp, AF_INET, SOCK_RAW, 1) or exit;
socket(my $vrrp, AF_INET, SOCK_RAW, 112) or exit;
my $echo = pack("CCnnn", 8, 0, 0, 0x6368, 1);
my $sum = 0;
$sum += $_ for unpack("n*", $echo);
substr($echo, 2, 2) = pack("n", ~(($sum & 0xffff) + ($sum >> 16)) & 0xffff);
my (%alive, %without);
for my $peer (@ARGV) {{
  my $to = sockaddr_in(0, inet_aton($peer) || next);
  send($icmp, $echo, 0, $to);
  send($vrrp, pack("C8", 0x31), 0, $to);
}}
my $end = now() + 1;
while (@ARGV && (my $left = $end - now()) > 0) {{
  ready($left, $icmp) or next;
  recv($icmp, my $packet, 1500, 0);
  my $from = inet_ntoa(substr($packet, 12, 4));
  my ($type, $code) = unpack("x" . 4 * (unpack("C", $packet) & 15) . "CC", $packet);
  $alive{{$from}} = 1 if $type == 0;
  $without{{$from}} = 1 if $type == 3 && $code == 2;
  last if @ARGV == grep {{ $without{{$_}} }} @ARGV;
}}
print map {{ "$_\\n" }} grep {{ $alive{{$_}} && !$without{{$_}} }} @ARGV;
PERL
"""


class OtherRouter(NodeFact[str]):
    """The address of a VRRP router on the LAN that uses a given number, "" if none is found.

    The fact does not find routers that send to single addresses (unicast). If this package's unit
    `VRRP` is enabled, the node does not listen, and the value is "".

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


class RunningPeers(NodeFact[tuple[str, ...]]):
    """The addresses of this node's peers that still take part in VRRP.

    The peers are the other proxies that the last deploy wrote into keepalived's configuration. The
    value is empty if this node was not one of several proxies. A peer that does not answer at all
    is left out.

    + wanted: addresses of the nodes that stay proxies. The fact does not ask them

    **Example:** ``host.get_fact(RunningPeers, wanted=("192.168.1.56",))``
    """

    @override
    def command(self, wanted: tuple[str, ...]) -> StringCommand:
        return StringCommand("set --", *map(QuoteString, wanted), f"\n{_ASK_PEERS}\ntrue")

    @override
    def parse(self, lines: list[str]) -> tuple[str, ...]:
        return tuple(lines)


@dataclass(frozen=True)
class Ownership(Value):
    """What a proxy knows about the Kubernetes API's address.

    + here: whether this proxy is the owner, according to keepalived
    + ready: whether HAProxy answers on this proxy. If not, this proxy cannot have the address
    + others: how many other machines answer ARP requests for the address, ``None`` if no request
      could be sent
    + senders: addresses of the proxies from which this proxy receives adverts
    """

    here: bool = False
    ready: bool = False
    others: int | None = None
    senders: tuple[str, ...] = ()


class AddressOwner(NodeFact["Ownership | None"]):
    """What a proxy knows about the Kubernetes API's address, ``None`` if there is only one proxy.

    + interface: the network interface of the LAN
    + address: the node's own address on this interface
    + vip: the address of the Kubernetes API
    + number: the address's number (VRRP's virtual router ID)
    + milliseconds: the interval of adverts
    + marker: the address that keepalived adds to ``lo`` on the owner

    The read takes 0.7 s, or one and a half intervals if that is longer. Only `verify` and `report`
    use this fact. `deploy.py` does not read it.

    **Example:** ``host.get_fact(AddressOwner, interface="eth0", address="192.168.1.54", ...)``
    """

    @override
    def command(
        self,
        interface: str,
        address: str,
        vip: str,
        number: int,
        milliseconds: int,
        marker: str,
    ) -> StringCommand:
        seconds = f"{max(0.7, 1.5 * milliseconds / 1000):.2f}"
        words = (interface, address, vip, str(number), seconds, marker)
        # The script calls `exit`, so it runs in a subshell
        return StringCommand("(set --", *map(QuoteString, words), f"\n{_OWNER}); true")

    @override
    def parse(self, lines: list[str]) -> Ownership | None:
        """Read a line ``alone``, or lines ``here``, ``ready``, ``others N`` and ``advert ADDRESS``.

        Each of these lines may be missing. There may be several lines ``advert ADDRESS``.
        """
        if lines[:1] == ["alone"]:
            return None
        words = [line.split() for line in lines]
        others = [int(word[1]) for word in words if word[0] == "others"]
        return Ownership(
            here=["here"] in words,
            ready=["ready"] in words,
            others=others[0] if others else None,
            senders=tuple(word[1] for word in words if word[0] == "advert"),
        )


VRRP_RUNS = Check(
    "vrrp",
    # The check succeeds on a node without the unit, such as a worker or the only proxy
    f"[ ! -e {ENABLED} ] || {{ systemctl is-active --quiet {VRRP} && "
    f'grep -q keepalived "/proc/$(cat {RUN}/vrrp.pid)/comm"; }}',
    "this proxy does not take part in choosing the owner of the Kubernetes API's address; look at: "
    "journalctl -u haproxy_vrrp",
)

CAN_TAKE_OVER = Check(
    "standby",
    f"[ ! -e {ENABLED} ] || {{ {_READY} ; }}",
    "HAProxy does not answer, so this proxy cannot have the Kubernetes API's address; look at: "
    "journalctl -u docker_haproxy",
)
