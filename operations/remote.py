"""Commands in the middle of an operation, on the node that it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from paramiko import SSHException
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.util import CommandOutput

from chaos_engine.facts.connection import bound, trouble
from chaos_engine.facts.observe import NodeError

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State


def run(state: State, host: Host, command: StringCommand) -> tuple[bool, CommandOutput]:
    """Run a command as the operation's own are: with its sudo, and shown where those are.

    Must be called while an operation runs on the host. Raises `NodeError` if the command has no end
    that can be judged, since the connection or sudo has ended it.
    """
    known = cast("dict[str, Any]", host.current_op_global_arguments or {})
    arguments = {key: known[key] for key in CONNECTOR_ARGUMENT_KEYS if key in known}
    arguments.update(command.connector_arguments)
    bound(host)
    try:
        done, output = host.run_shell_command(
            command, print_output=state.print_output, print_input=state.print_input, **arguments
        )
        problem = "" if done else trouble(host)
    except (EOFError, OSError, SSHException, PyinfraError) as error:
        raise NodeError(trouble(host, error)) from None
    if problem:
        raise NodeError(problem)
    return done, output


def run_script(state: State, host: Host, script: str) -> str | None:
    """Run a shell script; what it said if it failed."""
    done, output = run(state, host, StringCommand("sh", "-c", QuoteString(script)))
    return None if done else output.stderr or output.stdout
