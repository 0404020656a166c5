"""Read the state of a node's Docker daemon, and Docker's networks."""

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
"""A shell command that succeeds if Docker runs. Facts run it before they ask Docker. Otherwise
docker.socket would start Docker, but a fact must change nothing."""

# This script is in perl, because every Debian and Ubuntu has perl-base. It does not use perl's
# module Socket, because loading this module takes more time than the rest of the script. Paths
# without a version are deprecated, so the script first asks for the version, as `docker` does
# (https://docs.docker.com/reference/api/engine/). It speaks HTTP/1.0, which has no chunked answers
_GET = r"""
sub get { # PATH: return whether the status is 200, and set $headers and $body
  # AF_UNIX and SOCK_STREAM are 1; the address is a struct sockaddr_un (unix(7))
  socket($docker, 1, 1, 0) or exit 1;
  connect($docker, pack("Sa108", 1, "/var/run/docker.sock")) or exit 1;
  syswrite($docker, "GET $_[0] HTTP/1.0\r\n\r\n");
  local $/;
  ($status, $headers, $body) = <$docker> =~ /^HTTP\S+ (\d+)(.*?)\r\n\r\n(.*)/s or exit 1;
  return $status == 200;
}
sub paths { # PATH: return it with the version; for LIST/*, return the path of each entry
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
docker_get() {{ # FIELDS PATH...: print each answer of Docker as a line of JSON
  {RUNNING} && perl -e '{_GET}' "$@"
}}
"""
"""A shell function ``docker_get FIELDS PATH...``. It asks the API on Docker's socket, because the
program ``docker`` takes much more processor time.

+ FIELDS: the fields to print of each answer, separated by commas; "" for all fields
+ PATH: a path of the API, without the version. ``/networks/*`` stands for the paths of all networks

The function prints nothing for a path that does not exist. It fails if Docker does not run, or does
not answer within 10 seconds."""


def path_of(kind: str, name: str) -> str:
    """Return the path of a container or an image in Docker's API.

    + kind: "containers" or "images"
    + name: the name of the container or image

    **Example:** ``path_of("images", "haproxy:3.0") == "/images/haproxy:3.0/json"``
    """
    return f"/{kind}/{quote(name, safe='/:@')}/json"


def docker_get(fields: str, *paths: str, otherwise: str = "true") -> StringCommand:
    """Return a shell command that calls the shell function in `DOCKER_GET`.

    + fields, paths: the arguments FIELDS and PATH of the shell function
    + otherwise: shell command that runs if the shell function fails
    """
    words = (QuoteString(word) for word in (fields, *paths))
    return StringCommand(f"{DOCKER_GET}docker_get", *words, f"|| {otherwise}")


@dataclass(frozen=True)
class Engine(Value):
    """The state of a running Docker daemon.

    + data_root: the folder of Docker's images and containers
    + live_restore: whether containers keep running while the daemon is stopped
    + containers: the number of containers, including stopped ones
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
    """The state of the Docker daemon; ``None`` if Docker is not installed or does not answer.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.docker.DockerInfo``
    """

    program = "docker"

    @override
    def command(self) -> StringCommand:
        return docker_get(",".join(_FIELDS), "/info")

    @override
    def parse(self, lines: list[str]) -> Engine | None:
        """Parse a JSON object with the fields `_FIELDS`. Return ``None`` if `lines` is empty."""
        if not lines:
            return None
        found = json.loads(lines[0])
        return Engine(*(found[name] for name in _FIELDS))


@dataclass(frozen=True)
class DockerNetwork(Value):
    """A Docker network.

    + driver: the network's driver, such as "macvlan" or "bridge"
    + parent: the network's parent interface, "" for none
    + mode: the macvlan mode, "bridge" by default; "" for networks of other drivers
    + subnets, gateways, ip_ranges: IPv4 and IPv6. A range is the part of a subnet from which
      containers get their addresses
    + containers: the IPv4 address of each container, by the container's name; "" for a stopped
      container. Docker cannot start a stopped container again once its network is recreated
    + macs: the MAC address of each running container, by the container's name
    + auxiliary: addresses that Docker never gives to a container, by names that the user has chosen
    + options: the driver's options, including the parent and the mode
    + labels, internal, ipv6: options of ``docker network create``
    + config_only: whether the network is only a configuration for other networks. The addresses of
      such a network are not in use (https://docs.docker.com/reference/cli/docker/network/create/)
    + pool: the network's scope and IPAM driver, such as "local default". If networks have the same
      pool, their subnets must not overlap (libnetwork's ``ipam``, address spaces)
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
    """Docker's networks, by name.

    The value is {} if Docker is not installed. It is ``None`` if Docker is installed but does not
    answer.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.docker.DockerNetworks``
    """

    program = "docker"

    @override
    def command(self) -> StringCommand:
        return docker_get("", "/networks/*", "/containers/json?all=1", otherwise="echo null")

    @override
    def parse(self, lines: list[str]) -> dict[str, DockerNetwork] | None:
        """Parse lines of JSON: one object for each network, then one list of all containers.

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
            # A container also has a name "/OTHER/NAME" if the container OTHER is linked to it
            (name,) = (name[1:] for name in one["Names"] if "/" not in name[1:])
            for network in one["NetworkSettings"]["Networks"]:
                if network in networks:  # _network has added the running containers
                    networks[network].containers.setdefault(name, "")
        return networks


def _network(found: dict[str, Any]) -> DockerNetwork:
    """Convert Docker's description of a network to a `DockerNetwork`."""
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
    # Without `systemctl`, docker.socket would start a stopped Docker for `docker info`
    limited("systemctl is-active --quiet docker && docker info"),
    "Docker does not answer; look at: journalctl -u docker",
)
