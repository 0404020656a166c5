"""Run contestants side by side, again and again, within a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.results import Labels, Results, say

ROUNDS = 5
"""How often each case is run, unless asked otherwise."""

CONTESTANT = "contestant"
"""The label of who ran; the others say what."""


class OutOfTimeError(Exception):
    """A part's time is over: what was measured is kept, and the same command goes on from there."""


@dataclass(frozen=True)
class Clock:
    """When a part has to end; `end` is of ``time.monotonic``."""

    end: float

    @classmethod
    def minutes(cls, minutes: float) -> Clock:
        """One that ends so many minutes from now."""
        return cls(time.monotonic() + 60 * minutes)

    def check(self) -> None:
        """Raise `OutOfTimeError` if the time is over."""
        if time.monotonic() > self.end:
            raise OutOfTimeError


@dataclass(frozen=True)
class Case:
    """Something to measure.

    + labels: what it is
    + run: does it once and says what it took; raises if it did not do its work
    + prepare: what has to be done before, and is not measured
    """

    labels: Labels
    run: Callable[[], Mapping[str, float]]
    prepare: Callable[[], None] = lambda: None


def interleave(cases: Sequence[Case], results: Results, clock: Clock, rounds: int = ROUNDS) -> None:
    """Run each case ROUNDS times: all once, then all again, so that what disturbs the machine for a
    while disturbs all of them. Each round begins with another one.

    Samples that the results have already count. Raises `OutOfTimeError` when the time is over.
    """
    for number in range(rounds):
        for case in turned(cases, number):
            if results.count(case.labels) > number:
                continue
            clock.check()
            case.prepare()
            values = case.run()
            results.add(case.labels, values)
            said = ", ".join(f"{key} {value:.6g}" for key, value in values.items())
            say(f"{number + 1}/{rounds} {describe(case.labels)}: {said}")


def turned(cases: Sequence[Case], number: int) -> Sequence[Case]:
    """The cases beginning with the NUMBERth."""
    first = number % len(cases) if cases else 0
    return [*cases[first:], *cases[:first]]


def describe(labels: Labels) -> str:
    """Labels in a line."""
    return ", ".join(str(v) if isinstance(v, str) else f"{v} {k}" for k, v in labels.items())
