"""Run commands on a node in the middle of an operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from paramiko import SSHException
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.util import CommandOutput

from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.observe.connection import prepare, problem_of
from chaos_engine.facts.observe.progress import run_shell_command

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

_MARK = "chaos-engine answers"


def run(state: State, host: Host, command: StringCommand) -> tuple[bool, CommandOutput]:
    """Run a command like the operation's own: with its sudo, and printed where those are printed.

    Returns whether it succeeded, and its output. Must be called while an operation runs on the
    host. Raises `NodeError` if the connection or sudo has ended the command.
    """
    known = cast("dict[str, Any]", host.current_op_global_arguments or {})
    arguments = {key: known[key] for key in CONNECTOR_ARGUMENT_KEYS if key in known}
    arguments.update(command.connector_arguments)
    try:
        prepare(host, arguments)
        done, output = run_shell_command(host, command, arguments)
        problem = "" if done else problem_of(host, output=output)
    except (EOFError, OSError, SSHException, PyinfraError) as error:
        raise NodeError(problem_of(host, error)) from None
    if problem:
        raise NodeError(problem)
    return done, output


def ask(state: State, host: Host, script: str) -> list[str]:
    """Run a shell script; return the lines that it printed, without those of a login shell.

    Must be called while an operation runs on the host. Raises `NodeError` if the script failed.
    """
    framed = f"echo; echo {_MARK}\n(\n{script}\n)\nstatus=$?; echo {_MARK}; exit $status"
    done, output = run(state, host, StringCommand("sh", "-c", QuoteString(framed)))
    lines = output.stdout_lines
    if not done or lines.count(_MARK) < 2:
        raise NodeError(f"the node cannot be looked at: {output.stderr or output.stdout}")
    return lines[lines.index(_MARK) + 1 : -lines[::-1].index(_MARK) - 1]


def run_script(state: State, host: Host, script: str) -> str | None:
    """Run a shell script; return what it printed if it failed, ``None`` if it succeeded."""
    done, output = run(state, host, StringCommand("sh", "-c", QuoteString(script)))
    return None if done else output.stderr or output.stdout
