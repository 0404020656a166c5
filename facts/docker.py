"""Docker as it runs on the node, its networks, and the options that its service gets."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.docker_networks import DockerNetwork, parse_networks
from chaos_engine.facts.observe import NodeFact, Value


@dataclass(frozen=True)
class Engine(Value):
    """A Docker daemon that answers: `containers` is the number of containers, running or not."""

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
        # docker.socket would start a stopped Docker for whoever asks: a read must not
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
    """Read the JSON list of `DockerInfo`; a client whose daemon is down prints empty fields."""
    values = [json.loads(line) for line in lines if line.startswith("[")]
    if not values or not values[0][0]:
        return None
    return Engine(*values[0])


class DockerNetworks(NodeFact["dict[str, DockerNetwork] | None"]):
    """Docker's networks by name; none if Docker is not installed, ``None`` if it is but does not
    run, so that nobody can tell.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.docker.DockerNetworks``
    """

    @override
    def requires_command(self) -> str:
        return "docker"

    @override
    def command(self) -> str:
        # docker.socket would start a stopped Docker for whoever asks: a read must not. A network
        # that goes away meanwhile is no reason to know nothing of the others.
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


class DaemonFlags(NodeFact[dict[str, str]]):
    """The options that docker.service gives to dockerd, each with the place that it comes from.

    Docker does not start if an option is given both as a flag and in daemon.json
    (https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file), and
    ``dockerd --validate`` does not know the service's flags.

    **Example:** ``{"-H": "docker.service", "--log-driver": "/etc/default/docker"}``
    """

    @override
    def command(self) -> str:
        return (
            "systemctl show --property LoadState,Environment,ExecStart -- docker.service; "
            "for f in /etc/default/docker /etc/systemd/system/docker.service.d/*.conf; do "
            'test ! -f "$f" || echo "file $(base64 -w0 <"$f") $f"; done; true'
        )

    @staticmethod
    @override
    def default() -> dict[str, str]:
        return {}

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        return parse_flags(lines)


def parse_flags(lines: list[str]) -> dict[str, str]:
    """Read ``Key=value`` lines of systemctl, and ``file BASE64 PATH`` lines."""
    unit: dict[str, str] = {}
    files: dict[str, str] = {}
    for line in lines:
        if line.startswith("file "):
            _, encoded, path = line.split(" ", 2)
            files[path] = base64.b64decode(encoded, validate=True).decode(errors="replace")
        else:
            key, _, value = line.partition("=")
            unit[key] = value
    defaults = files.pop("/etc/default/docker", "")
    if unit.get("LoadState") == "loaded":
        # systemd has merged the drop-ins, and shows each command as { path= ; argv[]= ; ... }
        command = re.search(r"argv\[\]=(.*?) ; ignore_errors=", unit.get("ExecStart", ""))
        commands = {"docker.service": command.group(1) if command else ""}
    else:  # not installed yet: the package's own unit passes $DOCKER_OPTS
        commands = {path: " ".join(_values(text, "ExecStart")) for path, text in files.items()}
        commands["docker.service"] = "$DOCKER_OPTS"
    by_file = _by_name(line.strip() for line in defaults.splitlines())
    by_unit = _by_name(_words(unit.get("Environment", "")))
    flags: dict[str, str] = {}
    for place, text in commands.items():
        for word in text.split():
            variable = re.fullmatch(r"\$\{?(\w+)\}?", word)
            if variable is None:
                flags |= _flags(word, place)
                continue
            for value in by_file.get(variable.group(1), ()):
                flags |= _flags(" ".join(_words(value)), "/etc/default/docker")
            for value in by_unit.get(variable.group(1), ()):
                flags |= _flags(value, place)
    return flags


def _by_name(assignments: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of texts ``NAME=value`` by name, in their order."""
    found: dict[str, list[str]] = {}
    for name, equals, value in (text.partition("=") for text in assignments):
        if equals:
            found.setdefault(name, []).append(value)
    return found


def _values(text: str, key: str) -> Iterator[str]:
    """The values that lines ``KEY=value`` of a file give to a key, without their quotes."""
    for line in text.splitlines():
        if line.strip().startswith(f"{key}="):
            yield " ".join(_words(line.strip().partition("=")[2]))


def _flags(text: str, place: str) -> dict[str, str]:
    return {word.partition("=")[0]: place for word in text.split() if word.startswith("-")}


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # an open quote
        return text.split()
