"""Tell how far a run is on a host: its stage, and whether a deploy is being prepared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from chaos_engine.facts.observe.host import current, part

if TYPE_CHECKING:
    from pyinfra.api.arguments import AllArguments

Moment = tuple[Any, int]
"""The stage of a run, and how many commands it has run on a host. While both stay the same, so does
the host's state."""


@dataclass
class Preparation:
    """The preparation of a deploy on a host.

    + phase: what the deploy's operations do now: only announce their reads ("collect"), only decide
      ("check"), or register themselves with pyinfra ("")
    + depth: how many of the deploys around the current one have been checked already
    + problems: why the host must be refused, as the operations found
    + pending: names of the operations that would change the host, each with its reasons
    + arguments: pyinfra's global arguments of an operation that is called with none, with the
      deploy's arguments that they were resolved for; ``None`` if not resolved yet
    """

    phase: Literal["", "collect", "check"] = ""
    depth: int = 0
    problems: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    arguments: tuple[Any, AllArguments] | None = None


@contextmanager
def phase(name: Literal["collect", "check"]) -> Iterator[tuple[list[str], list[str]]]:
    """Have operations only announce their reads ("collect"), or only decide ("check").

    Yields two lists, which the operations fill: the problems that they find, and the names of the
    operations that would change the node.

    **Example:** ``with phase("check") as (problems, pending): worker(settings)``
    """
    at = part(Preparation)
    at.phase, at.problems, at.pending, at.arguments = name, [], [], None
    try:
        yield at.problems, at.pending
    finally:
        at.phase = ""


def moment() -> Moment:
    """Return how far the run is on the current host. A decision is valid until that changes."""
    state, host = current()
    executed = sum(data.operation_meta.executed for data in state.ops[host].values())
    return state.current_stage, executed
