"""Nodes that have joined a cluster reboot in turns, and a kubelet is restarted for its program.

With API servers that are back 40 s after their Docker, as on a Pi, no more than one controller's is
away at a time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from functools import partial

import pytest

from tests.cluster.joined import KUBECONFIG, all_joined, give_pods, kubelet, slow_api_servers
from tests.cluster.lan_client import API, CONTROLLERS, ready
from tests.cluster.seen import PROXY
from tests.cluster.turns import (
    PATIENCE,
    are_apart,
    at_least_two_were_ready,
    in_proxys_turn_only,
    most_together,
    watched,
)
from tests.cluster.virtual_cluster import Cluster, wait_for

KUBERNETES = "chaos_engine.deploys.kubernetes"
OLD = (*KUBECONFIG, "--data", "chaos_kubernetes_version=1.28.14")


@pytest.fixture(scope="module")
def cluster_of_nodes(deployed: Cluster) -> Iterator[Cluster]:
    """The nodes as a cluster, one patch release of Kubernetes behind until the last test upgrades
    it, which no cluster takes back; afterwards as they were."""
    deployed.changed(KUBERNETES, *OLD)
    with all_joined(deployed) as cluster:
        yield cluster


def test_a_kubelet_that_runs_a_replaced_program_is_restarted(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    cluster.exec("pi4", "cp /usr/bin/kubelet /usr/bin/k && mv /usr/bin/k /usr/bin/kubelet")
    expected = {"pi4": {"Kubernetes | Install Kubernetes"}}
    assert cluster.announced(KUBERNETES, *OLD) == expected
    assert cluster.changed(KUBERNETES, *OLD) == expected
    assert cluster.announced(KUBERNETES, *OLD) == {}


REBOOTED = ("pi4", PROXY, "pi7")


@pytest.fixture
def due(cluster_of_nodes: Cluster) -> Cluster:
    """Nodes whose kernel was started without one of the words, and whose file lacks it."""
    make_due(cluster_of_nodes, REBOOTED)
    return cluster_of_nodes


def make_due(cluster: Cluster, nodes: Collection[str]) -> None:
    """Have nodes boot without one of the words, which only another reboot can bring."""
    before = {node: cluster.boot_id(node) for node in nodes}
    for node in nodes:
        edit = "sed -i 's/ cgroup_enable=cpuset//' /boot/firmware/cmdline.txt"
        cluster.exec(node, f"{edit} && sync && systemctl reboot")
    wait_for(
        "other boots", lambda: all(cluster.has_rebooted(*each) for each in before.items()), 120
    )
    for node in nodes:
        wait_for("kubelet", partial(kubelet, cluster, node), 60)
    wait_for("the API servers", lambda: ready(cluster, CONTROLLERS) == CONTROLLERS, 60)
    wait_for("the API's address", lambda: answered(cluster), 60)
    for node in cluster.workers:
        give_pods(cluster, node)


def answered(cluster: Cluster) -> bool:
    report = cluster.run(
        "python3", "tests/cluster/api_client.py", "wait", API, "--seconds", "20"
    ).out
    return bool(json.loads(report)["answered"])


def test_a_reboot_that_is_due(due: Cluster) -> None:
    """While the proxy's node itself reboots nobody has its address; all else goes on."""
    run = ("deploy.py", *OLD)
    expected = {
        node: {"Worker | Kernel | Edit the kernel's command line", "Reboot | Reboot node"}
        for node in REBOOTED
    }
    boots = {node: due.boot_id(node) for node in due.workers}
    reported = due.pyinfra("deploy.py", "--dry", *OLD[2:]).text
    assert reported.count("a reboot is pending: the kernel was started without") == len(REBOOTED)
    assert "set chaos_kubeconfig, so that it can be drained" in reported
    assert due.announced(*run) == expected
    with watched(due) as watch:
        assert due.changed(*run) == expected
    assert {turn.node for turn in watch.turns} == set(REBOOTED)
    assert most_together(watch) == 1, watch.turns
    assert {n for n in due.workers if due.boot_id(n) != boots[n]} == set(REBOOTED)
    (proxys,) = (turn for turn in watch.turns if turn.node == PROXY)
    print(f"the proxy's turn took {proxys.ended - proxys.began:.1f} s")
    for failure in watch.beats["failed"]:
        at = watch.beats["began"] + failure["at"]
        assert proxys.began - PATIENCE <= at <= proxys.ended, (failure, watch.turns)
    assert due.announced(*run) == {}


SLOW = 40
"""Seconds from Docker's start to the API server's first answer: 21 to 39 were seen."""


def two_of_three_stay(cluster: Cluster, *run: str) -> None:
    """Have a run take all nodes' turns with slow API servers; two of three are ready throughout."""
    with slow_api_servers(cluster, SLOW), watched(cluster) as watch:
        assert cluster.changed(*run)
    assert {turn.node for turn in watch.turns} == set(cluster.workers)
    are_apart(watch, *CONTROLLERS)
    at_least_two_were_ready(watch)
    in_proxys_turn_only(watch)


def test_docker_is_restarted_with_slow_api_servers(cluster_of_nodes: Cluster) -> None:
    edit = ("chaos_engine.deploys.docker", *KUBECONFIG, "--data", "chaos_docker_log_max_file=8")
    two_of_three_stay(cluster_of_nodes, *edit)


def test_nodes_are_rebooted_with_slow_api_servers(cluster_of_nodes: Cluster) -> None:
    run = ("deploy.py", *OLD)
    cluster_of_nodes.changed(*run)
    make_due(cluster_of_nodes, cluster_of_nodes.workers)
    two_of_three_stay(cluster_of_nodes, *run)


def test_kubelet_is_upgraded_with_slow_api_servers(cluster_of_nodes: Cluster) -> None:
    assert {kubelet(cluster_of_nodes, node) for node in cluster_of_nodes.workers} == {"1.28.14"}
    two_of_three_stay(cluster_of_nodes, KUBERNETES, *KUBECONFIG)
    assert {kubelet(cluster_of_nodes, node) for node in cluster_of_nodes.workers} == {"1.28.15"}
