"""Whether the log server is asked for a node's message in the right way, with a real shell."""

from __future__ import annotations

import os
from pathlib import Path

import gevent  # type: ignore[import-untyped]
import pytest

from chaos_engine.operations import log_server
from chaos_engine.operations.log_server import RUN, LogServer, not_arrived

TOKEN = f"{RUN}-0123456789ab"


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    (tmp_path / "192.168.1.50.log").write_text(f"Nov 29 pi1 chaos-engine: canary {TOKEN}\n")
    (tmp_path / "192.168.1.51.log").write_text("Nov 29 pi2 kernel: hello\n")
    return tmp_path


def test_a_message_in_any_of_the_files_has_arrived(nodes: Path) -> None:
    assert not_arrived(LogServer("", f"{nodes}/*.log"), TOKEN) == ""


def test_a_message_of_another_run_has_not_arrived(
    nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_server, "ARRIVES_SECONDS", 0)
    problem = not_arrived(LogServer("", f"{nodes}/*.51.log"), TOKEN)
    assert problem.startswith("a message of this node has not arrived at the log server within 0 s")
    assert f"looked for {TOKEN} in {nodes}/*.51.log" in problem


def test_a_message_that_arrives_later_is_waited_for(
    nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_server, "PAUSE_SECONDS", 0)
    late = nodes / "192.168.1.51.log"
    server = LogServer("", str(late))
    monkeypatch.setattr(gevent, "sleep", lambda _: late.write_text(f"canary {TOKEN}\n"))
    assert not_arrived(server, TOKEN) == ""


def test_what_one_host_has_learned_is_not_asked_again(nodes: Path) -> None:
    server = LogServer("", f"{nodes}/*.log")
    assert server.has(TOKEN)
    (nodes / "192.168.1.50.log").unlink()
    assert server.has(TOKEN)
    assert not server.has(f"{RUN}-ff"), "and the server is not asked within a second"


def test_only_the_newest_part_of_a_file_is_searched(
    nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_server, "ARRIVES_SECONDS", 0)
    with (nodes / "192.168.1.50.log").open("a") as file:
        file.write("x" * (4 << 20))
    assert not_arrived(LogServer("", f"{nodes}/*.log"), TOKEN)


def test_a_pattern_without_files_is_told(tmp_path: Path) -> None:
    problem = not_arrived(LogServer("", f"{tmp_path}/*.log"), TOKEN)
    assert problem == (
        "the log server cannot be asked whether messages arrive: this computer: there is no file "
        f"{tmp_path}/*.log that this user can read; make this work on this computer: ls "
        f"{tmp_path}/*.log"
    )


def test_a_file_that_cannot_be_read_is_told(nodes: Path) -> None:
    (nodes / "a.log").symlink_to(nodes / "nothing")
    problem = not_arrived(LogServer("", f"{nodes}/*.log"), TOKEN)
    assert f": there is no file {nodes}/a.log that this user can read; " in problem


def test_a_server_that_is_away_is_not_asked_for_each_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_server, "PAUSE_SECONDS", 0)
    server = LogServer("", f"{tmp_path}/*.log")
    first = not_arrived(server, TOKEN)
    (tmp_path / "late.log").write_text(TOKEN)
    assert not_arrived(server, f"{RUN}-ff") == first


def test_ssh_is_asked_without_a_question_and_its_error_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/asked\necho "no route" >&2; exit 255'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    problem = not_arrived(LogServer("admin@log", "/var/log/nodes/*.log"), TOKEN)
    assert problem.endswith(
        "messages arrive: admin@log: no route; make this work on this computer, without a "
        "question: ssh admin@log ls /var/log/nodes/*.log"
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:6] == ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", "admin@log"]
    assert asked[6].startswith("sh -c ")


def test_the_remote_shell_gets_the_script_as_it_is(
    nodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nshift 6\nexec sh -c "$*"')  # as sshd does
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert not_arrived(LogServer("log", f"{nodes}/*.log"), TOKEN) == ""
