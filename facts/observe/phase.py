"""Tell how far a run is on a host: its stage, its number of commands, and a deploy's phase."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from pyinfra.api.arguments import AllArguments

from chaos_engine.facts.observe.host import current, part

Moment = tuple[Any, int]
"""pyinfra's stage of a run, and how many commands the run has executed on a host. While neither
changes, the run does not change the host."""


@dataclass
class Preparation:
    """The preparation of a deploy on a host.

    + phase: what the deploy's operations do now: only announce their reads ("collect"), only decide
      ("check"), or register themselves with pyinfra ("")
    + depth: 1 while a deploy that has passed its check registers its operations, also in the
      deploys that it calls; otherwise 0
    + problems: the reasons why the operations refuse the host
    + pending: names of the operations that would change the host, each with its reasons
    + arguments: the global arguments that pyinfra has for the deploy, and those that an operation
      in that deploy inherits if it gives none of its own; ``None`` if not resolved yet
    """

    phase: Literal["", "collect", "check"] = ""
    depth: int = 0
    problems: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    arguments: tuple[Any, AllArguments] | None = None


@contextmanager
def phase(name: Literal["collect", "check"]) -> Iterator[tuple[list[str], list[str]]]:
    """Make operations only announce their reads ("collect"), or only decide ("check").

    This lasts until the block ends. Yields two lists, which the operations fill: the problems that
    they find, and the names of the operations that would change the node.

    **Example:** ``with phase("check") as (problems, pending): worker(settings)``
    """
    at = part(Preparation)
    at.phase, at.problems, at.pending, at.arguments = name, [], [], None
    try:
        yield at.problems, at.pending
    finally:
        at.phase = ""


def moment() -> Moment:
    """Return how far the run is on the current host. A decision is valid until this changes."""
    state, host = current()
    executed = sum(data.operation_meta.executed for data in state.ops[host].values())
    return state.current_stage, executed
