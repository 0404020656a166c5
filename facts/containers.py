"""Read the state of a container, and the ID of an image, from Docker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.docker import RUNNING, docker_get, path_of
from chaos_engine.facts.manifest import PULLING
from chaos_engine.facts.observe import NodeFact, Value


@dataclass(frozen=True)
class ContainerState(Value):
    """The state of a container.

    + image: the name of the image that the container was created with
    + image_id: the ID of this image
    + addresses: a dictionary from each network's name to the container's IPv4 and MAC address there
    + mounts: a dictionary from each mount's path in the container to its path on the node
    """

    running: bool
    image: str
    image_id: str
    addresses: dict[str, tuple[str, str]]
    mounts: dict[str, str]


class Container(NodeFact["ContainerState | None"]):
    """The state of a container.

    The value is ``None`` if no container has this name, or if Docker does not answer.

    + container: the container's name

    **Example:** ``host.get_fact(Container, container="lb-haproxy")``
    """

    program = "docker"

    @override
    def command(self, container: str) -> StringCommand:
        fields = "State,Config,Image,NetworkSettings,Mounts"
        return docker_get(fields, path_of("containers", container))

    @override
    def parse(self, lines: list[str]) -> ContainerState | None:
        """Parse the JSON object of a container. Return ``None`` if there is no line."""
        if not lines:
            return None
        one: dict[str, Any] = json.loads(lines[0])
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
    """The ID of an image.

    The value is "" if the image is missing or incomplete. It is ``None`` if Docker is installed but
    does not answer.

    + image: the image's name with a tag, a digest, or both. With both, Docker uses the digest and
      ignores the tag. An image from ``docker load`` has no digest

    **Example:** ``host.get_fact(Image, image="haproxy:3.0")``
    """

    program = "docker"

    @override
    def command(self, image: str) -> StringCommand:
        return StringCommand(
            f"if [ -s {PULLING} ] && grep -qxFs -e",
            QuoteString(image),
            f"{PULLING}; then {RUNNING} || echo null; else",
            docker_get("Id", path_of("images", image), otherwise="echo null"),
            "; fi",
        )

    @override
    def parse(self, lines: list[str]) -> str | None:
        """Parse the JSON object of an image. Return "" if there is no line.

        If Docker does not answer, the line is ``null``, and the value is ``None``.
        """
        if not lines:
            return ""
        found = json.loads(lines[0])
        return None if found is None else str(found["Id"])
