"""Options and labs of all parts of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.bench import nodes
from tests.bench.measure import Clock
from tests.bench.results import Results, about
from tests.cluster.virtual_cluster import Cluster

LAB = "bench"
"""The lab of the parts that need no other one."""


@dataclass(frozen=True)
class Options:
    """The options of a part.

    + folder: where its results go
    + rounds: how many times each case is run
    + clock: when it has to end
    + quick: whether to run a small case to see that it works; its measurements mean nothing
    """

    folder: Path
    rounds: int
    clock: Clock
    quick: bool = False

    def results(self, part: str) -> Results:
        """Return the part's results so far."""
        return Results.resume(part, about(), self.folder)

    def sizes(self, *full: int) -> tuple[int, ...]:
        """Return the numbers of hosts to measure with."""
        return (2,) if self.quick else full

    def lab(self, size: int) -> Cluster:
        """Return the lab with at least so many workers. Start it if it is not up."""
        workers, storage = ("pi1,pi5", "1") if self.quick else ("10", "3")
        cluster = nodes.lab(LAB, "--workers", workers, "--storage", storage)
        if missing := set(hosts_of(size)) - set(cluster.workers):
            raise SystemExit(
                f"the lab {LAB} lacks {', '.join(sorted(missing))}; remove it first: "
                f"tests/lab/lab --name {LAB} down"
            )
        return cluster


def hosts_of(size: int) -> tuple[str, ...]:
    """Return so many hosts of the site's inventory, the proxy among them."""
    if size == 2:
        return ("pi1", "pi5")
    return nodes.FOUR if size == 4 else tuple(f"pi{number}" for number in range(1, size + 1))
