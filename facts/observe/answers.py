"""Keep the values of facts that were read on a host for as long as they are valid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos_engine.facts.observe.fact import NodeFact
from chaos_engine.facts.observe.phase import Moment
from chaos_engine.facts.observe.read import Read

MAX_AGE_SECONDS = 60
"""The age at which answers are read again, because people and timers change nodes too."""


@dataclass
class HostAnswers:
    """What is known of one host, and what the run will read from it.

    + known: the answers, by read and identity (`arguments.identity`)
    + announced: the reads that the run will make, with identities
    + last_moment: how far the run was at the last use of these answers, ``None`` before the first
    + oldest_at: when the oldest answer came, in seconds of the monotonic clock
    + operation_reads: a function that returns the reads of the current operation
    + upcoming_reads: by the hash of each registered operation, a function that returns its reads
    + changing: whether the current operation, or the one before it, has changed the host
    + answered_ahead: the `Moment` whose reads a changing command has already answered; ``None`` if
      there is no such command
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
        """Add values of reads; `identity` tells as whom, and how, they were read."""
        if not self.known:
            self.oldest_at = time.monotonic()
        self.known |= {(read, identity): value for read, value in values.items()}

    def drop_old(self) -> None:
        """Drop all answers if the oldest is older than `MAX_AGE_SECONDS`."""
        if time.monotonic() - self.oldest_at > MAX_AGE_SECONDS:
            self.known.clear()

    def drop_changed(self) -> None:
        """Drop the answers that a change of the host can make wrong.

        Answers about other machines stay.
        """
        self.known = {
            (read, identity): value
            for (read, identity), value in self.known.items()
            if issubclass(read.fact, NodeFact) and read.fact.of_others
        }
