"""Show the progress of long steps: what of a command's output, when, and where."""

from __future__ import annotations

import logging
import re
import string
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
import pytest
from gevent import subprocess as gevent_subprocess
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api import output as pyinfra_output
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.connectors import util

from chaos_engine.facts.observe import NodeError, YesOrNo, observe, progress
from chaos_engine.facts.observe.progress import (
    INTERVAL_SECONDS,
    Doing,
    progress_of,
    run_shell_command,
    waiting,
)
from chaos_engine.facts.standing import StandingState
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.shell import PRELUDE, QUIETLY
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.gate import gate
from chaos_engine.operations.rolling.turns import take_turn
from tests.unit.nodes import Nodes

SECRET = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Unpacking docker.io (26.1.5+dfsg1-9) ...", "Unpacking docker.io (26.1.5+dfsg1-9)"),
        ("Unpacking runc (1.1.15) over (1.1.12) ...", "Unpacking runc (1.1.15)"),
        ("Setting up libc6:arm64 (2.41-12) ...", "Setting up libc6:arm64 (2.41-12)"),
        ("Removing snapd (2.63+24.04) ...", "Removing snapd (2.63+24.04)"),
        (
            "Get:3 https://user:hunter2@deb.example.org/debian trixie/main arm64 docker.io arm64 "
            "26.1.5+dfsg1-9 [20.7 MB]",
            "fetching docker.io 26.1.5+dfsg1-9 [20.7 MB]",
        ),
        ("0123456789ab: Pull complete", "0123456789ab: Pull complete"),
        ("chaos-engine: pulling haproxy:3.0", "pulling haproxy:3.0"),
    ],
)
def test_lines_of_known_form_are_shown(line: str, shown: str) -> None:
    assert progress_of(line) == (shown, None)


def test_a_wait_on_the_node_tells_how_long_it_may_take() -> None:
    line = "chaos-engine: waiting for apt's lock, held by apt-get (process 812), at most 300 s"
    assert progress_of(line) == ("waiting for apt's lock, held by apt-get (process 812)", 300.0)


@pytest.mark.parametrize(
    "line",
    [
        SECRET,
        f"client-key-data: {SECRET}",
        f"Setting up {SECRET}",  # names of packages have no capitals
        "-----BEGIN PRIVATE KEY-----",
        "Get:1 https://user:hunter2@deb.example.org/debian trixie InRelease [140 kB]",
        "Hit:1 https://user:hunter2@deb.example.org/debian trixie InRelease",
        "chaos-engine out c2VjcmV0",
        "password: hunter2",
        "",
    ],
)
def test_nothing_else_of_the_output_is_shown(line: str) -> None:
    assert progress_of(line) == ("", None)


@given(st.text(string.printable + "\x1b\x9b\x07\r", max_size=600))
def test_whatever_a_node_sends_is_fit_for_a_terminal(text: str) -> None:
    for line in (text, f"chaos-engine: {text}", f"Unpacking {text} ({text}) ..."):
        shown, _ = progress_of(line)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown)
        assert len(shown) <= 4 * progress.MAX_LINE_LENGTH


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(doing: Doing, clock: Clock, seconds: int, hosts: int = 1) -> dict[int, str]:
    """Return the lines that are printed in the next SECONDS, by second."""
    found = {}
    for second in range(1, seconds + 1):
        clock.now += 1
        if line := doing.line(hosts):
            found[second] = line
    return found


def doing(clock: Clock, **how: Any) -> Doing:
    return Doing(**{"title": "Run Docker", "began": clock.now, "clock": clock, **how})


def test_a_step_of_a_few_seconds_says_nothing() -> None:
    clock = Clock()
    assert lines(doing(clock), clock, int(INTERVAL_SECONDS) - 1) == {}


