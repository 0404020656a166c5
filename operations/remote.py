"""Commands in the middle of an operation, on the node that it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.connectors.util import CommandOutput

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State


def run(state: State, host: Host, command: StringCommand) -> tuple[bool, CommandOutput]:
    """Run a command as the operation's own are: with its sudo, and shown where those are.

    Must be called while an operation runs on the host.
    """
    known = cast("dict[str, Any]", host.current_op_global_arguments or {})
    arguments = {key: known[key] for key in CONNECTOR_ARGUMENT_KEYS if key in known}
    arguments.update(command.connector_arguments)
    return host.run_shell_command(
        command, print_output=state.print_output, print_input=state.print_input, **arguments
    )


def run_script(state: State, host: Host, script: str) -> str | None:
    """Run a shell script; what it said if it failed."""
    done, output = run(state, host, StringCommand("sh", "-c", QuoteString(script)))
    return None if done else output.stderr or output.stdout
