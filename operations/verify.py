"""Report for each concern whether the node is as the settings say. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyinfra import logger
from pyinfra.api.command import FunctionCommand
from pyinfra.api.operation import operation

from chaos_engine.facts.observe import current
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.converge import Commands, fail_host


def print_findings(
    found: Mapping[str, Sequence[str]], remarks: Mapping[str, str] | None = None
) -> str:
    """Print a line for each concern: its problems, or "ok".

    + found: the problems of each concern, by the concern's name; a concern without problems has
      an empty sequence
    + remarks: texts to print after "ok", by the concern's name

    Returns a sentence that names the concerns with problems, "" if there are none.
    """
    host = current()[1]
    width = max(len(concern) for concern in found)
    for concern, problems in found.items():
        if problems:
            text = printable(f"{concern:{width}}  FAILED  {'; '.join(problems)}")
            host.log_styled(text, fg="red", log_func=logger.error)
        else:
            remark = (remarks or {}).get(concern)
            text = f"{concern:{width}}  ok{f', {remark}' if remark else ''}"
            host.log_styled(printable(text), fg="green")
    failed = ", ".join(concern for concern, problems in found.items() if problems)
    why = f"not as wanted: {failed}; see the lines above. deploy.py fixes what it can"
    return why if failed else ""


@operation()
def fail_node(why: str) -> Commands:
    """Fail the host, so that pyinfra's exit code is not 0.

    + why: the sentence that `print_findings` returned; if it is "", the host does not fail
    """
    if why:
        yield FunctionCommand(fail_host, (why,), {})
