"""Ask Docker's API: the facts' commands run in a shell, against a stand-in on a socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.facts.containers import Container, Image
from chaos_engine.facts.docker import DockerInfo, DockerNetworks, Engine, docker_get, path_of
from chaos_engine.facts.observe import NodeFact
from tests.unit.docker_api import DockerApi, docker_api

# GET /info of Docker 26.1.5 (Debian 13), shortened, with names that belong to something else
INFO = (
    r'{"ID":"ce2ebd63","Containers":2,"ContainersRunning":1,"Driver":"overlay2","DriverStatus":'
    r'[["Backing Filesystem","extfs"],["Using metacopy","false"]],"Plugins":{"Volume":["local"],'
    r'"Driver":"nested"},"MemoryLimit":true,"LoggingDriver":"json-file","CgroupDriver":"systemd",'
    r'"Labels":["a=\"Driver\":\"text\",\\","}{","[\"Containers\":7"],"GenericResources":null,'
    r'"DockerRootDir":"/mnt/a \"b\"\\","ServerVersion":"26.1.5+dfsg1","Runtimes":{"runc":{"path":'
    r'"runc","status":{"features":"{\"Driver\":\"x\"}"},"Containers":[{"Containers":9}]}},'
    r'"LiveRestoreEnabled":false,"Warnings":["WARNING: No swap limit support"]}'
)
NETWORK = '{"Name":"%s","Id":"%s","Driver":"bridge","Options":{},"Labels":{"Id":"%s"}}'
CONTAINERS = [
    {"Names": ["/web"], "NetworkSettings": {"Networks": {"lan": {}, "gone": {}}}},
    {"Names": ["/web/alias", "/db"], "NetworkSettings": {"Networks": {"lan": {}}}},
]
CONTAINER = (
    '{"Id":"34","Path":"x","State":{"Status":"running","Running":true},"Image":"sha256:aa",'
    '"Config":{"Image":"haproxy:3.0"},"Mounts":[],"NetworkSettings":{"Networks":{}}}'
)
ANSWERS = {
    "/info": INFO,
    "/networks": f"[{NETWORK % ('lan', 'a1', 'd4')},{NETWORK % ('gone', 'b2', 'b2')}]\n",
    "/networks/a1": NETWORK % ("lan", "a1", "d4") + "\n",
    "/containers/json?all=1": json.dumps(CONTAINERS) + "\n",
    "/containers/lb-haproxy/json": CONTAINER,
    "/images/haproxy:3.0/json": '{"Id":"sha256:aa","Config":{"Labels":{"Id":"b"}}}\n',
}


@pytest.fixture
def api() -> Iterator[DockerApi]:
    with docker_api(ANSWERS) as running:
        yield running


def test_the_fields_of_docker_itself_are_found(api: DockerApi) -> None:
    """Neither fields of the same name further inside, nor text that looks like one, are taken."""
    assert api.says(DockerInfo()) == Engine(
        "26.1.5+dfsg1", "systemd", "overlay2", "json-file", '/mnt/a "b"\\', False, 2
    )
    assert api.asked == ["/_ping", "/info"]


def test_no_more_than_the_wanted_fields_travel(api: DockerApi) -> None:
    found = api.says(Lines(), fields="Containers,DriverStatus,Labels,ID,GenericResources")
    wanted = ("ID", "Containers", "DriverStatus", "Labels", "GenericResources")
    assert [json.loads(line) for line in found] == [{key: json.loads(INFO)[key] for key in wanted}]


class Lines(DockerInfo):
    """What the command prints for GET /info."""

    def command(self, fields: str) -> object:  # type: ignore[override]
        return docker_get(fields, "/info")

    def parse(self, lines: list[str]) -> list[str]:  # type: ignore[override]
        return lines


def test_a_network_that_goes_away_meanwhile_hides_no_other(api: DockerApi) -> None:
    networks = api.says(DockerNetworks())
    assert networks.keys() == {"lan"}
    assert networks["lan"].containers == {"web": "", "db": ""}
    assert api.asked[:2] == ["/_ping", "/networks"]
    assert api.asked[-1] == "/containers/json?all=1"


def test_a_container_is_asked_for_by_its_name(api: DockerApi) -> None:
    assert api.says(Container(), container="lb-haproxy").image_id == "sha256:aa"
    assert api.says(Container(), container="lb-haproxy2") is None
    assert api.says(Container(), container="a b?all=1\r\n%") is None
    assert api.asked[-1] == "/containers/a%20b%3Fall%3D1%0D%0A%25/json"


def test_an_image_is_there_or_not(api: DockerApi) -> None:
    assert api.says(Image(), image="haproxy:3.0") == "sha256:aa"
    assert api.says(Image(), image="haproxy:3.1") == ""
    api.status = 500
    assert api.says(Image(), image="haproxy:3.0") == "", "as for an image that is there in part"


def test_an_image_whose_pull_was_interrupted_is_not_there(
    api: DockerApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulling = tmp_path / "pulling"
    monkeypatch.setattr("chaos_engine.facts.containers.PULLING", pulling)
    for text, found in (("haproxy:3.0\n", ""), ("haproxy:3.00\n", "sha256:aa"), ("", "sha256:aa")):
        pulling.write_text(text)
        assert api.says(Image(), image="haproxy:3.0") == found
    pulling.write_text("haproxy:3.0\n")
    assert api.says(Image(), running=False, image="haproxy:3.0") is None


UNKNOWN: tuple[tuple[NodeFact[Any], dict[str, Any]], ...] = (
    (DockerInfo(), {}),
    (DockerNetworks(), {}),
    (Container(), {"container": "lb-haproxy"}),
    (Image(), {"image": "haproxy:3.0"}),
)
each_fact = pytest.mark.parametrize(
    ("fact", "arguments"), UNKNOWN, ids=lambda value: type(value).__name__
)


@each_fact
def test_a_docker_that_does_not_run_is_not_asked(
    api: DockerApi, fact: NodeFact[Any], arguments: dict[str, Any]
) -> None:
    """docker.socket would start it."""
    assert api.says(fact, running=False, **arguments) is None
    assert api.asked == []


@each_fact
def test_a_docker_without_a_socket_does_not_answer(
    api: DockerApi, fact: NodeFact[Any], arguments: dict[str, Any]
) -> None:
    api.socket = api.socket.with_name("nothing")
    assert api.says(fact, **arguments) is None


@each_fact
def test_a_docker_that_hangs_is_not_waited_for(
    api: DockerApi,
    fact: NodeFact[Any],
    arguments: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api.socket = api.socket.with_name("hangs")
    for name in ("docker", "containers"):
        text = f"chaos_engine.facts.{name}.docker_get"
        monkeypatch.setattr(text, lambda *words, **more: in_a_second(*words, **more))
    with socket.socket(socket.AF_UNIX) as hangs:
        hangs.bind(str(api.socket))
        hangs.listen()
        assert api.says(fact, **arguments) is None


def in_a_second(*words: str, **more: str) -> str:
    """Return the command of `docker_get` with a shorter time limit."""
    text = docker_get(*words, **more).get_raw_value()
    assert text.count("alarm 10;") == 1
    return text.replace("alarm 10;", "alarm 1;")


def test_networks_that_docker_cannot_list_are_unknown(api: DockerApi) -> None:
    api.status = 500
    assert api.says(DockerNetworks()) is None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("haproxy:3.0", "/images/haproxy:3.0/json"),
        ("r.example:5000/a/b:1@sha256:0f", "/images/r.example:5000/a/b:1@sha256:0f/json"),
        ("a?b#c d%", "/images/a%3Fb%23c%20d%25/json"),
    ],
)
def test_names_become_paths(name: str, path: str) -> None:
    assert path_of("images", name) == path
