"""Run pyinfra on several computers at once, over nodes of one cluster.

The lab has one computer. A run of another has another host name, which is what Leases name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click import unstyle

from tests.cluster.joined import store
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster, limits

_AS_COMPUTER = 'hostname "$0" && exec "$@"'


@dataclass
class Run:
    """A run of pyinfra that was started.

    + computer: the host name of its computer
    """

    computer: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return unstyle(self.output.read_text())

    def wait(self, seconds: float = 900) -> int:
        """Wait for its end, and return its exit status."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Kill it as a power failure of its computer does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def run(cluster: Cluster, computer: str, nodes: Iterable[str], *arguments: str) -> Iterator[Run]:
    """Run pyinfra over some nodes, as a computer of that name. Kill it if the block ends first."""
    command = ("unshare", "--uts", "sh", "-c", _AS_COMPUTER, computer, "pyinfra", "inventory.py")
    file, name = tempfile.mkstemp(prefix=f"{computer}-", suffix=".log")
    process = subprocess.Popen(
        (LAB, "--name", cluster.name, "run", "--", *command, *arguments, "-y", *limits(nodes)),
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=subprocess.STDOUT,
    )
    os.close(file)
    try:
        yield Run(computer, process, Path(name))
    finally:
        process.kill()
        process.wait(10)
        os.unlink(name)


def racks(cluster: Cluster) -> tuple[list[str], list[str]]:
    """Return the workers in two halves."""
    half = len(cluster.workers) // 2
    return cluster.workers[:half], cluster.workers[half:]


def holders(cluster: Cluster) -> dict[str, str]:
    """Return who holds which Lease of turns."""
    with store(cluster).transaction() as kept:
        found = kept.of("leases", "kube-system")
    held = {item["metadata"]["name"]: item["spec"].get("holderIdentity") for item in found}
    return {name: holder for name, holder in held.items() if holder}
