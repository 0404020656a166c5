"""Lose a connection, or be asked for a password, in the middle of a run: one node fails, and says
why."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paramiko import SSHException
from pyinfra.api.command import FunctionCommand, QuoteString, StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.util import CommandOutput

from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.observe.connection import SILENT_SECONDS, limit_silence, problem_of
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.remote import run
from tests.unit.counting import count
from tests.unit.nodes import Nodes


def over(sock: Any, active: bool = True) -> Any:
    """Return what the code uses of a pyinfra host, connected by SOCK."""
    transport = SimpleNamespace(sock=sock, is_active=lambda: active)
    client = SimpleNamespace(get_transport=lambda: transport)
    return SimpleNamespace(connector=SimpleNamespace(client=client))


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    """Return a TCP socket that is not connected."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        yield sock


def test_a_silent_node_is_given_up(tcp: socket.socket) -> None:
    limit_silence(over(tcp))
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        given_up = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert given_up == SILENT_SECONDS * 1000


@pytest.mark.parametrize("connector", [SimpleNamespace(), SimpleNamespace(client=None)])
def test_other_connectors_are_left_alone(connector: Any) -> None:
    limit_silence(SimpleNamespace(connector=connector))  # type: ignore[arg-type]
    assert problem_of(SimpleNamespace(connector=connector)) == ""  # type: ignore[arg-type]


def test_a_connection_through_a_program_is_left_alone() -> None:
    limit_silence(over(SimpleNamespace()))


def test_a_connection_that_is_gone_says_so(tcp: socket.socket) -> None:
    assert problem_of(over(tcp)) == ""
    gone = over(tcp, active=False)
    for error in (None, EOFError(), SSHException("SSH session not active")):
        assert problem_of(gone, error).startswith("the connection to the node was lost")
    assert "no terminal" in problem_of(over(tcp), EOFError())
    assert (
        problem_of(over(tcp), OSError("Broken pipe")) == "Broken pipe; fix this error and run again"
    )


ERRORS = (
    EOFError("EOF when reading a line"),
    SSHException("SSH session not active"),
    ConnectError("Could not connect"),
    ConnectionResetError(104, "Connection reset by peer"),
)


def broken(nodes: Nodes, name: str, error: Exception) -> None:
    """Have all further commands of a node fail with an error."""

    def run_shell_command(*args: Any, **kwargs: Any) -> tuple[bool, CommandOutput]:
        raise error

    nodes[name].connector.run_shell_command = run_shell_command  # type: ignore[method-assign]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_read_that_does_not_arrive_fails_its_node_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    nodes = Nodes("pi1", "pi2", changes=False)
    for name in ("pi1", "pi2"):
        with nodes.on(name):
            count(name="Count", path=str(tmp_path / name))
    broken(nodes, "pi2", error)
    nodes.execute()
    assert nodes.failed == {"pi2"}
    assert (tmp_path / "pi1").read_text() == "10"
    assert "Traceback" not in caplog.text
    assert "could not be read" in caplog.text


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_command_that_does_not_end_fails_its_node_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    nodes = Nodes("pi1", "pi2", changes=False)
    for name in ("pi1", "pi2"):
        with nodes.on(name):
            cut_before(name="Cut", where=nodes, node="pi2", error=error, path=str(tmp_path / name))
    nodes.execute()
    assert nodes.failed == {"pi2"}
    assert (tmp_path / "pi1").exists()
    assert "Traceback" not in caplog.text
    assert "run again" in caplog.text or "run pyinfra at a terminal" in caplog.text


@converge(reads=lambda where, node, error, path: [])
def cut_before(where: Nodes, node: str, error: Exception, path: str) -> Commands:
    """Write a file by a command, with the connection of one node cut before it runs."""
    broken(where, node, error)
    yield StringCommand("touch", QuoteString(path))


@pytest.mark.parametrize("error", [NodeError("look at its screen"), *ERRORS])
def test_a_function_that_loses_its_node_fails_it_alone(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def turn(state: Any, host: Any) -> bool:
        if host.name == "pi2":
            raise error
        return True

    @converge(reads=list)
    def take_turn() -> Commands:
        yield FunctionCommand(turn, (), {})

    nodes = Nodes("pi1", "pi2", changes=False)
    nodes.prepare(take_turn, name="Take turn")
    nodes.execute()
    assert nodes.failed == {"pi2"}
    assert "Traceback" not in caplog.text
    assert str(error).split("]")[-1].strip() in caplog.text or "no terminal" in caplog.text


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_command_in_a_turn_that_does_not_end_says_why(error: Exception) -> None:
    nodes = Nodes()
    broken(nodes, "pi1", error)
    with nodes.on() as host, pytest.raises(NodeError, match=r"run again|run pyinfra at a terminal"):
        run(host, StringCommand("true"))


def test_a_command_in_a_turn_that_the_connection_has_ended_is_not_judged(
    monkeypatch: pytest.MonkeyPatch, tcp: socket.socket
) -> None:
    nodes = Nodes()
    with nodes.on() as host:
        done, _ = run(host, StringCommand("false"))
        assert not done
        monkeypatch.setattr(host.connector, "client", over(tcp, False).connector.client, False)
        with pytest.raises(NodeError, match="the connection to the node was lost"):
            run(host, StringCommand("false"))
