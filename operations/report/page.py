"""Make the page of a report: one HTML file, with an SVG diagram for each node. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

from chaos_engine.facts.text import printable
from chaos_engine.operations.report.contents import NodeReport, Report, worn_words
from chaos_engine.operations.report.fixes import WRITES, address
from chaos_engine.operations.report.wear import DAY, Point
from chaos_engine.templates import render_page

WIDTH, HEIGHT, MARGIN = 320, 72, 6
"""Width and height of a node's diagram, and the space between its edges and the line, in SVG
units."""


@dataclass(frozen=True)
class Dot:
    """A point in a node's diagram: its coordinates, and the values that it shows."""

    x: float
    y: float
    point: Point


@dataclass(frozen=True)
class Plot:
    """A node's diagram: a line that shows how much was written to the node's card per day.

    + dots: the points, oldest first. Time goes to the right, and 0 MB a day is at the bottom
    + most: the value at the top, in MB a day
    """

    dots: tuple[Dot, ...]
    most: float

    @property
    def line(self) -> str:
        """Return the coordinates of the line, for an SVG polyline."""
        return " ".join(f"{dot.x:g},{dot.y:g}" for dot in self.dots)


def plot(points: Sequence[Point]) -> Plot:
    """Return a node's diagram of these points."""
    times = [point.time for point in points]
    most = max((point.mb_a_day for point in points), default=0.0)
    first, span = min(times, default=0), max(times, default=0) - min(times, default=0)
    return Plot(
        tuple(
            Dot(
                round(MARGIN + (point.time - first) / (span or 1) * (WIDTH - 2 * MARGIN), 1),
                round(HEIGHT - MARGIN - point.mb_a_day / (most or 1) * (HEIGHT - 2 * MARGIN), 1),
                point,
            )
            for point in points
        ),
        most,
    )


def html(report: Report, documents: str) -> str:
    """Return the HTML of a report's page.

    + documents: the address of the documents (`fixes.documents`), "" if there are no documents
    """
    read = [node for node in report.nodes if not node.unread]
    return render_page(
        "report.html.j2",
        report=report,
        bad=[node for node in report.nodes if node.problems],
        total=total(read),
        rated=any(node.rating_tb is not None for node in read),
        worn_words=worn_words,
        plot=plot,
        size=(WIDTH, HEIGHT),
        href=partial(address, pattern=documents),
        writes=WRITES,
        date=date,
        amount=amount,
        duration=duration,
        years=years,
        text=printable,
    )


def total(nodes: Sequence[NodeReport]) -> float | None:
    """Return how many MB a day all nodes together have written since they booted.

    Returns ``None`` if it is unknown for all nodes.
    """
    rates = [node.wear.since_boot for node in nodes if node.wear and node.wear.since_boot]
    return round(sum(rate.mb_a_day for rate in rates), 3) if rates else None


def date(seconds: int) -> str:
    """Return a time in UTC, such as "2026-11-29 08:15"."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M")


def amount(count: float) -> str:
    """Return a number of bytes with a decimal unit, such as "5.2 MB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit, such as "3.5 days" or "20 minutes"."""
    for unit, factor in (("days", DAY), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} seconds"


def years(node: NodeReport) -> str:
    """Return how many years a node's card will last, such as "12 to 20"; "" if unknown."""
    wear = node.wear
    if wear is None or wear.years_least is None or wear.years_most is None:
        return ""
    least, most = (_rounded(number) for number in (wear.years_least, wear.years_most))
    return least if least == most else f"{least} to {most}"


def _rounded(number: float) -> str:
    if number > 100:
        return "over 100"
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"
