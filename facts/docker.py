"""Read how Docker runs on the node, and its networks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from chaos_engine.facts.health import Check, limited
from chaos_engine.facts.observe import NodeFact, Value

RUNNING = "systemctl is-active --quiet docker.service"
"""A shell command that succeeds if Docker runs. Facts ask this before they call ``docker``, because
docker.socket would start Docker for that call, and a read must not start it."""


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
    """What ``docker info`` prints, or ``None`` if Docker is not installed or does not run.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.docker.DockerInfo``
    """

    program = "docker"

    @override
    def command(self) -> str:
        fields = ",".join(f"{{{{json .{name}}}}}" for name in _FIELDS)
        return f"{RUNNING} && timeout 10 docker info --format '[{fields}]' 2>/dev/null; true"

    @override
    def parse(self, lines: list[str]) -> Engine | None:
        """Read a JSON list of the values of `_FIELDS`.

        Without a daemon, the client prints no list, or one with empty values.
        """
        values = [json.loads(line) for line in lines if line.startswith("[")]
        if not values or not values[0][0]:
            return None
        return Engine(*values[0])


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
    def command(self) -> str:
        # The status of network inspect is ignored: a network may be removed after it was listed
        return (
            f"if {RUNNING} && "
            "ids=$(timeout 6 docker network ls --quiet --no-trunc 2>/dev/null); then "
            "timeout 6 docker network inspect --format '{{json .}}' $ids 2>/dev/null; "
            "timeout 6 docker ps --all --no-trunc --format '[{{json .Names}},{{json .Networks}}]'; "
            "else echo null; fi"
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, DockerNetwork] | None:
        """Read JSON: an object for each network and a list for each container.

        The list is ``["CONTAINER","NETWORK,NETWORK"]``. If Docker does not answer, there is only
        ``null``.
        """
        found = [json.loads(line) for line in lines if line]
        if None in found:
            return None
        networks = {one["Name"]: _network(one) for one in found if isinstance(one, dict)}
        for container, names in (one for one in found if isinstance(one, list)):
            for name in names.split(","):
                if name in networks:  # its running containers have been added already
                    networks[name].containers.setdefault(container, "")
        return networks


def _network(found: dict[str, Any]) -> DockerNetwork:
    """Return the network that an object of ``docker network inspect`` describes."""
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
