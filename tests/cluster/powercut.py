"""Power cuts that lose what is not on the card yet, at a point of a run that is seen from outside.

The node's processes, its files and what pyinfra says are looked at without a break; nothing is put
on the node for it, as that would be lost, or found, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster
from tests.lab import nodes
from tests.lab.cgroup import Group

_RUN_SECONDS = 900
_NEW_LOOKS = 10

Reached = Callable[[], bool]


@dataclass(frozen=True)
class Operation:
    """When pyinfra has begun an operation, SECONDS later."""

    name: str
    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        line = re.compile(rf"^--> Starting operation: (?:.* \| )?{re.escape(self.name)} *$", re.M)
        return lambda: line.search(run.said()) is not None


@dataclass(frozen=True)
class Runs:
    """When the node runs a program, SECONDS later.

    + words: regular expression of its command line
    """

    words: str
    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        wanted = re.compile(self.words)
        return lambda: any(wanted.search(line) for line in run.programs())


@dataclass(frozen=True)
class HasRun:
    """When the node has run a program to its end, SECONDS later."""

    words: str
    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        runs = Runs(self.words).watch(run)
        seen = False

        def reached() -> bool:
            nonlocal seen
            before, seen = seen, runs()
            if before and not seen:
                return True
            seen |= before
            return False

        return reached


@dataclass(frozen=True)
class Replaced:
    """When a file of the node is another one, or none any more, SECONDS later."""

    path: str
    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        before = run.identity(self.path)
        return lambda: run.identity(self.path) != before


@dataclass(frozen=True)
class Rebooting:
    """When the node is down for its reboot, or comes up again, SECONDS later."""

    moment: str
    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        before = run.leader

        def reached() -> bool:
            now = nodes.leader(run.cluster.name, run.node)
            return now != before and (self.moment == "down" or now is not None)

        return reached


@dataclass(frozen=True)
class Over:
    """When the run has ended."""

    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        return lambda: False


Point = Operation | Runs | HasRun | Replaced | Rebooting | Over


class Run:
    """A run of pyinfra over one node that has begun."""

    def __init__(self, cluster: Cluster, node: str, process: subprocess.Popen[bytes], out: Path):
        self.cluster, self.node, self.process, self._out = cluster, node, process, out
        self.leader = nodes.leader(cluster.name, node)
        self._root = f"/proc/{self.leader}/root"
        self._looks = 0
        self._lines: dict[int, tuple[int, str]] = {}

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        """Return what it has printed."""
        return self._out.read_text(errors="replace")

    def programs(self) -> list[str]:
        """Return the command line of each process of the node.

        That of one that is not new is read again each tenth time only: a look has to be quick.
        """
        self._looks += 1
        before, self._lines = self._lines, {}
        for process in Group.of(self.cluster.name, self.node).processes():
            since, line = before.get(process, (self._looks, ""))
            if self._looks - since < _NEW_LOOKS or self._looks % _NEW_LOOKS == 0:
                try:
                    raw = Path(f"/proc/{process}/cmdline").read_bytes()
                except OSError:  # ended meanwhile
                    continue
                line = raw.replace(b"\0", b" ").decode(errors="replace").strip()
            self._lines[process] = since, line
        return [line for _, line in self._lines.values()]

    def identity(self, path: str) -> tuple[int, int] | None:
        """Return what tells a file of the node from the one that replaces it."""
        try:
            found = os.stat(self._root + path, follow_symlinks=False)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def cut_short(cluster: Cluster, node: str, point: Point, *command: str) -> bool:
    """Begin a run of pyinfra over NODE and cut the node's power at the point, or at the run's end.

    Return whether the point was reached before that.
    """
    with _begun(cluster, node, command) as run:
        reached = _reach(run, point)
        nodes.cut(cluster.name, node, lose=True)
        run.process.kill()
        run.process.wait()
        return reached


@contextmanager
def _begun(cluster: Cluster, node: str, command: tuple[str, ...]) -> Iterator[Run]:
    words = ["run", "--", sys.executable, "-m", "pyinfra", "inventory.py", *command]
    with TemporaryDirectory(prefix="chaos-powercut-") as folder:
        out = Path(folder, "out")
        with out.open("wb") as file:
            process = subprocess.Popen(
                [LAB, "--name", cluster.name, *words, "-y", "--limit", node],
                cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            yield Run(cluster, node, process, out)
        finally:
            process.kill()
            process.wait()


def _reach(run: Run, point: Point) -> bool:
    deadline = time.monotonic() + _RUN_SECONDS
    reached = point.watch(run)
    # What lasts a moment only is looked for more often; each look at all processes costs
    pause = {Replaced: 0.002, Runs: 0.005, HasRun: 0.005}.get(type(point), 0.02)
    while not (found := reached()) and not run.has_ended:
        assert time.monotonic() < deadline, f"the run does not end:\n{run.said()[-2000:]}"
        time.sleep(pause)
    # The point is this much later; the power goes at an instant, not when something has happened
    over = isinstance(point, Over)
    until = time.monotonic() + (point.seconds if found or over else 0)
    while time.monotonic() < until and (over or not run.has_ended):
        time.sleep(min(0.02, max(0.0, until - time.monotonic())))
    return found or over