def test_a_long_step_prints_a_line_each_few_seconds() -> None:
    clock = Clock()
    step = doing(clock)
    step.follow("Unpacking runc (1.1.15) ...")
    assert lines(step, clock, 7) == {5: "Run Docker, 5 s: Unpacking runc (1.1.15)"}
    step.follow("Setting up runc (1.1.15) ...")
    step.follow(SECRET)
    assert lines(step, clock, 6) == {3: "Run Docker, 10 s: Setting up runc (1.1.15)"}


def test_many_lines_of_a_command_give_no_more_lines() -> None:
    clock = Clock()
    step = doing(clock)
    for number in range(1000):
        step.follow(f"Unpacking package-{number} (1) ...")
    assert lines(step, clock, 20).keys() == {5, 10, 15, 20}


def test_ten_hosts_at_work_do_not_flood_the_screen() -> None:
    clock = Clock()
    assert lines(doing(clock), clock, 60, hosts=10).keys() == {20, 40, 60}


def test_a_step_of_unknown_progress_is_told_to_be_at_work() -> None:
    clock = Clock()
    assert lines(doing(clock), clock, 5) == {5: "Run Docker, 5 s: at work"}


def test_a_wait_says_how_long_it_has_lasted_and_may_last() -> None:
    clock = Clock()
    step = doing(clock)
    clock.now += 30
    step.follow("chaos-engine: waiting for apt's lock, held by another program, at most 300 s")
    step.line(1)
    assert lines(step, clock, 5) == {
        5: "Run Docker, 35 s: waiting for apt's lock, held by another program, 5 s of 300 s"
    }
    # The same line again does not begin a new wait
    step.follow("chaos-engine: waiting for apt's lock, held by another program, at most 300 s")
    assert lines(step, clock, 5)[5].endswith("10 s of 300 s")


def test_outside_of_operations_the_line_begins_with_what_is_done() -> None:
    clock = Clock()
    assert lines(doing(clock, title="", what="reading the node"), clock, 5) == {
        5: "Reading the node, 5 s"
    }


