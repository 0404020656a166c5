"""The client of the API's address (`api_client.py`) at work on the LAN, beside what a test does."""

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
"""The nodes that answer there."""

Json = dict[str, Any]


class Client:
    """The client on the LAN, at work beside what the test does."""

    def __init__(self, cluster: Cluster, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [LAB, "--name", cluster.name, "run", "--", sys.executable, CLIENT, *arguments],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def events(self) -> Iterator[Json]:
        """What it reports, as it comes."""
        assert self.process.stdout
        return (json.loads(line) for line in self.process.stdout)

    def until(self, event: str) -> Json:
        """Read on to an event of this name."""
        return next(one for one in self.events() if one.get("event") == event)

    def stop(self) -> Json:
        """Have it end, and return its last report."""
        assert self.process.stdin
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        return self.last()

    def last(self) -> Json:
        """Its last report, once it ends by itself."""
        *_, report = self.events()
        assert self.process.wait(timeout=30) == 0
        return report


def ready(cluster: Cluster, nodes: Iterable[str]) -> set[str]:
    """Those of the nodes whose own API server says that it is ready."""
    command = [sys.executable, CLIENT, *readyz(cluster, nodes), "--seconds", "0"]
    last = json.loads(cluster.run(*command).out)["samples"][-1]
    return {node for node, status in last["statuses"].items() if status == 200}


def readyz(cluster: Cluster, nodes: Iterable[str]) -> list[str]:
    """The client's arguments that have it ask the API servers of nodes whether they are ready."""
    return ["readyz", *(f"{node}={cluster.address(node)}:6443" for node in sorted(nodes))]


@contextmanager
def client(cluster: Cluster, *arguments: str) -> Iterator[Client]:
    """A client on the LAN, gone at the end."""
    running = Client(cluster, *arguments)
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait()
        for pipe in (running.process.stdin, running.process.stdout):
            if pipe:
                pipe.close()
