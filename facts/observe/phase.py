"""Know where a run stands on a host: at which stage, and whether a deploy is being prepared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chaos_engine.facts.observe.host import current, part

if TYPE_CHECKING:
    from pyinfra.api.arguments import AllArguments

Moment = tuple[Any, int]
"""The stage of a run, and how many commands it has had on a host: what is true stays so."""


@dataclass
class Preparation:
    """How far a deploy is prepared on a host.

    + phase: what its operations do: only say what they read (collect), only decide (check), or
      register themselves ("")
    + depth: how many deploys around the one that is called have been checked already
    + problems: what the operations have found that forbids to touch the host
    + pending: names of the operations that would change it, each with its reasons
    + arguments: pyinfra's own arguments of an operation that has none, with the deploy's arguments
      that they were resolved for
    """

    phase: Literal["", "collect", "check"] = ""
    depth: int = 0
    problems: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    arguments: tuple[Any, AllArguments] | None = None


@contextmanager
def phase(name: Literal["collect", "check"]) -> Iterator[tuple[list[str], list[str]]]:
    """Have operations of this package only say what they read (collect), or only decide (check).

    Gives two lists: the problems that they find, and the names of those that would change the node.
    """
    at = part(Preparation)
    at.phase, at.problems, at.pending, at.arguments = name, [], [], None
    try:
        yield at.problems, at.pending
    finally:
        at.phase = ""


def moment() -> Moment:
    """Return where the run stands on the current host; a decision holds until that changes."""
    state, host = current()
    executed = sum(data.operation_meta.executed for data in state.ops[host].values())
    return state.current_stage, executed
