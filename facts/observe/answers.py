"""Keep what a host has answered, until it may answer in another way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from chaos_engine.facts.observe.batch import Read
from chaos_engine.facts.observe.fact import NodeFact
from chaos_engine.facts.observe.phase import Moment

MAX_AGE_SECONDS = 60
"""An answer older than this is read again: people and timers change nodes too."""


@dataclass
class Answers:
    """What is known of one host, and what the run will ask of it.

    + known: the answers, by what was asked and as whom
    + wanted: what the run will ask, and as whom
    + stamp: when the run asked last, ``None`` before the first time
    + at: when the oldest answer came, in seconds of the monotonic clock
    + own: says what the operation at work asks
    + coming: says what each operation that was registered will ask, by its hash
    + changing: whether the operation at work changes the host
    + ahead: the moment for which a changing command has answered already, ``None`` for none
    """

    known: dict[tuple[Read, Any], Any] = field(default_factory=dict)
    wanted: dict[tuple[Read, Any], None] = field(default_factory=dict)
    stamp: Moment | None = None
    at: float = 0.0
    own: Callable[[], Iterable[Read]] = tuple
    coming: dict[str, Callable[[], Iterable[Read]]] = field(default_factory=dict)
    changing: bool = False
    ahead: Moment | None = None

    def learn(self, reads: Iterable[Read], identity: tuple[str, ...], value: Any) -> None:
        """Keep the value that answers all of these, each with its own names."""
        if not self.known:
            self.at = time.monotonic()
        for read in reads:
            own = value
            if read.names and isinstance(value, dict):
                own = {name: value[name] for name in read.names if name in value}
            self.known[read, identity] = own

    def drop_old(self) -> None:
        """Drop all answers if the oldest is too old."""
        if time.monotonic() - self.at > MAX_AGE_SECONDS:
            self.known.clear()

    def drop_changed(self) -> None:
        """Drop what the host may answer in another way once it was changed."""
        self.known = {key: value for key, value in self.known.items() if _of_others(key[0])}


def _of_others(read: Read) -> bool:
    return issubclass(read.fact, NodeFact) and read.fact.of_others
