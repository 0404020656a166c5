"""Run benchmarks: ``python -m tests.bench [PART...]``, all parts if none is named.

Each part writes PART.json, PART.md and its plots into docs/benchmarks. An interrupted part
continues where it was. A complete one only writes its pages, unless --fresh is given.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Protocol

from tests.bench.measure import ROUNDS, Clock, OutOfTimeError
from tests.bench.nodes import WORK
from tests.bench.parts import ansible, card, commands, failover, limit, many, poor, read, scale
from tests.bench.parts.options import LAB, Options
from tests.bench.report import Page
from tests.bench.results import FOLDER, Results, say
from tests.cluster.virtual_cluster import Cluster


class Part(Protocol):
    """A part of the benchmarks, a module of `tests.bench.parts`."""

    PART: str
    MINUTES: int

    def run(self, options: Options) -> None:
        """Measure what is still missing."""

    def report(self, results: Results) -> Page:
        """Return a page about what was measured."""


PARTS: dict[str, Part] = {
    part.PART: part for part in (commands, limit, read, ansible, scale, many, card, poor, failover)
}
LABS = {
    "scale": ("bench-template", "bench-scale"),
    "card": ("bench-card",),
    "poor": (poor.LAB,),
    "failover": (failover.LAB_NAME,),
}


def main() -> int:
    """Read the command line, measure, write the pages."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each case")
    parser.add_argument("--minutes", type=float, help="the most that one part may take")
    parser.add_argument("--fresh", action="store_true", help="forget earlier samples")
    parser.add_argument("--keep", action="store_true", help="leave the labs up")
    parser.add_argument("--report", action="store_true", help="write the pages only")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a small lab and one sample, into {WORK.name}/quick: only to see that all works",
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    # With this variable Python would compile our modules anew in each run. Without it the deploy
    # that each part begins with compiles them, which is not measured
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    folder = WORK / "quick" if options.quick else FOLDER
    chosen = options.parts or list(PARTS)
    ended = [_one(PARTS[name], folder, options) for name in chosen]
    folder.mkdir(parents=True, exist_ok=True)
    write_index(folder)
    if not options.keep and not options.report:
        for name in dict.fromkeys(lab for part in chosen for lab in LABS.get(part, (LAB,))):
            Cluster(name).down()
    return 0 if all(ended) else 1


def write_index(folder: Path) -> None:
    """Write the folder's README, which lists the pages."""
    lines = ["# Benchmarks", "", "Written by `make bench`; [what a run costs](../performance.md)."]
    for name, part in PARTS.items():
        results = Results.load(name, folder)
        title = part.report(results).title if results.samples else ""
        when = f", {results.about.get('ended')}" if title else ""
        entry = f"[{title}]({name}.md){when}" if title else f"`{name}`: not measured yet"
        lines += ["", f"- {entry}"]
    (folder / "README.md").write_text("\n".join(lines) + "\n")


def _one(part: Part, folder: Path, options: argparse.Namespace) -> bool:
    """Run one part. Tell whether it came to its end."""
    file = folder / f"{part.PART}.json"
    if options.fresh and not options.report:
        file.unlink(missing_ok=True)
    ended = True
    if not options.report:
        say(f"part {part.PART}")
        clock = Clock.minutes(options.minutes or part.MINUTES)
        rounds = 1 if options.quick else options.rounds
        try:
            part.run(Options(folder, rounds, clock, options.quick))
        except OutOfTimeError:
            say(f"part {part.PART}: its time is over; the same command goes on from here")
            ended = False
    if file.exists():
        results = Results.load(part.PART, folder)
        say(f"wrote {part.report(results).write(results)}")
    return ended


if __name__ == "__main__":
    sys.exit(main())
