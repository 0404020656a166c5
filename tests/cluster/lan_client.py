"""Run clients of the API's address (`api_client.py`) in the background of a test, on the LAN or on
nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster

CLIENT = "tests/cluster/api_client.py"

API = "192.168.1.60:6443"
"""The address of the Kubernetes API."""

CONTROLLERS = {"pi1", "pi4", "pi7"}
"""The names of the nodes that answer there."""

Json = dict[str, Any]


class Client:
    """A program of `tests/cluster` that runs in the background and reports in lines of JSON.

    + node: where it runs; None for the computer on the LAN
    + program: its path below the checkout. On a node it needs nothing but Python
    """

    def __init__(
        self, cluster: Cluster, *arguments: str, node: str | None = None, program: str = CLIENT
    ) -> None:
        where = ["run", "--", sys.executable, program]
        if node is not None:
            where = ["exec", node, "--", "python3", "-c", (CHECKOUT / program).read_text()]
        self.process = subprocess.Popen(
            [LAB, "--name", cluster.name, *where, *arguments],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def events(self) -> Iterator[Json]:
        """Yield what it reports, as it comes."""
        assert self.process.stdout
        return (json.loads(line) for line in self.process.stdout)

    def until(self, event: str) -> Json:
        """Read until an event of this name, and return that."""
        return next(one for one in self.events() if one.get("event") == event)

    def stop(self) -> Json:
        """Stop it, and return its last report."""
        assert self.process.stdin
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        return self.last()

    def last(self) -> Json:
        """Wait until it ends by itself, and return its last report."""
        *_, report = self.events()
        assert self.process.wait(timeout=30) == 0
        return report


def ready(cluster: Cluster, nodes: Iterable[str]) -> set[str]:
    """Return the nodes whose own API server says that it is ready."""
    command = [sys.executable, CLIENT, *readyz(cluster, nodes), "--seconds", "0"]
    last = json.loads(cluster.run(*command).out)["samples"][-1]
    return {node for node, status in last["statuses"].items() if status == 200}


def readyz(cluster: Cluster, nodes: Iterable[str]) -> list[str]:
    """Return the client's arguments to ask the API servers of nodes whether they are ready."""
    return ["readyz", *(f"{node}={cluster.address(node)}:6443" for node in sorted(nodes))]


@contextmanager
def client(
    cluster: Cluster, *arguments: str, node: str | None = None, program: str = CLIENT
) -> Iterator[Client]:
    """Run a client on the LAN, or on a node, while the ``with`` block lasts."""
    running = Client(cluster, *arguments, node=node, program=program)
    try:
        yield running
    finally:
        running.process.terminate()
        # Nobody reads a report any more, which may be longer than a pipe holds
        for pipe in (running.process.stdin, running.process.stdout):
            if pipe:
                pipe.close()
        running.process.wait()
