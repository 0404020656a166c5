"""Test the reasons for changes of a node: their words, and when they are printed."""

from __future__ import annotations

import logging
import re

import pytest
from pyinfra.api.command import StringCommand

from chaos_engine.facts.apt import PackageState
from chaos_engine.facts.observe import phase
from chaos_engine.operations.docker.install import _with_changes, packages_to_change
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import SHOWN, because, differences, listed, shortened
from chaos_engine.operations.files import File
from chaos_engine.operations.files.plan import plan
from tests.unit.nodes import Nodes
from tests.unit.test_files import CONF, DOCKER, running, state


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pyinfra")


def test_a_plan_says_what_it_does_and_what_was_found() -> None:
    wanted = [File("/etc/new", "a"), File("/etc/other", "b"), File("/etc/mode", "c", mode="600")]
    found = {"/etc/other": state("x"), "/etc/mode": state("c"), "/etc/old": state("y")}
    assert plan(wanted, ["/etc/old"], [], found, {}, {}).why == (
        "write /etc/new (not there)",
        "write /etc/other (other content)",
        "give /etc/mode 600 root:root",
        "remove /etc/old",
    )


@pytest.mark.parametrize(
    ("found", "how", "reason"),
    [
        (state("old"), {}, f"restart docker.service: {CONF} changes"),
        (
            state("{}"),
            {"started_with": "another"},
            "restart docker.service: it was started with a different configuration",
        ),
        (
            state("{}"),
            {"need_daemon_reload": True},
            "restart docker.service: systemd has not read its changed unit files",
        ),
        (state("{}"), {"active": "failed"}, "start docker.service"),
        (state("{}"), {"enabled": "disabled"}, "enable docker.service"),
    ],
)  # fmt: skip
def test_a_plan_says_why_a_unit_is_restarted(found: object, how: object, reason: str) -> None:
    record = {DOCKER.record.path: state(DOCKER.record.data.decode())}
    todo = plan(
        [File(CONF, "{}")], [], [DOCKER], {CONF: found, **record},  # type: ignore[dict-item]
        {DOCKER.name: running(**how)}, {},  # type: ignore[arg-type]
    )  # fmt: skip
    assert todo.why[-1] == reason


def test_daemon_json_is_told_key_by_key() -> None:
    line, other = f"write {CONF} (other content)", "restart docker.service: its files change"
    before = b'{"log-opts": {"max-size": "10m", "max-file": "3"}, "debug": true}'
    after = {"log-opts": {"max-size": "100m", "max-file": "3"}, "debug": True, "bip": "10.1.0.1/24"}
    assert _with_changes(line, before, after) == (
        f"write {CONF}: log-opts.max-size 10m -> 100m, bip 10.1.0.1/24"
    )
    assert _with_changes(line, b"", {"debug": True}) == f"write {CONF}: debug true"
    assert (
        _with_changes(line, b'{ "debug": true }', {"debug": True})
        == f"write {CONF}: only its formatting"
    )
    assert _with_changes(other, before, after) == other


def test_what_differs_of_two_objects_is_told_by_key() -> None:
    before = {"a": {"b": 1}, "c": [], "same": {"x": 1}}
    after = {"a": {"e": False}, "d": "x", "same": {"x": 1}}
    assert differences(before, after) == ["without a.b", "a.e false", "without c", "d x"]


def test_dockers_packages_are_named_with_what_is_done_to_them() -> None:
    def package(**how: object) -> PackageState:
        return PackageState(**{"version": "26.1", "complete": True, "held": True, **how})  # type: ignore[arg-type]

    whole = {name: package() for name in ("docker.io", "docker-cli", "ca-certificates")}
    assert packages_to_change(whole, client=True) == ([], [])
    assert packages_to_change({}, client=False) == (
        ["docker.io", "ca-certificates", "docker-cli"],
        ["docker.io"],
    )
    unheld = {**whole, "docker.io": package(held=False)}
    assert packages_to_change(unheld, client=True) == ([], ["docker.io"])
    torn = {**whole, "runc": package(complete=False)}
    assert packages_to_change(torn, client=True) == (["runc"], [])


def test_many_reasons_are_counted_unless_all_are_asked_for() -> None:
    many = [f"write /etc/{number}" for number in range(SHOWN + 3)]
    assert shortened(many[:SHOWN]) == many[:SHOWN]
    assert shortened(many) == [*many[:SHOWN], "and 3 more (shown with -v)"]
    assert shortened(many, all_of_them=True) == many


def test_things_of_a_kind_are_one_reason() -> None:
    assert listed("hold", iter(())) == []
    assert listed("write", ["/a", "/b"], "(not there)") == ["write /a, /b (not there)"]


@converge(reads=lambda why: [])
def work(why: list[str]) -> Commands:
    """Change the node, for some reasons."""
    because(*why)
    yield StringCommand("true")


def test_a_preview_and_the_run_say_the_same(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("pi1")
    lines = ["[pi1] Do it: hold docker.io", "[pi1] Do it: start \\x1b[2Jdocker"]
    nodes.prepare(work, name="Do it", why=["hold docker.io", "start \x1b[2Jdocker"])
    assert said(caplog) == lines
    caplog.clear()
    nodes.execute()
    assert said(caplog) == lines


def test_a_run_that_asks_nobody_says_it_once(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("pi1", changes=False)
    nodes.prepare(work, name="Do it", why=["hold docker.io"])
    nodes.execute()
    assert said(caplog).count("[pi1] Do it: hold docker.io") == 1


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was printed of the operation."""
    texts = (" ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split()) for text in caplog.messages)
    return [text for text in texts if text.startswith("[pi1] Do it: ")]


def test_verify_says_what_is_to_be_done_and_why() -> None:
    with Nodes("pi1").on("pi1"), phase("check") as (_, pending):
        work(name="Do it", why=["hold docker.io", "start docker"])
    assert pending == ["Do it: hold docker.io; start docker"]
