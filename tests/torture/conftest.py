"""Start one virtual cluster for all long tests. Each module leaves its nodes as wanted."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.faults import bad as bad
from tests.cluster.faults import good as good
from tests.cluster.faults import nothing_half_done as nothing_half_done
from tests.cluster.virtual_cluster import Cluster, own_lab
from tests.lab.plan import parse_workers

WORKERS = os.environ.get("TORTURE_WORKERS", "pi1,pi4,pi5,pi7")
CARD = parse_workers(WORKERS)[0]
"""The worker whose disk is of limited size."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Start a lab, or take the one that TORTURE_KEEP names. Its nodes are in any state."""
    with own_lab("torture", "TORTURE_KEEP", "--workers", WORKERS, "--card", CARD) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def deployed(cluster: Cluster) -> Cluster:
    """Deploy the cluster's nodes."""
    cluster.changed("deploy.py")
    return cluster
