"""Read how Docker runs on the node, and its networks."""

from __future__ import annotations

import json
from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.docker_networks import DockerNetwork, parse_networks
from chaos_engine.facts.health import Check, limited
from chaos_engine.facts.observe import NodeFact, Value


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
    """What ``docker info`` says, or ``None`` if Docker is not installed or does not run.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.docker.DockerInfo``
    """

    @override
    def requires_command(self) -> str:
        return "docker"

    @override
    def command(self) -> str:
        fields = ",".join(f"{{{{json .{name}}}}}" for name in _FIELDS)
        # A read must not start Docker, and docker.socket starts it for any client
        return (
            "systemctl is-active --quiet docker.service && "
            f"timeout 10 docker info --format '[{fields}]' 2>/dev/null; true"
        )

    @staticmethod
    @override
    def default() -> None:
        return None

    @override
    def parse(self, lines: list[str]) -> Engine | None:
        return parse_info(lines)


def parse_info(lines: list[str]) -> Engine | None:
    """Read the JSON list of `DockerInfo`; ``None`` if there is none, or if its fields are empty, as
    a client prints them without a daemon."""
    values = [json.loads(line) for line in lines if line.startswith("[")]
    if not values or not values[0][0]:
        return None
    return Engine(*values[0])


class DockerNetworks(NodeFact["dict[str, DockerNetwork] | None"]):
    """Docker's networks by name: {} if Docker is not installed, ``None`` if it is installed but
    does not answer, so that its networks are unknown.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.docker.DockerNetworks``
    """

    @override
    def requires_command(self) -> str:
        return "docker"

    @override
    def command(self) -> str:
        # A read must not start Docker, and docker.socket starts it for any client. The status of
        # network inspect is ignored, because a network may be removed after it was listed.
        return (
            "if systemctl is-active --quiet docker.service && "
            "ids=$(timeout 6 docker network ls --quiet --no-trunc 2>/dev/null); then "
            "timeout 6 docker network inspect --format '{{json .}}' $ids 2>/dev/null; "
            "timeout 6 docker ps --all --no-trunc --format '[{{json .Names}},{{json .Networks}}]'; "
            "else echo null; fi"
        )

    @staticmethod
    @override
    def default() -> dict[str, DockerNetwork] | None:
        return {}

    @override
    def parse(self, lines: list[str]) -> dict[str, DockerNetwork] | None:
        return parse_networks(lines)


DOCKER_ANSWERS = Check(
    "docker",
    # docker.socket would start a stopped Docker
    limited("systemctl is-active --quiet docker && docker info"),
    "Docker does not answer; look at: journalctl -u docker",
)
