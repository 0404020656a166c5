"""Write pages about what was measured, from the JSON files: Markdown tables and plots."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.results import Label, Results


@dataclass
class Page:
    """The page of a part.

    + plots: SVG by the name of its file
    """

    title: str
    paragraphs: list[str] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)

    def say(self, *paragraphs: str) -> None:
        """Add paragraphs."""
        self.paragraphs += paragraphs

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table. All columns but the first are numbers."""
        lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
        self.paragraphs.append("\n".join(f"| {' | '.join(line)} |" for line in lines))

    def plot(self, name: str, svg: str, words: str) -> None:
        """Add a plot, and in words what it shows."""
        self.plots[name] = svg
        self.paragraphs.append(f"![{words}]({name})")

    def write(self, results: Results) -> Path:
        """Write the page and its plots beside the results."""
        folder = results.folder
        for name, svg in self.plots.items():
            (folder / name).write_text(svg)
        file = folder / f"{results.part}.md"
        text = "\n\n".join([f"# {self.title}", _origin(results), *self.paragraphs])
        file.write_text(text + "\n")
        return file


def _origin(results: Results) -> str:
    about = results.about
    versions = f"pyinfra {about['pyinfra']}, Python {about['python']}, commit {about['commit']}"
    when = f"{about['begun']} to {about.get('ended', about['begun'])}"
    tools = "".join(f", {name} {found}" for name, found in results.notes.get("tools", {}).items())
    return (
        f"Written by `make bench` from [{results.part}.json]({results.part}.json); changes are "
        f"lost. Measured {when} on a virtual machine with {about['machine']} (load at the "
        f"beginning {about['load']}); {versions}{tools}."
    )


def spread(values: Sequence[float], unit: str = "") -> str:
    """Return the median of values, with the smallest and largest: ``1.20 (1.15 to 1.31) s``."""
    if not values:
        return "-"
    middle = f"{number(statistics.median(values))}"
    around = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
    return f"{middle}{around}{f' {unit}' if unit else ''}"


def number(value: float) -> str:
    """Return a number as text, with three digits or more."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ratio(one: float | None, other: float | None) -> str:
    """Return ONE divided by OTHER, as ``12.5 x``."""
    return f"{number(one / other)} x" if one and other else "-"


def by_scenario(
    results: Results, page: Page, scenarios: Sequence[str], contestants: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Do `against` with a row for each measured scenario, number of hosts and round trip."""
    rows: list[dict[str, Label]] = [
        {"scenario": scenario, "hosts": hosts, "ms round trip": ms}
        for scenario in scenarios
        for hosts in results.labels("hosts")
        for ms in results.labels("ms round trip")
    ]

    def named(row: Mapping[str, Label]) -> str:
        return f"{row['scenario']}, {row['hosts']} nodes, {row['ms round trip']} ms"

    return against(results, page, rows, named, contestants)


def against(
    results: Results,
    page: Page,
    rows: Iterable[Mapping[str, Label]],
    named: Callable[[Mapping[str, Label]], str],
    contestants: Sequence[str],
    value: str = "seconds",
) -> dict[str, dict[str, float]]:
    """Add a table with a column for each contestant, and their ratios to the first one.

    Returns the medians by row and contestant, for a plot.
    """
    first, *others = contestants
    medians: dict[str, dict[str, float]] = {}
    lines = []
    for row in rows:
        found = {c: results.values(value, **row, contestant=c) for c in contestants}
        if not any(found.values()):
            continue
        middle = {c: statistics.median(values) for c, values in found.items() if values}
        medians[named(row)] = middle
        ratios = [ratio(middle.get(other), middle.get(first)) for other in others]
        lines.append([named(row), *(spread(found[c]) for c in contestants), *ratios])
    head = [
        f"{value.replace('_', ' ')}, medians",
        *contestants,
        *(f"{other} : {first}" for other in others),
    ]
    page.table(head, lines)
    return medians
