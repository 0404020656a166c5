"""Deploy nodes that have joined a cluster: what stops pods goes in turns, and the API stays up.

The cluster consists of kubeadm's files, a running kubelet, and API servers that stop with Docker,
as pods do, and come back later (`tests/cluster/joined.py`). The computer that runs pyinfra has the
real `kubectl`. `tests/cluster/turns.py` watches turns, requests and streams.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.cluster.joined import (
    KUBECONFIG,
    all_joined,
    audit,
    cordoned,
    give_pods,
    grace_period,
    kubectl_runs,
    kubelet,
    slow_api_servers,
    take_pods,
)
from tests.cluster.lan_client import CONTROLLERS, Json
from tests.cluster.turns import (
    are_apart,
    at_least_two_were_ready,
    in_proxys_turn_only,
    most_together,
    nobody_was_cut_off,
    parse_step,
    watched,
)
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster, limits, wait_for

NOTE = "/var/lib/chaos-engine/cordoned"
DOCKER = "chaos_engine.deploys.docker"
KUBERNETES = "chaos_engine.deploys.kubernetes"
OLD = ("--data", "chaos_kubernetes_version=1.28.14")


@pytest.fixture(scope="module")
def cluster_of_nodes(deployed: Cluster) -> Iterator[Cluster]:
    """Have the nodes join a cluster, one patch release of Kubernetes behind, and leave it."""
    deployed.changed(KUBERNETES, *OLD)
    with all_joined(deployed) as cluster:
        yield cluster


def each_node(cluster: Cluster, operation: str) -> dict[str, set[str]]:
    return {node: {operation} for node in cluster.workers}


def test_the_preview_of_nodes_that_are_as_wanted_lists_nothing(cluster_of_nodes: Cluster) -> None:
    assert cluster_of_nodes.announced("deploy.py", *OLD, *KUBECONFIG) == {}


def test_an_edit_of_dockers_settings(cluster_of_nodes: Cluster) -> None:
    """Check that with a batch of two controllers still go one by one, and the proxy alone."""
    cluster = cluster_of_nodes
    edit = (DOCKER, *KUBECONFIG, "--data", "chaos_docker_log_max_file=4",
            "--data", "chaos_rolling_batch=2")  # fmt: skip
    assert cluster.announced(*edit) == each_node(cluster, "Docker | Run Docker")
    assert not cordoned(cluster)
    with watched(cluster) as watch:
        assert cluster.changed(*edit) == each_node(cluster, "Docker | Run Docker")
    assert len(watch.turns) == len(cluster.workers)
    are_apart(watch, *CONTROLLERS)
    nobody_was_cut_off(watch)
    for node in cluster.workers:
        assert '"max-file": "4"' in cluster.exec(node, "cat /etc/docker/daemon.json")
    assert cluster.announced(*edit) == {}


def test_api_servers_that_take_long_to_come_back_are_waited_for(cluster_of_nodes: Cluster) -> None:
    """Wait 12 s for them. In `tests/torture/test_rolling.py` they are as slow as on a Pi."""
    cluster = cluster_of_nodes
    edit = (DOCKER, *KUBECONFIG, "--data", "chaos_docker_log_max_size=9m")
    for node in CONTROLLERS:
        give_pods(cluster, node)
    with slow_api_servers(cluster, 12), watched(cluster) as watch:
        done = cluster.changed(*edit, *limits(CONTROLLERS))
    assert done == {node: {"Docker | Run Docker"} for node in CONTROLLERS}
    assert {turn.node for turn in watch.turns} == CONTROLLERS
    are_apart(watch, *CONTROLLERS)
    at_least_two_were_ready(watch)
    in_proxys_turn_only(watch)


def test_an_upgrade_of_cri_dockerd(cluster_of_nodes: Cluster) -> None:
    """Check that two nodes that are no controllers go together with a batch of two."""
    cluster = cluster_of_nodes
    upgrade = ("chaos_engine.deploys.cri_dockerd", *KUBECONFIG, "--data", "chaos_rolling_batch=2",
               "--data", 'chaos_controllers=["pi1"]',
               "--data", "chaos_cri_dockerd_version=0.3.25")  # fmt: skip
    for node in cluster.workers:
        give_pods(cluster, node, seconds=2)
    operation = "cri-dockerd | Run cri-dockerd"
    assert cluster.announced(*upgrade) == each_node(cluster, operation)
    with watched(cluster) as watch:
        assert cluster.changed(*upgrade) == each_node(cluster, operation)
    assert len(watch.turns) == len(cluster.workers)
    are_apart(watch)
    assert most_together(watch) == 2, watch.turns
    nobody_was_cut_off(watch)
    assert not watch.streams["broke"], "the shim carries no containers"
    for node in cluster.workers:
        ran = cluster.exec(node, "/proc/$(systemctl show -p MainPID --value cri-docker)/exe "
                                 "--version")  # fmt: skip
        assert "0.3.25" in ran
    assert cluster.announced(*upgrade) == {}


def test_a_patch_release_of_kubernetes(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    operation = "Kubernetes | Install Kubernetes"
    assert {kubelet(cluster, node) for node in cluster.workers} == {"1.28.14"}
    announced = cluster.announced(KUBERNETES, *KUBECONFIG)
    assert all(operation in names for names in announced.values())
    assert set(announced) == set(cluster.workers)
    with watched(cluster) as watch:
        assert cluster.changed(KUBERNETES, *KUBECONFIG) == announced
    assert len(watch.turns) == len(cluster.workers)
    assert most_together(watch) == 1, watch.turns
    nobody_was_cut_off(watch)
    assert not watch.streams["broke"], "kubelet carries no containers"
    # what runs, not what is installed
    assert {kubelet(cluster, node) for node in cluster.workers} == {"1.28.15"}
    assert cluster.announced(KUBERNETES, *KUBECONFIG) == {}


def test_a_node_that_cannot_be_drained_stops_the_rest_and_the_next_run_goes_on(
    cluster_of_nodes: Cluster,
) -> None:
    cluster = cluster_of_nodes
    edit = (DOCKER, *KUBECONFIG, "--data", "chaos_docker_log_max_file=5",
            "--data", "chaos_drain_timeout=5")  # fmt: skip
    for node in ("pi4", "pi7"):
        give_pods(cluster, node, budget=True)

    run = cluster.pyinfra(*edit, "-y", ok=False)

    assert run.status
    (stuck,) = (n for n in cluster.workers if f"{n} cannot be drained" in said(run.text, n))
    assert "Cannot evict pod as it would violate the pod's disruption budget" in run.text
    done = {n for n in cluster.workers if max_file(cluster, n) == "5"}
    refused = {n for n in cluster.workers if said(run.text, n).startswith("not restarted, because")}
    assert done | refused == set(cluster.workers) - {stuck}, run.text
    assert not done & refused
    for node in refused:
        assert f"because of a problem on {stuck}: {stuck} cannot be drained" in said(run.text, node)
        assert said(run.text, node).endswith("; fix the problem and run again")
    assert not cordoned(cluster)

    for node in ("pi4", "pi7"):
        give_pods(cluster, node)
    left = {node: {"Docker | Run Docker"} for node in set(cluster.workers) - done}
    assert cluster.announced(*edit) == left
    assert cluster.changed(*edit) == left
    assert cluster.announced(*edit) == {}


def said(text: str, node: str) -> str:
    """Return the last line of a run about a node before the summary, without errors."""
    lines = re.findall(rf"(?m)^ *\[{node}\] +(.*)$", text.partition("--> Nodes:")[0])
    return next((line for line in reversed(lines) if not line.startswith("Error: ")), "")


def is_ready(cluster: Cluster, node: str) -> bool:
    """Tell whether a node is Ready, as kubectl prints it."""
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return cluster.run("kubectl", "get", "node", node, "--output", path).out == "True"


def max_file(cluster: Cluster, node: str) -> str:
    config = json.loads(cluster.exec(node, "cat /etc/docker/daemon.json"))
    return str(config["log-opts"]["max-file"])


def test_a_run_that_is_killed_is_fixed_by_the_next(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    edit = (*KUBECONFIG, "--data", "chaos_docker_log_max_file=6", "--limit", "pi1")
    give_pods(cluster, "pi1", seconds=6)
    before, config = len(audit(cluster)), max_file(cluster, "pi1")

    def drains() -> list[Json]:
        return [e for e in audit(cluster)[before:] if parse_step(e) == ("drain", "pi1")]

    command = (LAB, "--name", cluster.name, "run", "--", "pyinfra", "inventory.py", DOCKER, "-y")
    with subprocess.Popen(
        (*command, *edit), cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        wait_for("the drain", drains, 60)
        os.kill(run.pid, signal.SIGKILL)
    wait_for("the end of kubectl, which goes on", lambda: not kubectl_runs(cluster), 30)
    assert cordoned(cluster) == {"pi1"}
    assert cluster.exec("pi1", f"cat {NOTE}") == "pi1"
    assert max_file(cluster, "pi1") == config != "6"

    take_pods(cluster, "pi1")
    fixed = cluster.announced("deploy.py", *edit)
    assert fixed["pi1"] >= {"Worker | Uncordon | Uncordon node", "Worker | Docker | Run Docker"}
    assert cluster.changed("deploy.py", *edit) == fixed
    assert not cordoned(cluster)
    assert max_file(cluster, "pi1") == "6"
    assert cluster.exec("pi1", f"ls {NOTE}", ok=False) == ""
    assert cluster.announced("deploy.py", *edit) == {}


def test_a_node_whose_kubelet_is_dead_is_fixed_by_a_run(cluster_of_nodes: Cluster) -> None:
    """Check that also where the fix takes a turn: pods end only when kubelet is back."""
    cluster = cluster_of_nodes
    edit = (*KUBECONFIG, "--data", "chaos_docker_log_max_file=8", "--limit", "pi7")
    give_pods(cluster, "pi7", seconds=2)
    cluster.exec("pi7", "systemctl stop kubelet")
    fixed = cluster.announced("deploy.py", *edit)
    assert fixed["pi7"] >= {
        "Worker | Docker | Run Docker",
        "Worker | Kubernetes | Install Kubernetes",
    }
    began = time.monotonic()
    assert cluster.changed("deploy.py", *edit) == fixed
    assert time.monotonic() - began < 90, "the drain waited for its whole time"
    assert not cordoned(cluster)
    assert kubelet(cluster, "pi7") == "1.28.15"
    assert cluster.announced("deploy.py", *edit) == {}


def test_while_one_node_is_broken_the_others_are_left_at_work(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    edit = (DOCKER, *KUBECONFIG, "--data", "chaos_docker_log_max_file=7")
    # a kubelet that is stopped ends no pods, so its node could not be drained
    take_pods(cluster, "pi7")
    cluster.exec("pi7", "systemctl stop kubelet")
    try:
        run = cluster.pyinfra(*edit, "-y", "--limit", "pi4", "--limit", "pi7", ok=False)
        assert run.status
        expected = "not restarted, because of a problem on pi7: kubelet does not answer"
        assert said(run.text, "pi4").startswith(expected), run.text
        assert max_file(cluster, "pi4") != "7"
        # another controller is known to be down by the cluster too, if the run does not include it
        with grace_period(cluster, 10):
            wait_for("the node controller", lambda: not is_ready(cluster, "pi7"), 20)
            run = cluster.pyinfra(*edit, "-y", "--limit", "pi4", ok=False)
        assert run.status
        assert "pi4 is a controller and must stay up, because the controller pi7 is" in run.text
        assert max_file(cluster, "pi4") != "7"
        assert not cordoned(cluster) - {"pi7"}
    finally:
        cluster.exec("pi7", "systemctl start kubelet")
    wait_for("kubelet", lambda: kubelet(cluster, "pi7"), 20)
