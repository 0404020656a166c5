"""Run contestants in turns, again and again, within a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.results import Labels, Results, say

ROUNDS = 5
"""Number of times that each case is run by default."""

CONTESTANT = "contestant"
"""The label that says who ran. The other labels say what."""


class OutOfTimeError(Exception):
    """The time of a part is over. Its samples are kept, and the same command continues it."""


@dataclass(frozen=True)
class Clock:
    """The time at which a part has to end, by ``time.monotonic``."""

    end: float

    @classmethod
    def minutes(cls, minutes: float) -> Clock:
        """Return a clock that ends in so many minutes."""
        return cls(time.monotonic() + 60 * minutes)

    def check(self) -> None:
        """Raise `OutOfTimeError` if the time is over."""
        if time.monotonic() > self.end:
            raise OutOfTimeError


@dataclass(frozen=True)
class Case:
    """Something to measure.

    + labels: what it is
    + run: does it once, and returns what it took; raises if it did not do its work
    + prepare: does what is needed before, and is not measured
    """

    labels: Labels
    run: Callable[[], Mapping[str, float]]
    prepare: Callable[[], None] = lambda: None


def interleave(cases: Sequence[Case], results: Results, clock: Clock, rounds: int = ROUNDS) -> None:
    """Run each case ROUNDS times, in rounds: what disturbs the machine then disturbs all cases.

    Each round begins with another case. Samples that the results have already count. Raises
    `OutOfTimeError` when the time is over.
    """
    for number in range(rounds):
        for case in turned(cases, number):
            if results.count(case.labels) > number:
                continue
            clock.check()
            case.prepare()
            values = case.run()
            results.add(case.labels, values)
            measured = ", ".join(f"{key} {value:.6g}" for key, value in values.items())
            say(f"{number + 1}/{rounds} {describe(case.labels)}: {measured}")


def turned(cases: Sequence[Case], number: int) -> Sequence[Case]:
    """Return the cases in order, beginning with the NUMBERth."""
    first = number % len(cases) if cases else 0
    return [*cases[first:], *cases[:first]]


def describe(labels: Labels) -> str:
    """Return labels in a line."""
    return ", ".join(str(v) if isinstance(v, str) else f"{v} {k}" for k, v in labels.items())
