"""Share turns between runs on two computers, by Leases in the cluster.

`tests/torture/test_leases.py` does the same with more nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import shared_turns
from tests.cluster.joined import all_joined
from tests.cluster.virtual_cluster import Cluster


@pytest.fixture(scope="module")
def cluster_of_nodes(deployed: Cluster) -> Iterator[Cluster]:
    """Have the nodes join a cluster, and leave it."""
    with all_joined(deployed) as cluster:
        yield cluster


def test_two_runs_go_through_their_nodes_one_by_one(cluster_of_nodes: Cluster) -> None:
    shared_turns.two_racks(cluster_of_nodes)


def test_two_runs_over_the_same_nodes_do_not_disturb_each_other(cluster_of_nodes: Cluster) -> None:
    shared_turns.same_nodes(cluster_of_nodes)


def test_two_runs_with_a_batch_of_two_have_two_nodes_down_together(
    cluster_of_nodes: Cluster,
) -> None:
    shared_turns.batch_of_two(cluster_of_nodes)


def test_a_run_that_is_killed_in_its_turn_lets_the_other_one_go_on(
    cluster_of_nodes: Cluster,
) -> None:
    shared_turns.killed(cluster_of_nodes)
