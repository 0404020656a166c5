"""Compute how many bytes are written to a card per day, and how long the card will last.

All functions are pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chaos_engine.facts.observe import Value

DAY = 86_400
YEAR = 365.25 * DAY
MB = 1_000_000
TB = 1_000_000_000_000
"""MB and TB are decimal, as on cards and in their ratings."""

SHORTEST = 3600
"""The shortest period, in seconds, that is used to estimate a card's life. A shorter period says
little, because a boot writes much in a few minutes."""


@dataclass(frozen=True)
class Sample(Value):
    """The counters of a node's card at the time of one report.

    + time: when the report was made, in seconds since 1970, by the clock of the user's computer
    + card: a text that identifies the card: its device, model and serial number
    + boot_id: the ID of the node's boot. At each boot, the counters start at 0
    + written: bytes written since that boot
    + uptime: seconds since that boot
    """

    time: int
    card: str
    boot_id: str
    written: int
    uptime: float


@dataclass(frozen=True)
class Rate(Value):
    """How much was written in a period.

    + mb_a_day: millions of bytes a day
    + seconds: the length of the period
    """

    mb_a_day: float
    seconds: float


@dataclass(frozen=True)
class Point(Value):
    """A point in a node's diagram: how much was written per day before a report.

    + time: when the report was made, in seconds since 1970
    + mb_a_day: millions of bytes a day since the previous report, or since the node's boot if that
      was later
    """

    time: int
    mb_a_day: float


@dataclass(frozen=True)
class Wear(Value):
    """How fast a card is written to, and how long it will last.

    + since_boot: what was written since the boot, ``None`` if the node has just booted
    + since_report: what was written since the previous report; ``None`` if there is no previous
      report, or if the node has booted or got another card since the previous report
    + known_bytes: bytes that were written to this card, as far as the reports tell
    + years_least: years until the card has reached its rating, computed from the faster one of the
      two rates above; ``None`` if there is no rating, or if no rate can be used
    + years_most: the same, computed from the slower rate

    A rate cannot be used if nothing was written, or if its period is shorter than `SHORTEST`. If
    only one rate can be used, both numbers of years come from that rate.
    """

    since_boot: Rate | None
    since_report: Rate | None
    known_bytes: int
    years_least: float | None
    years_most: float | None


def wear(samples: Sequence[Sample], rating_tb: float | None) -> Wear:
    """Return how fast a card is written to, and how long it will last.

    + samples: the counters of all reports about the node, oldest first. The last item has the
      present counters
    + rating_tb: how many TB can be written to the card according to its maker (the card's rating),
      ``None`` if unknown
    """
    now = samples[-1]
    before = samples[-2] if len(samples) > 1 else None
    since_boot = _rate(now.written, now.uptime)
    since_report = None
    if before is not None and _continues(before, now):
        since_report = _rate(now.written - before.written, now.uptime - before.uptime)
    known = known_bytes(samples)
    long_enough = [r for r in (since_boot, since_report) if r is not None and r.seconds >= SHORTEST]
    years = [
        max(rating_tb * TB - known, 0) / (rate.mb_a_day * MB / DAY) / YEAR
        for rate in long_enough
        if rating_tb is not None and rate.mb_a_day > 0
    ]
    return Wear(
        since_boot=since_boot,
        since_report=since_report,
        known_bytes=known,
        years_least=round(min(years), 2) if years else None,
        years_most=round(max(years), 2) if years else None,
    )


def known_bytes(samples: Sequence[Sample]) -> int:
    """Return how many bytes were written to the present card, as far as the samples tell.

    The bytes written between a report and the next reboot are in no sample, so they are not
    counted.
    """
    known, before = 0, None
    for sample in samples:
        if before is None or before.card != sample.card:
            known = sample.written
        elif _continues(before, sample):
            known += sample.written - before.written
        else:
            known += sample.written
        before = sample
    return known


def points(samples: Sequence[Sample]) -> list[Point]:
    """Return a point of the diagram for each sample.

    A point's rate covers the period since the previous sample, or since the node's boot if the boot
    was later. A sample has no point if this period is shorter than one second.
    """
    found = []
    for before, sample in zip([None, *samples], samples, strict=False):
        if before is not None and _continues(before, sample):
            rate = _rate(sample.written - before.written, sample.uptime - before.uptime)
        else:
            rate = _rate(sample.written, sample.uptime)
        if rate is not None:
            found.append(Point(sample.time, rate.mb_a_day))
    return found


def _continues(before: Sample, after: Sample) -> bool:
    """Tell whether two samples have the counters of the same card in the same boot."""
    return (
        (before.card, before.boot_id) == (after.card, after.boot_id)
        and before.written <= after.written
        and before.uptime <= after.uptime
    )


def _rate(written: int, seconds: float) -> Rate | None:
    """Return the rate in a period, ``None`` if the period is shorter than one second.

    + written: bytes written in the period
    + seconds: the length of the period
    """
    if seconds < 1:
        return None
    return Rate(round(written / MB * DAY / seconds, 3), round(seconds, 1))
