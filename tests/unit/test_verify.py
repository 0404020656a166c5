"""Test the report of a node's health, and the exit code."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import PyinfraError

from chaos_engine.deploys.concern import DECLARED, Declaration
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.verify import concerns_of_host, findings, remarks, verify
from chaos_engine.deploys.worker import WorkerSettings
from chaos_engine.facts.health import Health
from chaos_engine.facts.node import NOT_ROOT, AsRoot
from chaos_engine.facts.observe import (
    NodeError,
    NodeFact,
    Preparation,
    Read,
    observe,
    of_host,
    want,
)
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.verify import fail_node, print_findings
from tests.unit.nodes import Nodes

module = import_module("chaos_engine.deploys.verify")  # the package names the deploy so
SETTINGS = cast(WorkerSettings, SimpleNamespace())


class Line(NodeFact[str]):
    """What a command prints."""

    def command(self, text: str) -> StringCommand:
        return StringCommand(text)

    def parse(self, lines: list[str]) -> str:
        return lines[0]


@converge(reads=lambda text: [Read.of(Line, text=text)])
def tell(text: str) -> Commands:
    """Change what prints "change", refuse what prints "refuse"."""
    line = observe(Line, text=text)
    if line == "refuse":
        raise NodeError("it is refused")
    if line == "change":
        yield StringCommand("true")


def concern(name: str, text: str) -> Callable[..., None]:
    def call(settings: Any) -> None:
        tell(name=f"Do {name}", text=text)

    call.__name__ = name
    return call


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    concerns = (
        concern("preflight", "echo fine"),
        concern("docker", "echo change"),
        concern("swap", "echo fine"),
        concern("packages", "echo refuse"),
    )
    monkeypatch.setattr(module, "WORKER_CONCERNS", concerns)
    healthy(monkeypatch)
    return Nodes("pi1")


def healthy(monkeypatch: pytest.MonkeyPatch, script: str = "true") -> None:
    """Have the node's health read by SCRIPT."""
    monkeypatch.setattr(Health, "command", lambda self, checks: StringCommand(script))


def found_on(nodes: Nodes) -> dict[str, list[str]]:
    with nodes.on():
        return findings(dict.fromkeys(module.WORKER_CONCERNS, SETTINGS))


def test_a_concern_is_as_wanted_if_nothing_is_to_be_done(nodes: Nodes) -> None:
    assert found_on(nodes) == {
        "preflight": [],
        "docker": ["to be done: Do docker"],
        "swap": [],
        "packages": ["it is refused"],
    }
    assert nodes.operations() == []
    assert len(nodes.commands()) == 1


