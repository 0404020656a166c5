"""Store how far a run is on a host: pyinfra's stage, a deploy's phase, and a count of commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from pyinfra.api.arguments import AllArguments

from chaos_engine.facts.observe.host import current, of_host

Moment = tuple[Any, int]
"""pyinfra's stage of a run, and the number of commands that the run has executed on a host. As long
as both stay the same, the run does not change the host."""


@dataclass
class Preparation:
    """The state of a deploy on a host while pyinfra prepares the run.

    + phase: "collect" while operations only announce which facts they will read, "check" while
      operations only decide what to do, "" while operations register themselves with pyinfra
    + depth: 1 after a deploy's check, while the deploy registers its operations; otherwise 0. The
      value stays 1 in each deploy that this deploy calls
    + problems: the operations' reasons to refuse the host
    + pending: names of the operations that would change the host, each with its reasons
    + arguments: two dictionaries of pyinfra's global arguments, such as ``_sudo``. The first
      dictionary was given to the current deploy. The second dictionary applies to the deploy's
      operations. The value is ``None`` until an operation needs the arguments
    """

    phase: Literal["", "collect", "check"] = ""
    depth: int = 0
    problems: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    arguments: tuple[Any, AllArguments] | None = None


@contextmanager
def phase(name: Literal["collect", "check"]) -> Iterator[tuple[list[str], list[str]]]:
    """Make operations do only one part of their work until the block ends.

    + name: with "collect" the operations only announce which facts they will read. With "check"
      they only decide what to do

    Yields two lists that the operations fill. The first has the problems that operations find. The
    second has the names of the operations that would change the node.

    **Example:** ``with phase("check") as (problems, pending): worker(settings)``
    """
    at = of_host(Preparation)
    at.phase, at.problems, at.pending, at.arguments = name, [], [], None
    try:
        yield at.problems, at.pending
    finally:
        at.phase = ""


def moment() -> Moment:
    """Return the run's stage, and the number of commands executed on the current host.

    An operation's decision stays valid as long as both values stay the same.
    """
    state, host = current()
    executed = sum(data.operation_meta.executed for data in state.ops[host].values())
    return state.current_stage, executed
