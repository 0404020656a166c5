"""Start one virtual cluster for all acceptance tests.

They run in the order of their modules: fresh nodes, the first deploy and the second run, drift,
faults. Each module leaves the nodes deployed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.suites import OPTIONS
from tests.cluster import manifest, node_state
from tests.cluster.faults import bad as bad
from tests.cluster.faults import good as good
from tests.cluster.faults import nothing_half_done as nothing_half_done
from tests.cluster.node_state import State
from tests.cluster.virtual_cluster import Cluster, Reasons, own_lab
from tests.lab.plan import parse_workers

WORKERS = os.environ.get("ACCEPTANCE_WORKERS", "pi1,pi4,pi5,pi7")
"""Which workers: ACCEPTANCE_WORKERS=10 runs the same tests on all ten."""

CARD = parse_workers(WORKERS)[0]
"""The worker whose disk is of limited size."""

MANIFEST = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log "
    "-o -path /var/lib/systemd -o -path /var/cache -o -path /var/lib/docker "
    "-o -path /var/lib/containerd \\) -prune -o -type f "
    "-printf '%p %m %u %g %s %T@\\n' | sort"
)
"""Every file of a node with its mode, owner, size and time, but for logs and state of systemd."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start a lab, or take the one that ACCEPTANCE_KEEP names."""
    options = ("--workers", WORKERS, "--card", CARD, *OPTIONS)
    with own_lab("acceptance", "ACCEPTANCE_KEEP", *options) as cluster:
        yield cluster


@dataclass(frozen=True)
class FirstDeploy:
    """The operations that the first deploy announced and did, by host."""

    announced: dict[str, set[str]]
    changed: dict[str, set[str]]
    boots: dict[str, str]
    """The boot that each node was in before it."""
    written: dict[str, list[str]]
    """What the preview before it wrote on each node."""
    states: dict[str, State]
    """What each node was after it."""
    why: tuple[Reasons, Reasons]
    """What the preview and the run said of why."""


@pytest.fixture(scope="session")
def first_deploy(cluster: Cluster) -> FirstDeploy:
    """Do the first deploy, reboot included. Tests of fresh nodes come before it."""
    before = {node: manifest.take(cluster, node) for node in cluster.workers}
    announced = cluster.announced("deploy.py")
    said = cluster.announced_why
    written = {
        node: manifest.written(before[node], manifest.take(cluster, node))
        for node in cluster.workers
    }
    boots = {node: cluster.boot_id(node) for node in cluster.workers}
    changed = cluster.changed("deploy.py")
    why = said, cluster.changed_why
    states = {node: node_state.take(cluster, node) for node in cluster.workers}
    return FirstDeploy(announced, changed, boots, written, states, why)


@pytest.fixture(scope="session")
def deployed(cluster: Cluster, first_deploy: FirstDeploy) -> Cluster:
    """Return the cluster when its nodes are deployed."""
    return cluster