def test_what_is_configured_but_does_not_work_is_named(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(monkeypatch, "echo swap is in use; echo docker is down")
    found = found_on(nodes)
    assert found["swap"] == ["is in use"]
    assert found["docker"] == ["to be done: Do docker", "is down"]


def test_health_that_cannot_be_read_is_a_problem_of_those_it_would_tell_of(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(monkeypatch, "echo no permission >&2; exit 3")
    found = found_on(nodes)
    assert found["preflight"] == []
    assert found["packages"] == ["it is refused"]
    assert "status 3: no permission" in found["swap"][0]
    assert len(found["docker"]) == 2


def test_node_that_cannot_be_read_fails_all(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread() -> None:
        raise NodeError("the node's state could not be read")

    monkeypatch.setattr(module, "gather", unread)
    found = found_on(nodes)
    assert list(found) == ["preflight", "docker", "swap", "packages"]
    assert set(map(tuple, found.values())) == {("the node's state could not be read",)}


def test_without_root_no_concern_is_as_wanted(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AsRoot, "command", lambda self: "echo no")
    found = found_on(nodes)
    assert list(found) == ["preflight", "docker", "swap", "packages"]
    assert set(map(tuple, found.values())) == {(NOT_ROOT,)}
    assert len(nodes.commands()) == 1


def test_reading_again_after_a_failure_is_possible(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_on(nodes)
    with nodes.on():
        assert of_host(Preparation).phase == ""
        want([Read.of(Health, checks=())])
        assert observe(Health, checks=()) == {}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, nodes: Nodes) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(
        type(nodes["pi1"]), "log_styled", lambda self, text, **how: lines.append(text)
    )
    return lines


def test_each_concern_is_one_line(nodes: Nodes, printed: list[str]) -> None:
    with nodes.on():
        why = print_findings(
            {"swap": [], "log_mount": ["hangs", "to be done: Mount"], "docker": ["x"]}
        )
    assert why.startswith("not as wanted: log_mount, docker; ")
    assert printed == [
        "swap       ok",
        "log_mount  FAILED  hangs; to be done: Mount",
        "docker     FAILED  x",
    ]


def test_all_is_well_if_nothing_was_found(nodes: Nodes, printed: list[str]) -> None:
    with nodes.on():
        assert print_findings({"swap": [], "docker": []}) == ""
    assert printed == ["swap    ok", "docker  ok"]


def test_a_concern_that_is_well_may_say_more(nodes: Nodes, printed: list[str]) -> None:
    with nodes.on():
        print_findings({"swap": [], "vrrp": []}, {"vrrp": "pi5 has 192.168.1.60"})
    assert printed == ["swap  ok", "vrrp  ok, pi5 has 192.168.1.60"]


def test_only_a_concern_without_problems_says_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def says(text: str) -> Declaration:
        return Declaration("", WorkerSettings, says=lambda settings: text)

    declared = {"docker": says("it runs"), "swap": says(""), "packages": says("all gone")}
    monkeypatch.setattr(module, "DECLARED", declared)
    concerns = {concern(name, ""): SETTINGS for name in declared}
    found: dict[str, list[str]] = {"docker": [], "swap": [], "packages": ["one is there"]}
    assert remarks(concerns, found) == {"docker": "it runs"}


def test_a_node_that_is_not_as_wanted_fails(nodes: Nodes, printed: list[str]) -> None:
    nodes.prepare(fail_node, name="Verify node", why="not as wanted: swap")
    with pytest.raises(PyinfraError, match="No hosts remaining"):
        nodes.execute()
    assert nodes.failed == {"pi1"}
    assert "not as wanted: swap" in printed


def test_a_node_that_is_as_wanted_does_not_fail(nodes: Nodes) -> None:
    nodes.prepare(fail_node, name="Verify node", why="")
    nodes.execute()
    assert nodes.failed == set()
    assert nodes.changed() == []


def test_verify_fails_the_node_in_a_preview_too(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerSettings, "resolve", classmethod(lambda cls: SETTINGS))
    nodes.prepare(verify)
    assert nodes.failed == {"pi1"}


@pytest.mark.parametrize("value", [["docker", "swap"], ("docker", "swap"), "docker, swap"])
def test_only_the_concerns_that_are_named_are_verified(
    nodes: Nodes, printed: list[str], monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.setattr(WorkerSettings, "resolve", classmethod(lambda cls: pytest.fail("all")))
    with Nodes("pi1", data={"chaos_verify": value}).on() as host:
        verify()
    assert [line for line in printed if "  " in line] == [
        "docker  FAILED  to be done: Do docker",
        "swap    ok",
    ]
    assert len(host.connector_data["commands"]) == 1


class TestConcernsOfHost:
    def test_those_that_are_named_need_their_settings_alone(self) -> None:
        with Nodes("pi1", data={"chaos_docker_log_max_size": "1m"}).on():
            found = concerns_of_host(("swap", "docker"))
            assert [one.__name__ for one in found] == ["docker", "swap"], "in the role's order"
            for concern, settings in found.items():
                assert type(settings) is DECLARED[concern.__name__].model
            assert {type(one).__name__: one for one in found.values()}[
                "DockerSettings"
            ].docker_log_max_size == "1m"  # type: ignore[attr-defined]
            with pytest.raises(SettingsError, match="chaos_log_server is not set"):
                concerns_of_host(None)

    def test_mistakes_of_all_are_named_once(self) -> None:
        data = {"chaos_log_store": "ramm", "chaos_vip_port": 0}
        with Nodes("pi1", data=data).on(), pytest.raises(SettingsError) as error:
            concerns_of_host(("log_mount", "rsyslog", "docker", "cri_dockerd"))
        about = ("chaos_log_store = 'ramm'", "chaos_log_server is not set", "chaos_vip_port = 0")
        assert [sum(text in line for line in error.value.lines) for text in about] == [1, 1, 1]
        assert len(error.value.lines) == 3

    def test_a_proxy_has_its_own_too_unless_others_are_named(self) -> None:
        data = {
            "chaos_log_server": "192.168.1.70",
            "chaos_vip": "192.168.1.60",
            "chaos_lan_subnet": "192.168.1.0/24",
            "chaos_lan_gateway": "192.168.1.1",
            "chaos_hairpin_address": "192.168.1.61",
            "chaos_nodes": {"pi1": "192.168.1.50"},
            "chaos_controllers": ["pi1"],
        }
        with Nodes("pi1", data=data, groups={"proxy": (["pi1"], {})}).on():
            assert [one.__name__ for one in concerns_of_host(None)][-1] == "haproxy"
            assert [one.__name__ for one in concerns_of_host(("haproxy",))] == ["haproxy"]
            assert [one.__name__ for one in concerns_of_host(("swap",))] == ["swap"]
