"""Share turns between runs on two computers, over seven nodes of one cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import shared_turns
from tests.cluster.joined import all_joined, slow_api_servers
from tests.cluster.virtual_cluster import Cluster, own_lab


@pytest.fixture(scope="module")
def cluster_of_nodes() -> Iterator[Cluster]:
    """Start a lab of its own, deploy its nodes, and have them join a cluster."""
    workers = "pi1,pi2,pi3,pi4,pi5,pi6,pi7"
    with own_lab("leases", "LEASES_KEEP", "--workers", workers, "--swap", "none") as cluster:
        cluster.changed("deploy.py")
        with all_joined(cluster):
            yield cluster


def test_two_runs_go_through_their_nodes_one_by_one(cluster_of_nodes: Cluster) -> None:
    shared_turns.two_racks(cluster_of_nodes)


def test_two_runs_over_the_same_nodes_do_not_disturb_each_other(cluster_of_nodes: Cluster) -> None:
    """Check that also with API servers that are as slow as on a Pi."""
    with slow_api_servers(cluster_of_nodes, 30):
        shared_turns.same_nodes(cluster_of_nodes)


def test_two_runs_with_a_batch_of_two_have_two_nodes_down_together(
    cluster_of_nodes: Cluster,
) -> None:
    shared_turns.batch_of_two(cluster_of_nodes)


def test_a_run_that_is_killed_in_its_turn_lets_the_other_one_go_on(
    cluster_of_nodes: Cluster,
) -> None:
    shared_turns.killed(cluster_of_nodes)
