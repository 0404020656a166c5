"""Nodes that have joined a cluster reboot in turns, and a kubelet is restarted for its program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest

from tests.joined import KUBECONFIG, all_joined, kubelet
from tests.lan_client import API
from tests.seen import PROXY
from tests.turns import PATIENCE, most_together, watched
from tests.virtual_cluster import Cluster, wait_for

KUBERNETES = "chaos_engine.deploys.kubernetes"


@pytest.fixture(scope="module")
def cluster_of_nodes(deployed: Cluster) -> Iterator[Cluster]:
    """The nodes as a cluster; afterwards as they were."""
    with all_joined(deployed) as cluster:
        yield cluster


def test_a_kubelet_that_runs_a_replaced_program_is_restarted(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    cluster.exec("pi4", "cp /usr/bin/kubelet /usr/bin/k && mv /usr/bin/k /usr/bin/kubelet")
    expected = {"pi4": {"Kubernetes | Install Kubernetes"}}
    assert cluster.announced(KUBERNETES, *KUBECONFIG) == expected
    assert cluster.changed(KUBERNETES, *KUBECONFIG) == expected
    assert cluster.announced(KUBERNETES, *KUBECONFIG) == {}


REBOOTED = ("pi4", PROXY, "pi7")


@pytest.fixture
def due(cluster_of_nodes: Cluster) -> Cluster:
    """Nodes whose kernel was started without one of the words, and whose file lacks it."""
    before = {node: cluster_of_nodes.boot_id(node) for node in REBOOTED}

    for node in REBOOTED:
        edit = "sed -i 's/cgroup_enable=cpuset //' /boot/firmware/cmdline.txt"
        cluster_of_nodes.exec(node, f"{edit} && sync && systemctl reboot")
    wait_for(
        "other boots",
        lambda: all(cluster_of_nodes.has_rebooted(*each) for each in before.items()),
        120,
    )
    for node in REBOOTED:
        wait_for("kubelet", partial(kubelet, cluster_of_nodes, node), 60)
    wait_for("the API's address", lambda: answered(cluster_of_nodes), 60)
    return cluster_of_nodes


def answered(cluster: Cluster) -> bool:
    report = cluster.run("python3", "tests/api_client.py", "wait", API, "--seconds", "20").out
    return bool(json.loads(report)["answered"])


def test_a_reboot_that_is_due(due: Cluster) -> None:
    """While the proxy's node itself reboots nobody has its address; all else goes on."""
    run = ("deploy.py", *KUBECONFIG)
    expected = {
        node: {"Worker | Kernel | Edit the kernel's command line", "Reboot | Reboot node"}
        for node in REBOOTED
    }
    boots = {node: due.boot_id(node) for node in due.workers}
    reported = due.pyinfra("deploy.py", "--dry").text
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
