"""Store the values of facts that were read on a host, and drop the values that may be outdated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos_engine.facts.observe.fact import NodeFact
from chaos_engine.facts.observe.phase import Moment
from chaos_engine.facts.observe.read import Read

MAX_AGE_SECONDS = 60
"""The age in seconds at which a stored answer is dropped. People and timers may have changed the
node by then."""


@dataclass
class HostAnswers:
    """The facts that a run has read on one host, and the facts that it will still read there.

    + known: the values that were read. A key is a pair: a `Read` (a fact with its arguments), and
      the identity with which the fact was read (`arguments.identity`)
    + announced: the facts that the run will read. The keys are pairs as in `known`, and each value
      is ``None``
    + last_moment: the `Moment` of the last use of these answers, ``None`` before the first use
    + oldest_at: the time when the oldest value was read, in seconds of the monotonic clock
    + operation_reads: a function that returns the facts that the current operation reads
    + upcoming_reads: one function for each registered operation. The key is the operation's hash.
      The function returns the facts that the operation will read
    + changing: whether the current operation, or the operation before it, has changed the host
    + answered_ahead: if the last command also read the facts for the next operation (`Ahead`), the
      `Moment` right after this command; otherwise ``None``
    """

    known: dict[tuple[Read, Any], Any] = field(default_factory=dict)
    announced: dict[tuple[Read, Any], None] = field(default_factory=dict)
    last_moment: Moment | None = None
    oldest_at: float = 0.0
    operation_reads: Callable[[], Iterable[Read]] = tuple
    upcoming_reads: dict[str, Callable[[], Iterable[Read]]] = field(default_factory=dict)
    changing: bool = False
    answered_ahead: Moment | None = None

    def keep(self, values: Mapping[Read, Any], identity: tuple[str, ...]) -> None:
        """Store the values of facts that were read with one identity (`arguments.identity`)."""
        if not self.known:
            self.oldest_at = time.monotonic()
        self.known |= {(read, identity): value for read, value in values.items()}

    def drop_old(self) -> None:
        """Drop all answers if the oldest is older than `MAX_AGE_SECONDS`."""
        if time.monotonic() - self.oldest_at > MAX_AGE_SECONDS:
            self.known.clear()

    def drop_changed(self) -> None:
        """Drop the answers that a change of the host may have made wrong.

        Keeps the answers of facts about other machines (`NodeFact.of_others`).
        """
        self.known = {
            (read, identity): value
            for (read, identity), value in self.known.items()
            if issubclass(read.fact, NodeFact) and read.fact.of_others
        }
