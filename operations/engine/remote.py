"""Run commands on a node while an operation is executed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from paramiko import SSHException
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.connectors.util import CommandOutput

from chaos_engine.facts.observe import NodeError, NodeFact
from chaos_engine.facts.observe.connection import prepare, problem_of
from chaos_engine.facts.observe.progress import run_shell_command
from chaos_engine.operations.engine.shell import shell_command

T = TypeVar("T")

BROKEN = (EOFError, OSError, SSHException, PyinfraError)
"""The exceptions that are raised if the connection breaks, or if sudo needs a password and there is
no terminal to ask for it."""

_MARK = "chaos-engine answers"


def execute(
    host: Host, command: StringCommand, arguments: Mapping[str, Any]
) -> tuple[bool, CommandOutput, str]:
    """Run a command on a host, and show its progress.

    + arguments: pyinfra's global arguments for the connector

    Returns three values: whether the command succeeded, its output, and a problem. If the
    connection or sudo has stopped the command, the problem says why. Otherwise the problem is "".
    """
    try:
        prepare(host, arguments)
        done, output = run_shell_command(host, command, arguments)
        return done, output, "" if done else problem_of(host, output=output)
    except BROKEN as error:
        return False, CommandOutput([]), problem_of(host, error)


def run(host: Host, command: StringCommand) -> tuple[bool, CommandOutput]:
    """Run a command on a host, with the current operation's global arguments, such as ``_sudo``.

    Must be called while an operation runs on the host. Returns whether the command succeeded, and
    its output. Raises `NodeError` if the connection or sudo has stopped the command.
    """
    known = cast("dict[str, Any]", host.current_op_global_arguments or {})
    arguments = {key: known[key] for key in CONNECTOR_ARGUMENT_KEYS if key in known}
    done, output, problem = execute(host, command, arguments | command.connector_arguments)
    if problem:
        raise NodeError(problem)
    return done, output


def ask(host: Host, script: str) -> list[str]:
    """Run a shell script on a host, and return the lines that the script printed.

    Lines that the login shell printed are left out. Must be called while an operation runs on the
    host. Raises `NodeError` if the script failed.
    """
    framed = f"echo; echo {_MARK}\n(\n{script}\n)\nstatus=$?; echo {_MARK}; exit $status"
    done, output = run(host, shell_command(framed))
    lines = output.stdout_lines
    if not done or lines.count(_MARK) < 2:
        raise NodeError(f"the node's state cannot be read: {output.stderr or output.stdout}")
    return lines[lines.index(_MARK) + 1 : -lines[::-1].index(_MARK) - 1]


def ask_fact(host: Host, fact: NodeFact[T], command: StringCommand) -> T:
    """Read a fact from the node now, without `observe`, which may return an earlier value.

    + command: the fact's command, with the arguments that it shall have
    """
    return fact.process(ask(host, command.get_raw_value()))


def run_script(host: Host, script: str) -> str | None:
    """Run a shell script on a host. Return ``None`` on success, otherwise the script's output.

    The output is the script's standard error or, if that is empty, its standard output.
    """
    done, output = run(host, shell_command(script))
    return None if done else output.stderr or output.stdout
