"""One container and one image of Docker's, as they are on the node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.manifest import PULLING
from chaos_engine.facts.observe import NodeFact, Value

# docker.socket would start a stopped Docker for whoever asks: a read must not
_RUNNING = "systemctl is-active --quiet docker.service"


@dataclass(frozen=True)
class ContainerState(Value):
    """A container: `image` as it was named when it was created, `image_id` what that was then;
    `addresses` IPv4 and MAC address by network, `mounts` sources by target."""

    running: bool
    image: str
    image_id: str
    addresses: dict[str, tuple[str, str]]
    mounts: dict[str, str]


class Container(NodeFact["ContainerState | None"]):
    """The container called `container`, or ``None`` if there is none, or Docker does not run.

    + container: its name

    **Example:** ``host.get_fact(Container, container="lb-haproxy")``
    """

    @override
    def requires_command(self, container: str) -> str:
        return "docker"

    @override
    def command(self, container: str) -> StringCommand:
        name = QuoteString(container)
        return StringCommand(
            _RUNNING, "&& timeout 10 docker container inspect --", name, "2>/dev/null; true"
        )

    @staticmethod
    @override
    def default() -> None:
        return None

    @override
    def parse(self, lines: list[str]) -> ContainerState | None:
        return parse_container(lines)


def parse_container(lines: list[str]) -> ContainerState | None:
    """Read what ``docker container inspect`` prints: a list of one, or of none."""
    found: list[dict[str, Any]] = json.loads("\n".join(lines) or "[]")
    if not found:
        return None
    one = found[0]
    return ContainerState(
        running=one["State"]["Running"],
        image=one["Config"]["Image"],
        image_id=one["Image"],
        addresses={
            name: (network["IPAddress"], network["MacAddress"])
            for name, network in one["NetworkSettings"]["Networks"].items()
        },
        mounts={mount["Destination"]: mount["Source"] for mount in one["Mounts"]},
    )


class Image(NodeFact["str | None"]):
    """The id of an image, "" if the node does not have all of it, ``None`` if Docker is installed
    but does not run, so that nobody can tell.

    + image: its name with a tag, a digest, or both. Docker goes by the digest then, and does not
      look at the tag. An image that was brought by ``docker load`` has no digest

    **Example:** ``host.get_fact(Image, image="haproxy:3.0")``
    """

    @override
    def requires_command(self, image: str) -> str:
        return "docker"

    @override
    def command(self, image: str) -> StringCommand:
        return StringCommand(
            f"if ! {_RUNNING}; then echo stopped;",
            "elif grep -qxFs -e",
            QuoteString(image),
            f"{PULLING}; then echo image;",
            "elif id=$( timeout 10 docker image inspect --format '{{.Id}}' --",
            QuoteString(image),
            "2>/dev/null ); then echo image $id;",
            "elif timeout 10 docker version >/dev/null 2>&1; then echo image;",
            "else echo stopped; fi",
        )

    @staticmethod
    @override
    def default() -> str | None:
        return ""

    @override
    def parse(self, lines: list[str]) -> str | None:
        return parse_image(lines)


def parse_image(lines: list[str]) -> str | None:
    """Read the line ``image ID``, ``image`` alone, or ``stopped`` if Docker does not answer."""
    word, _, image = lines[0].partition(" ")
    return image if word == "image" else None
