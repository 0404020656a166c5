"""Run commands on a host of the inventory that may not be in the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, AllArguments, pop_global_arguments
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.host import Host
from pyinfra.api.state import State

from chaos_engine.facts.observe import NodeError, of_host
from chaos_engine.facts.observe.connection import prepare, problem_of
from chaos_engine.operations.engine.remote import BROKEN
from chaos_engine.operations.engine.shell import shell_command

_MARK = "chaos-engine answers"


@dataclass
class _Tried:
    """What came of connecting to a host.

    + problem: why this run could not connect; "" if it has not tried, or has connected
    + lock: several nodes may want the same host at the same time
    """

    problem: str = ""
    lock: BoundedSemaphore = field(default_factory=BoundedSemaphore)


def connect(state: State, name: str, why: str) -> tuple[Host, str]:
    """Connect to a host of the inventory, which ``--limit`` may have left out of the run.

    + name: the host's name in the inventory
    + why: what the connection is for; pyinfra prints it

    Returns the host, and the problem if it cannot be reached, "" if it can. A run tries each host
    once. Raises `NodeError` if the inventory does not have the host.
    """
    host = state.inventory.get_host(name, None)
    if host is None:
        raise NodeError(f"the inventory has no host {name}")
    tried = of_host(_Tried, host)
    with tried.lock:
        if host.connected or tried.problem:
            return host, tried.problem
        try:
            host.connect(reason=why, show_errors=False, raise_exceptions=True)
        except (ConnectError, *BROKEN) as error:
            tried.problem = str(error) or type(error).__name__
        return host, tried.problem


@contextmanager
def as_operation(state: State, host: Host) -> Iterator[None]:
    """Let functions that run commands during an operation work on a host without an operation.

    Until the block ends, the host has the global arguments, such as ``_sudo``, that an operation
    would have there.
    """
    before = host.current_op_global_arguments
    if before is None:
        host.current_op_global_arguments = _arguments(state, host)
    try:
        yield
    finally:
        host.current_op_global_arguments = before


def ask_silently(state: State, host: Host, script: str) -> list[str]:
    """Run a shell script, and return the lines that it printed. pyinfra prints nothing of it.

    The script's output may contain secrets, so no option of pyinfra makes it visible. No operation
    needs to run on the host. Raises `NodeError` with the script's standard error if the script
    fails.
    """
    known = cast("dict[str, Any]", _arguments(state, host))
    arguments = {key: known[key] for key in CONNECTOR_ARGUMENT_KEYS if key in known}
    framed = f"echo; echo {_MARK}\n(\n{script}\n)\nstatus=$?; echo {_MARK}; exit $status"
    try:
        prepare(host, arguments)
        done, output = host.run_shell_command(
            shell_command(framed), print_output=False, print_input=False, **arguments
        )
    except BROKEN as error:
        raise NodeError(problem_of(host, error)) from None
    lines = output.stdout_lines
    if not done or lines.count(_MARK) < 2:
        raise NodeError(problem_of(host, output=output) or output.stderr or "the script failed")
    return lines[lines.index(_MARK) + 1 : -lines[::-1].index(_MARK) - 1]


def _arguments(state: State, host: Host) -> AllArguments:
    """Return the global arguments, such as ``_sudo``, that an operation has on a host."""
    return host.current_op_global_arguments or pop_global_arguments(state, host, {})[0]
