"""Reboot nodes of a cluster in turns, and restart a kubelet whose program was replaced.

Also with API servers that answer 40 s after Docker's start, as on a Pi, at most one of them is away
at a time.
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
    """Have the nodes join a cluster, with Kubernetes one patch release behind.

    The last test upgrades it, as a cluster cannot go back. Afterwards the nodes are as before.
    """
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
def needs_reboot(cluster_of_nodes: Cluster) -> Cluster:
    """Have nodes whose kernel was started without one of the words, and whose file lacks it."""
    boot_without_word(cluster_of_nodes, REBOOTED)
    return cluster_of_nodes


def boot_without_word(cluster: Cluster, nodes: Collection[str]) -> None:
    """Boot nodes without one of the words, so that they need another reboot."""
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
    wait_for("the API's address", lambda: address_answers(cluster), 60)
    for node in cluster.workers:
        give_pods(cluster, node)


def address_answers(cluster: Cluster) -> bool:
    report = cluster.run(
        "python3", "tests/cluster/api_client.py", "wait", API, "--seconds", "20"
    ).out
    return bool(json.loads(report)["answered"])


def test_a_reboot_that_is_needed(needs_reboot: Cluster) -> None:
    """Check that only the reboot of the proxy's node interrupts the API's address."""
    run = ("deploy.py", *OLD)
    expected = {
        node: {"Worker | Kernel | Edit the kernel's command line", "Reboot | Reboot node"}
        for node in REBOOTED
    }
    boots = {node: needs_reboot.boot_id(node) for node in needs_reboot.workers}
    reported = needs_reboot.pyinfra("deploy.py", "--dry", *OLD[2:]).text
    assert reported.count("a reboot is pending: the kernel was started without") == len(REBOOTED)
    assert "set chaos_kubeconfig, so that it can be drained" in reported
    assert needs_reboot.announced(*run) == expected
    with watched(needs_reboot) as watch:
        assert needs_reboot.changed(*run) == expected
    assert {turn.node for turn in watch.turns} == set(REBOOTED)
    assert most_together(watch) == 1, watch.turns
    assert {n for n in needs_reboot.workers if needs_reboot.boot_id(n) != boots[n]} == set(REBOOTED)
    (proxys,) = (turn for turn in watch.turns if turn.node == PROXY)
    print(f"the proxy's turn took {proxys.ended - proxys.began:.1f} s")
    for failure in watch.beats["failed"]:
        at = watch.beats["began"] + failure["at"]
        assert proxys.began - PATIENCE <= at <= proxys.ended, (failure, watch.turns)
    assert needs_reboot.announced(*run) == {}


SLOW = 40
"""Seconds from Docker's start to the API server's first answer: 21 to 39 were seen."""


def two_of_three_stay(cluster: Cluster, *run: str) -> None:
    """Do a run over all nodes with slow API servers. Check that two of three are always ready."""
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
    boot_without_word(cluster_of_nodes, cluster_of_nodes.workers)
    two_of_three_stay(cluster_of_nodes, *run)


def test_kubelet_is_upgraded_with_slow_api_servers(cluster_of_nodes: Cluster) -> None:
    assert {kubelet(cluster_of_nodes, node) for node in cluster_of_nodes.workers} == {"1.28.14"}
    two_of_three_stay(cluster_of_nodes, KUBERNETES, *KUBECONFIG)
    assert {kubelet(cluster_of_nodes, node) for node in cluster_of_nodes.workers} == {"1.28.15"}
