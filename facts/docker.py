"""Read how Docker runs on the node, and its networks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.health import Check, limited
from chaos_engine.facts.observe import NodeFact, Value

RUNNING = "systemctl is-active --quiet docker.service"
"""A shell command that succeeds if Docker runs. Facts ask this before they call ``docker``, because
docker.socket would start Docker for that call, and a read must not start it."""

# perl, because every Debian and Ubuntu has perl-base. Its module Socket would take more time than
# all else here. Paths without a version are deprecated, so the version is asked first, as `docker`
# does (https://docs.docker.com/reference/api/engine/). An answer of HTTP/1.0 is not in chunks
_GET = r"""
sub get { # PATH: whether the status is 200; sets $headers and $body
  # AF_UNIX and SOCK_STREAM are 1; the address is a struct sockaddr_un (unix(7))
  socket($docker, 1, 1, 0) or exit 1;
  connect($docker, pack("Sa108", 1, "/var/run/docker.sock")) or exit 1;
  syswrite($docker, "GET $_[0] HTTP/1.0\r\n\r\n");
  local $/;
  ($status, $headers, $body) = <$docker> =~ /^HTTP\S+ (\d+)(.*?)\r\n\r\n(.*)/s or exit 1;
  return $status == 200;
}
sub paths { # PATH: itself, or what its * stands for
  my ($list) = $_[0] =~ m{(.+)/\*$} or return "$base$_[0]";
  get("$base$list") or exit 1;
  return map("$base$list/$_", $body =~ /"Id":"(\w+)"/g);
}
$SIG{ALRM} = sub { exit 1 };
alarm 10;
$characters = qr/(?:[^"\\]++|\\.)*+/;
$nested = qr/(?<nested>[{\[](?:[^][{}"]++|"$characters"|(?&nested))*+[}\]])/;
%wanted = map(($_, 1), split(/,/, shift));
get("/_ping");
$base = $headers =~ /^Api-Version: (\S+)/im ? "/v$1" : exit 1;
for (map(paths($_), @ARGV)) {
  get($_) or next;
  if (%wanted) {
    my @found;
    while ($body =~ /("($characters)":(?:"$characters"|$nested|[^][{}",]++))/g) {
      push(@found, $1) if $wanted{$2};
    }
    $body = "{" . join(",", @found) . "}\n";
  }
  print $body;
}
"""

DOCKER_GET = f"""\
docker_get() {{ # FIELDS PATH...: print the JSON of each of Docker's answers in a line
  {RUNNING} && perl -e '{_GET}' "$@"
}}
"""
"""A shell function ``docker_get``. It asks the API on Docker's socket, because the program
``docker`` takes much more processor time.

+ FIELDS: the fields of each answer that are printed, separated by commas; "" for all
+ PATH: a path of the API without its version. ``/networks/*`` stands for each network

If Docker does not have what a path names, nothing is printed for it. If Docker does not run, or
does not answer within 10 seconds, the function fails."""


def path_of(kind: str, name: str) -> str:
    """Return the path in Docker's API of a thing that has a name.

    **Example:** ``path_of("images", "haproxy:3.0") == "/images/haproxy:3.0/json"``
    """
    return f"/{kind}/{quote(name, safe='/:@')}/json"


def docker_get(fields: str, *paths: str, otherwise: str = "true") -> StringCommand:
    """Return a shell command that calls `DOCKER_GET`.

    + fields, paths: its arguments
    + otherwise: shell command for the case that Docker does not answer
    """
    words = (QuoteString(word) for word in (fields, *paths))
    return StringCommand(f"{DOCKER_GET}docker_get", *words, f"|| {otherwise}")


@dataclass(frozen=True)
class Engine(Value):
    """A Docker daemon that answers.

    + data_root: the folder of its images and containers
    + live_restore: whether containers run on while the daemon is stopped
    + containers: number of containers, running or not
    """

    server_version: str
    cgroup_driver: str
    storage_driver: str
    log_driver: str
    data_root: str
    live_restore: bool
    containers: int


_FIELDS = (
    "ServerVersion",
    "CgroupDriver",
    "Driver",
    "LoggingDriver",
    "DockerRootDir",
    "LiveRestoreEnabled",
    "Containers",
)


class DockerInfo(NodeFact["Engine | None"]):
    """How Docker runs, or ``None`` if it is not installed or does not answer.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.docker.DockerInfo``
    """

    program = "docker"

    @override
    def command(self) -> StringCommand:
        return docker_get(",".join(_FIELDS), "/info")

    @override
    def parse(self, lines: list[str]) -> Engine | None:
        """Read a JSON object with `_FIELDS`."""
        if not lines:
            return None
        found = json.loads(lines[0])
        return Engine(*(found[name] for name in _FIELDS))


@dataclass(frozen=True)
class DockerNetwork(Value):
    """A Docker network.

    + driver: "macvlan", "bridge"
    + parent: its parent interface, "" for none
    + mode: the macvlan mode, "bridge" by default; "" for networks of other drivers
    + subnets, gateways, ip_ranges: IPv4 and IPv6. A range is the part of a subnet from which
      containers get their addresses
    + containers: IPv4 addresses of its containers, by name; "" for a container that does not run.
      Docker cannot start such a container again after the network was recreated
    + macs: MAC addresses of its running containers, by name
    + auxiliary: addresses that Docker gives to no container, by the names that the user gave them
    + options: the driver's options; parent and mode are among them
    + labels, internal, ipv6: options of ``docker network create``
    + config_only: whether it is only a configuration for other networks, so that none of its
      addresses are in use (https://docs.docker.com/reference/cli/docker/network/create/)
    + pool: the address space of its addresses. Networks of the same pool must not overlap. The
      networks of a swarm have a pool of their own, and those of each IPAM driver too (libnetwork's
      ``ipam``, its address spaces)
    """

    driver: str
    parent: str
    mode: str
    subnets: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    ip_ranges: tuple[str, ...] = ()
    containers: dict[str, str] = field(default_factory=dict)
    macs: dict[str, str] = field(default_factory=dict)
    auxiliary: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    internal: bool = False
    ipv6: bool = False
    config_only: bool = False
    pool: str = "local default"


class DockerNetworks(NodeFact["dict[str, DockerNetwork] | None"]):
    """Docker's networks by name; {} if Docker is not installed.

    ``None`` if Docker is installed but does not answer, so that its networks are unknown.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.docker.DockerNetworks``
    """

    program = "docker"

    @override
    def command(self) -> StringCommand:
        return docker_get("", "/networks/*", "/containers/json?all=1", otherwise="echo null")

    @override
    def parse(self, lines: list[str]) -> dict[str, DockerNetwork] | None:
        """Read JSON: an object for each network, and then a list of all containers.

        If Docker does not answer, the last line is ``null``.
        """
        if not lines:  # no Docker
            return {}
        *found, containers = (json.loads(line) for line in lines)
        if containers is None:
            return None
        if not isinstance(containers, list):
            raise ValueError("Docker did not list its containers")
        found.sort(key=lambda one: str(one["Name"]))
        networks = {one["Name"]: _network(one) for one in found}
        for one in containers:
            # A container has other names too, "/OTHER/NAME", if others are linked to it
            (name,) = (name[1:] for name in one["Names"] if "/" not in name[1:])
            for network in one["NetworkSettings"]["Networks"]:
                if network in networks:  # its running containers have been added already
                    networks[network].containers.setdefault(name, "")
        return networks


def _network(found: dict[str, Any]) -> DockerNetwork:
    """Return the network that Docker's API describes."""
    options: dict[str, str] = found.get("Options") or {}
    ipam = found.get("IPAM") or {}
    pools = ipam.get("Config") or []
    running = {one["Name"]: one for one in (found.get("Containers") or {}).values()}

    def each(key: str) -> tuple[str, ...]:
        return tuple(pool[key] for pool in pools if pool.get(key))

    return DockerNetwork(
        driver=found["Driver"],
        parent=options.get("parent", ""),
        # https://docs.docker.com/engine/network/drivers/macvlan/#options
        mode=options.get("macvlan_mode") or ("bridge" if found["Driver"] == "macvlan" else ""),
        subnets=each("Subnet"),
        gateways=each("Gateway"),
        ip_ranges=each("IPRange"),
        containers={
            name: one.get("IPv4Address", "").partition("/")[0] for name, one in running.items()
        },
        macs={name: one.get("MacAddress", "") for name, one in running.items()},
        auxiliary={
            name: address
            for pool in pools
            for name, address in (pool.get("AuxiliaryAddresses") or {}).items()
        },
        options=options,
        labels=found.get("Labels") or {},
        internal=found.get("Internal", False),
        ipv6=found.get("EnableIPv6", False),
        config_only=found.get("ConfigOnly", False),
        pool=f"{found.get('Scope', 'local')} {ipam.get('Driver', 'default')}",
    )


DOCKER_ANSWERS = Check(
    "docker",
    # docker.socket would start a stopped Docker
    limited("systemctl is-active --quiet docker && docker info"),
    "Docker does not answer; look at: journalctl -u docker",
)
