"""Cut the power at a point of a run, and lose what is not on the card yet.

The point is seen from outside: from the node's processes, its files and the output of pyinfra.
Nothing is put on the node for it, as a power cut would lose that too, or a test would find it.
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
    """SECONDS after pyinfra has begun an operation."""

    name: str
    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        line = re.compile(rf"^--> Starting operation: (?:.* \| )?{re.escape(self.name)} *$", re.M)
        return lambda: line.search(run.output()) is not None


@dataclass(frozen=True)
class Runs:
    """SECONDS after the node has started a program.

    + words: regular expression of its command line
    """

    words: str
    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        wanted = re.compile(self.words)
        return lambda: any(wanted.search(line) for line in run.programs())


@dataclass(frozen=True)
class HasRun:
    """SECONDS after a program of the node has ended."""

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
    """SECONDS after a file of the node was replaced or removed."""

    path: str
    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        before = run.identity(self.path)
        return lambda: run.identity(self.path) != before


@dataclass(frozen=True)
class Rebooting:
    """SECONDS after the node has gone "down" for its reboot, or comes "up" again."""

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
    """SECONDS after the run has ended."""

    seconds: float = 0

    def watch(self, run: Run) -> Reached:
        return lambda: False


Point = Operation | Runs | HasRun | Replaced | Rebooting | Over


class Run:
    """A run of pyinfra over one node, in the background."""

    def __init__(self, cluster: Cluster, node: str, process: subprocess.Popen[bytes], out: Path):
        self.cluster, self.node, self.process, self._out = cluster, node, process, out
        self.leader = nodes.leader(cluster.name, node)
        self._root = f"/proc/{self.leader}/root"
        self._looks = 0
        self._lines: dict[int, tuple[int, str]] = {}

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def output(self) -> str:
        """Return what it has printed so far."""
        return self._out.read_text(errors="replace")

    def programs(self) -> list[str]:
        """Return the command line of each process of the node.

        After ten looks at a process, its command line is read each tenth time only: a look has to
        be quick.
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
        """Return what differs between a file of the node and one that replaces it."""
        try:
            found = os.stat(self._root + path, follow_symlinks=False)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def cut_short(cluster: Cluster, node: str, point: Point, *command: str) -> bool:
    """Begin a run of pyinfra over NODE, and cut the node's power at a point or at the run's end.

    Return whether the point was reached before the end.
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
    # Short events need more frequent looks, and each look at all processes costs time
    pause = {Replaced: 0.002, Runs: 0.005, HasRun: 0.005}.get(type(point), 0.02)
    while not (found := reached()) and not run.has_ended:
        assert time.monotonic() < deadline, f"the run does not end:\n{run.output()[-2000:]}"
        time.sleep(pause)
    # A real power cut comes at any instant, so the point may be some seconds after an event
    over = isinstance(point, Over)
    until = time.monotonic() + (point.seconds if found or over else 0)
    while time.monotonic() < until and (over or not run.has_ended):
        time.sleep(min(0.02, max(0.0, until - time.monotonic())))
    return found or over
