"""One virtual cluster for all acceptance tests. They run in the order of their modules: fresh
nodes, the first deploy and the second run, drift, faults; each leaves the nodes deployed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.virtual_cluster import Cluster

WORKERS = os.environ.get("ACCEPTANCE_WORKERS", "pi1,pi4,pi5,pi7")
"""Which workers: ACCEPTANCE_WORKERS=10 runs the same tests on all ten."""

MANIFEST = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log "
    "-o -path /var/lib/systemd -o -path /var/cache \\) -prune -o -type f "
    "-printf '%p %m %u %g %s %T@\\n' | sort"
)
"""Every file of a node with its mode, owner, size and time, but for logs and state of systemd."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A lab of its own, fresh, removed at the end. With ACCEPTANCE_KEEP=NAME it is the lab of that
    name, taken as it is and left as it is: for work on single modules."""
    keep = os.environ.get("ACCEPTANCE_KEEP", "")
    cluster = Cluster(keep or "acceptance")
    if not keep:
        cluster.down()
    cluster.up("--workers", WORKERS)
    yield cluster
    if not keep:
        cluster.down()


@dataclass(frozen=True)
class FirstDeploy:
    """What the first deploy of fresh nodes was announced to do and did, by host."""

    announced: dict[str, set[str]]
    changed: dict[str, set[str]]
    boots: dict[str, str]
    """The boot that each node was in before it."""


@pytest.fixture(scope="session")
def first_deploy(cluster: Cluster) -> FirstDeploy:
    """The first deploy, through its reboot. Tests of fresh nodes come before it."""
    announced = cluster.announced("deploy.py")
    boots = {node: boot_id(cluster, node) for node in cluster.workers}
    return FirstDeploy(announced, cluster.changed("deploy.py"), boots)


@pytest.fixture(scope="session")
def deployed(cluster: Cluster, first_deploy: FirstDeploy) -> Cluster:
    """The cluster once its nodes are work nodes."""
    return cluster


def boot_id(cluster: Cluster, node: str) -> str:
    """Which boot a node is in."""
    return cluster.exec(node, "cat /proc/sys/kernel/random/boot_id")
