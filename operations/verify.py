"""Report whether a node is as wanted, concern by concern. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyinfra import logger
from pyinfra.api.command import FunctionCommand
from pyinfra.api.operation import operation

from chaos_engine.facts.observe import current
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.converge import Commands, fail_host


def report(found: Mapping[str, Sequence[str]]) -> bool:
    """Print a line for each concern: what is wrong with it, or that it is as wanted.

    + found: what is wrong, by concern; empty for a concern that is as wanted

    Returns whether all concerns are as wanted.
    """
    host = current()[1]
    width = max(len(concern) for concern in found)
    for concern, problems in found.items():
        if problems:
            text = printable(f"{concern:{width}}  FAILED  {'; '.join(problems)}")
            host.log_styled(text, fg="red", log_func=logger.error)
        else:
            host.log_styled(f"{concern:{width}}  ok", fg="green")
    return not any(found.values())


@operation()
def judge(failed: Sequence[str]) -> Commands:
    """Fail the host if a concern is not as wanted, so that the exit code says so.

    + failed: the names of the concerns that are not as wanted
    """
    if failed:
        yield FunctionCommand(fail_host, (verdict(failed),), {})


def verdict(failed: Sequence[str]) -> str:
    """Return the last sentence about a node whose concerns `failed` are not as wanted."""
    return f"not as wanted: {', '.join(failed)}; why stands above, and deploy.py fixes what it can"