def test_what_is_waited_for_may_change() -> None:
    clock, down = Clock(), ["pi2"]
    step = doing(clock, what=lambda: f"waiting; it is now the turn of {', '.join(down)}")
    assert "now the turn of pi2" in lines(step, clock, 5)[5]
    down[:] = ["pi3"]
    assert "now the turn of pi3" in lines(step, clock, 5)[5]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Record what pyinfra prints by its echo. Lines come quickly, and other greenlets run while a
    command runs."""
    printed: list[str] = []
    monkeypatch.setattr(pyinfra_output, "_echo", lambda text, **_: printed.append(text))
    caplog.set_level(logging.INFO, logger="pyinfra")
    monkeypatch.setattr(progress, "INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(progress, "HOST_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_TICK", 0.01)
    monkeypatch.setattr(util, "Popen", gevent_subprocess.Popen)
    return printed


def until(condition: Callable[[], object]) -> None:
    """Let other greenlets run until the condition holds."""
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        gevent.sleep(0.01)


# Ends once the test has seen its progress
SLOW = (
    "echo {secret}; echo '{line}'; until [ -e {folder}/seen ]; do sleep 0.02; done; exit {status}"
)


def script(folder: Path, line: str, status: int = 0) -> StringCommand:
    text = SLOW.format(secret=SECRET, line=line, folder=folder, status=status)
    return StringCommand("sh", "-c", QuoteString(text))


@converge(reads=lambda folder: [])
def slow(folder: str) -> Commands:
    """Take as long as the test wants."""
    yield script(Path(folder), "Unpacking runc (1.1.15) ...")


@pytest.mark.parametrize("status", [0, 3])
def test_a_running_command_shows_where_it_is_and_nothing_else(
    tmp_path: Path, shown: list[str], caplog: pytest.LogCaptureFixture, status: int
) -> None:
    nodes = Nodes("pi1")
    echo = pyinfra_output._echo
    command = script(tmp_path, "Unpacking runc (1.1.15) ...", status)
    running = gevent.spawn(run_shell_command, nodes["pi1"], command, {})
    until(lambda: "Unpacking runc (1.1.15), " in caplog.text)
    (tmp_path / "seen").touch()
    done, output = running.get()
    assert done == (status == 0)
    assert output.stdout_lines == [SECRET, "Unpacking runc (1.1.15) ..."], "it is whole"
    assert SECRET not in caplog.text
    assert shown == []
    assert pyinfra_output._echo is echo, "pyinfra prints as before"
    said = caplog.text
    gevent.sleep(0.2)
    assert caplog.text == said, "nothing is said of what is over"


def test_several_hosts_at_once_show_their_own(
    tmp_path: Path, shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1", "pi10")
    running = [
        gevent.spawn(run_shell_command, nodes[name], script(tmp_path, f"Unpacking {what} (1)"), {})
        for name, what in (("pi1", "runc"), ("pi10", "tini"))
    ]
    until(lambda: re.search(r"\[pi1\] +Unpacking runc", caplog.text))
    until(lambda: re.search(r"\[pi10\] +Unpacking tini", caplog.text))
    (tmp_path / "seen").touch()
    assert all(one.get()[0] for one in running)
    assert "[pi1]  Unpacking tini" not in caplog.text
    assert shown == []


def test_an_operation_of_the_package_shows_its_name(
    tmp_path: Path, shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1", changes=False)
    with nodes.on():
        slow(name="Run Docker", folder=str(tmp_path))
    running = gevent.spawn(nodes.execute)
    until(lambda: re.search(r"\[pi1\] Run Docker, 0 s: Unpacking runc \(1\.1\.15\)$", caplog.text))
    (tmp_path / "seen").touch()
    running.get()
    assert nodes.changed() == ["Run Docker"]
    assert SECRET not in caplog.text + "".join(shown)


def test_where_all_output_is_shown_it_alone_is(
    tmp_path: Path, shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1")
    nodes.state.print_output = True
    running = gevent.spawn(
        run_shell_command, nodes["pi1"], script(tmp_path, "Unpacking runc (1) ..."), {}
    )
    until(lambda: len(shown) == 2)
    gevent.sleep(0.3)
    (tmp_path / "seen").touch()
    running.get()
    assert caplog.text == ""
    assert [line.partition("] ")[2] for line in shown] == [SECRET, "Unpacking runc (1) ..."]


def test_a_command_that_takes_too_long_prints_nothing_afterwards(
    tmp_path: Path, shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1")
    command = script(tmp_path, "", 0)
    late = StringCommand(command, f"; echo {SECRET}; touch {tmp_path}/over")
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.3):
        run_shell_command(nodes["pi1"], late, {})
    (tmp_path / "seen").touch()
    until((tmp_path / "over").exists)
    gevent.sleep(0.1)
    assert shown == []
    # The output of the host's next command is followed again
    assert run_shell_command(nodes["pi1"], StringCommand("echo a"), {})[1].stdout == "a"
    assert shown == []


def test_a_wait_within_a_wait_is_the_outer_one(
    shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    host = Nodes("pi1")["pi1"]
    with waiting(host, "waiting until it is back", 600):
        with waiting(host, "asking it"):
            until(lambda: "Waiting until it is back, 0 s of 600 s" in caplog.text)
        run_shell_command(host, StringCommand("echo 'Unpacking runc (1) ...'; sleep 0.2"), {})
    assert "sking" not in caplog.text
    assert "runc" not in caplog.text


def test_waits_of_the_packages_own_are_told_where_all_output_is_shown_too(
    shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1")
    nodes.state.print_output = True
    with waiting(nodes["pi1"], "waiting until it is back", 600):
        until(lambda: "Waiting until it is back, 0 s of 600 s" in caplog.text)


class Slow(YesOrNo):
    """A fact that takes as long as the test wants."""

    def command(self, folder: str) -> str:
        return f"until [ -e {folder}/seen ]; do sleep 0.02; done; echo yes"


def test_a_node_that_is_slow_to_read_shows_life(
    tmp_path: Path, shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1")

    def read() -> bool:
        with nodes.on():
            return observe(Slow, folder=str(tmp_path))

    reading = gevent.spawn(read)
    until(lambda: re.search(r"\[pi1\] Reading the node, 0 s$", caplog.text))
    (tmp_path / "seen").touch()
    assert reading.get()
    assert shown == []


def test_who_waits_for_its_turn_says_who_has_it(
    shown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1")
    turns = gate(nodes.state, batch=1)
    stands = StandingState(joined=True)
    with turns.turn("pi2", "", joined=True):
        waits = gevent.spawn(
            take_turn, nodes.state, nodes["pi1"], Rolling(), stands, "restarted", lambda *_: "no"
        )
        until(lambda: "Waiting for its turn; it is now the turn of pi2, 0 s" in caplog.text)
        turns.failed = "pi2: it did not come back"
    assert waits.get() is False
    assert "not restarted, because of a problem on pi2: it did not come back" in caplog.text


def test_an_error_ends_the_signs(shown: list[str], caplog: pytest.LogCaptureFixture) -> None:
    host = Nodes("pi1")["pi1"]
    with pytest.raises(NodeError), waiting(host, "draining pi1"):
        raise NodeError("no")
    gevent.sleep(0.2)
    assert caplog.text == ""
    with waiting(host, "draining it again"):
        until(lambda: "Draining it again" in caplog.text)


def test_a_script_tells_that_it_waits_for_an_earlier_run(tmp_path: Path) -> None:
    text = PRELUDE.replace("/run/chaos-engine", str(tmp_path / "run")) + "echo done\n"
    (tmp_path / "run").mkdir()
    lock = tmp_path / "run/lock"
    holds = subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; read _ || :"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holds.stdout
    assert holds.stdin
    holds.stdout.readline()
    waits = subprocess.Popen(["sh", "-c", text], stdout=subprocess.PIPE, text=True)
    assert waits.stdout
    line = waits.stdout.readline()
    assert progress_of(line.rstrip("\n")) == (
        "waiting for an earlier run that is still at work on this node",
        600.0,
    )
    holds.stdin.close()
    assert waits.communicate(timeout=60)[0] == "done\n"
    assert (waits.returncode, holds.wait()) == (0, 0)


@pytest.mark.parametrize("before", ["set -e", ":"])
def test_quietly_shows_progress_and_the_end_of_a_failure(before: str) -> None:
    text = f"""{before}
{QUIETLY}
work() {{ echo noise; echo "Unpacking runc (1) ..."; printf 'E: last'; return $1; }}
quietly work 0; echo "in all: $said"
quietly work 7 || echo "status $?"
"""
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "Unpacking runc (1) ...",
        *("in all: noise", "Unpacking runc (1) ...", "E: last"),
        *("Unpacking runc (1) ...", "status 7"),
    ]
    assert done.stderr.splitlines() == ["noise", "Unpacking runc (1) ...", "E: last"]


DEPLOY = """\
from pyinfra.api.command import QuoteString, StringCommand
from chaos_engine.facts.observe import progress
from chaos_engine.operations.engine.converge import converge

progress.INTERVAL_SECONDS = progress.HOST_INTERVAL_SECONDS = 0.2

@converge(reads=lambda: [])
def slow():
    yield StringCommand("sh", "-c", QuoteString({script!r}))

slow(name="Run Docker")
"""


def test_without_a_terminal_a_run_prints_plain_lines(tmp_path: Path) -> None:
    text = SLOW.format(secret=SECRET, line="Unpacking runc (1) ...", folder=tmp_path, status=0)
    (tmp_path / "deploy.py").write_text(DEPLOY.format(script=text))
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pyinfra", "@local", "deploy.py", "-y"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    until(lambda: "s: Unpacking" in output.read_text() or process.poll() is not None)
    (tmp_path / "seen").touch()
    assert process.wait(60) == 0, output.read_text()
    said = output.read_text()
    assert re.search(r"^    \[@local\] Run Docker, \d+ s: Unpacking runc \(1\)$", said, re.M), said
    assert "\x1b" not in said
    assert SECRET not in said
