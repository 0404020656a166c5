"""A cluster that the nodes have joined: what stops pods goes in turns, and the API stays up.

The cluster is kubeadm's files, a kubelet that runs, and `kubectl` on the computer of whoever runs
the deploy (`tests/joined.py`); a controller's API server ends and starts with its Docker, as a pod
does. Turns are read off what kubectl was called for: from `cordon` to `uncordon`.

Beside each change, on the LAN, there is a request a second to the API's address and there are open
streams. Like kubelet's heartbeats, which have ten seconds (its nodeStatusUpdateFrequency) and are
tried again within them, a request has failed if it got no answer in ten seconds.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from tests.joined import calls, cordoned, join, kubelet, leave, set_pods
from tests.lan_client import Json, client
from tests.virtual_cluster import CHECKOUT, LAB, Cluster, wait_for

API = "192.168.1.60:6443"
PROXY = "pi5"
CONTROLLERS = {"pi1", "pi4", "pi7"}
KUBECONFIG = ("--data", "chaos_kubeconfig=files/kubeconfig")
NOTE = "/var/lib/chaos-engine/cordoned"
DOCKER = "chaos_engine.deploys.docker"
KUBERNETES = "chaos_engine.deploys.kubernetes"
OLD = ("--data", "chaos_kubernetes_version=1.28.14")
PATIENCE = 10
"""Seconds that a request has."""


@pytest.fixture(scope="module")
def cluster_of_nodes(deployed: Cluster) -> Iterator[Cluster]:
    """The nodes as a cluster, one patch release of Kubernetes behind; afterwards as they were."""
    deployed.changed(KUBERNETES, *OLD)
    for node in deployed.workers:
        join(deployed, node, {"name": f"web-{node}", "seconds": 0.5})
    yield deployed
    for node in deployed.workers:
        leave(deployed, node)
    deployed.changed("deploy.py")
    assert deployed.announced("deploy.py") == {}


@dataclass(frozen=True)
class Turn:
    """A node's turn, in seconds since 1970."""

    node: str
    began: float
    ended: float

    def overlaps(self, other: Turn) -> bool:
        return self.began < other.ended and other.began < self.ended


@dataclass
class Watch:
    """What was seen beside a change."""

    turns: list[Turn]
    beats: Json
    streams: Json


def turns(done: list[Json]) -> list[Turn]:
    """The turns that calls of kubectl tell of; the drain lies within each."""
    found = []
    for node in {call["node"] for call in done if call["verb"] == "cordon"}:
        own = [call for call in done if call["node"] == node]
        assert [call["verb"] for call in own] == ["cordon", "drain", "uncordon"], own
        assert all(call["status"] == 0 for call in own), own
        found.append(Turn(node, own[0]["began"], own[-1]["ended"]))
    return sorted(found, key=lambda turn: turn.began)


@contextmanager
def watched(cluster: Cluster) -> Iterator[Watch]:
    """See what becomes of requests, streams and turns while this lasts."""
    before, watch = len(calls(cluster)), Watch([], {}, {})
    with (
        client(cluster, "beats", API, "--timeout", "2", "--patience", str(PATIENCE)) as beats,
        client(cluster, "streams", API, "--count", "9", "--timeout", "5") as streams,
    ):
        streams.until("ready")
        yield watch
        watch.beats, watch.streams = beats.stop(), streams.stop()
    watch.turns = turns(calls(cluster)[before:])
    print(json.dumps({key: watch.beats[key] for key in ("count", "retried", "slowest")}))
    assert not cordoned(cluster)


def go_one_by_one(watch: Watch) -> None:
    """Controllers go one by one, and the proxy alone."""
    for n, one in enumerate(watch.turns):
        for other in watch.turns[n + 1 :]:
            if PROXY in (one.node, other.node) or {one.node, other.node} <= CONTROLLERS:
                assert not one.overlaps(other), watch.turns


def nobody_was_cut_off(watch: Watch) -> None:
    """No request failed, and a stream broke only with its own server or the address's node."""
    assert watch.beats["count"] >= 5
    assert watch.beats["failures"] == 0, watch.beats["failed"]
    assert (watch.streams["opened"], watch.streams["failed"]) == (9, 0)
    assert set(watch.streams["servers"]) == CONTROLLERS
    for stream in watch.streams["streams"]:
        if stream["broke"] is None:
            continue
        at = watch.streams["began"] + stream["broke"]
        down = {turn.node for turn in watch.turns if turn.began <= at <= turn.ended + 2}
        assert down & {stream["server"], PROXY}, (stream, watch.turns)


def each_node(cluster: Cluster, operation: str) -> dict[str, set[str]]:
    return {node: {operation} for node in cluster.workers}


def test_the_preview_of_nodes_that_are_as_wanted_lists_nothing(cluster_of_nodes: Cluster) -> None:
    assert cluster_of_nodes.announced("deploy.py", *OLD, *KUBECONFIG) == {}


def test_an_edit_of_dockers_settings(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    edit = (DOCKER, *KUBECONFIG, "--data", "chaos_docker_log_max_file=4")
    assert cluster.announced(*edit) == each_node(cluster, "Docker | Run Docker")
    assert not cordoned(cluster)
    with watched(cluster) as watch:
        assert cluster.changed(*edit) == each_node(cluster, "Docker | Run Docker")
    assert len(watch.turns) == len(cluster.workers)
    go_one_by_one(watch)
    nobody_was_cut_off(watch)
    for node in cluster.workers:
        assert '"max-file": "4"' in cluster.exec(node, "cat /etc/docker/daemon.json")
    assert cluster.announced(*edit) == {}


def test_an_upgrade_of_cri_dockerd(cluster_of_nodes: Cluster) -> None:
    """With a batch of two: the lanes keep controllers apart, and the proxy from all."""
    cluster = cluster_of_nodes
    upgrade = ("chaos_engine.deploys.cri_dockerd", *KUBECONFIG, "--data", "chaos_rolling_batch=2",
               "--data", "chaos_cri_dockerd_version=0.3.25")  # fmt: skip
    operation = "cri-dockerd | Run cri-dockerd"
    assert cluster.announced(*upgrade) == each_node(cluster, operation)
    with watched(cluster) as watch:
        assert cluster.changed(*upgrade) == each_node(cluster, operation)
    assert len(watch.turns) == len(cluster.workers)
    go_one_by_one(watch)
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
    go_one_by_one(watch)
    nobody_was_cut_off(watch)
    # what runs, not what is installed
    assert {kubelet(cluster, node) for node in cluster.workers} == {"1.28.15"}
    assert cluster.announced(KUBERNETES, *KUBECONFIG) == {}


def test_a_kubelet_that_runs_a_replaced_program_is_restarted(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    cluster.exec("pi4", "cp /usr/bin/kubelet /tmp/k && mv /tmp/k /usr/bin/kubelet")
    expected = {"pi4": {"Kubernetes | Install Kubernetes"}}
    assert cluster.announced(KUBERNETES, *KUBECONFIG) == expected
    assert cluster.changed(KUBERNETES, *KUBECONFIG) == expected
    assert cluster.announced(KUBERNETES, *KUBECONFIG) == {}


REBOOTED = ("pi4", PROXY, "pi7")
KEEP = (
    "--data", "chaos_docker_log_max_file=4", "--data", "chaos_cri_dockerd_version=0.3.25"
)  # fmt: skip
"""What the tests above have left the nodes with."""


@pytest.fixture
def due(cluster_of_nodes: Cluster) -> Cluster:
    """Nodes whose kernel was started without one of the words, and whose file lacks it."""
    before = {node: cluster_of_nodes.boot_id(node) for node in REBOOTED}

    def rebooted(node: str) -> bool:
        read = "cat /proc/sys/kernel/random/boot_id"
        return cluster_of_nodes.exec(node, read, ok=False) not in ("", before[node])

    for node in REBOOTED:
        edit = "sed -i 's/cgroup_enable=cpuset //' /boot/firmware/cmdline.txt"
        cluster_of_nodes.exec(node, f"{edit} && sync && systemctl reboot")
    wait_for("other boots", lambda: all(rebooted(node) for node in REBOOTED), 120)
    for node in REBOOTED:
        wait_for("kubelet", partial(kubelet, cluster_of_nodes, node), 60)
    wait_for("the API's address", lambda: answered(cluster_of_nodes), 60)
    return cluster_of_nodes


def answered(cluster: Cluster) -> bool:
    report = cluster.run("python3", "tests/api_client.py", "wait", API, "--seconds", "20").out
    return bool(json.loads(report)["answered"])


def test_a_reboot_that_is_due(due: Cluster) -> None:
    """While the proxy's node itself reboots nobody has its address; all else goes on."""
    run = ("deploy.py", *KUBECONFIG, *KEEP)
    expected = {
        node: {"Worker | Kernel | Edit the kernel's command line", "Reboot | Reboot node"}
        for node in REBOOTED
    }
    boots = {node: due.boot_id(node) for node in due.workers}
    reported = due.pyinfra("deploy.py", *KEEP, "--dry").text
    assert reported.count("a reboot is pending: the kernel was started without") == len(REBOOTED)
    assert "set chaos_kubeconfig, so that it can be drained" in reported
    assert due.announced(*run) == expected
    with watched(due) as watch:
        assert due.changed(*run) == expected
    assert {turn.node for turn in watch.turns} == set(REBOOTED)
    go_one_by_one(watch)
    assert {n for n in due.workers if due.boot_id(n) != boots[n]} == set(REBOOTED)
    (proxys,) = (turn for turn in watch.turns if turn.node == PROXY)
    print(f"the proxy's turn took {proxys.ended - proxys.began:.1f} s")
    for failure in watch.beats["failed"]:
        at = watch.beats["began"] + failure["at"]
        assert proxys.began - PATIENCE <= at <= proxys.ended, (failure, watch.turns)
    assert due.announced(*run) == {}


def test_a_node_that_cannot_be_drained_stops_the_rest_and_the_next_run_goes_on(
    cluster_of_nodes: Cluster,
) -> None:
    cluster = cluster_of_nodes
    edit = (DOCKER, *KUBECONFIG, "--data", "chaos_docker_log_max_file=5",
            "--data", "chaos_drain_timeout=2")  # fmt: skip
    for node in ("pi4", "pi7"):
        set_pods(cluster, node, {"name": f"web-{node}", "budget": True})

    run = cluster.pyinfra(*edit, "-y", ok=False)

    assert run.status
    (stuck,) = (n for n in cluster.workers if f"{n} cannot be drained" in said(run.text, n))
    assert "Cannot evict pod as it would violate the pod's disruption budget" in run.text
    done = {n for n in cluster.workers if max_file(cluster, n) == "5"}
    refused = {n for n in cluster.workers if said(run.text, n).startswith("not restarted, because")}
    assert done | refused == set(cluster.workers) - {stuck}, run.text
    assert not done & refused
    for node in refused:
        assert f"because {stuck}: {stuck} cannot be drained" in said(run.text, node)
        assert said(run.text, node).endswith("; mend that and run again")
    assert not cordoned(cluster)

    for node in ("pi4", "pi7"):
        set_pods(cluster, node, {"name": f"web-{node}"})
    left = {node: {"Docker | Run Docker"} for node in set(cluster.workers) - done}
    assert cluster.announced(*edit) == left
    assert cluster.changed(*edit) == left
    assert cluster.announced(*edit) == {}


def said(text: str, node: str) -> str:
    """What a run says last of a node, before it counts its commands."""
    lines = re.findall(rf"(?m)^ *\[{node}\] +(.*)$", text)
    return next((line for line in reversed(lines) if not line.startswith("Error: ")), "")


def max_file(cluster: Cluster, node: str) -> str:
    config = json.loads(cluster.exec(node, "cat /etc/docker/daemon.json"))
    return str(config["log-opts"]["max-file"])


def test_a_run_that_is_killed_is_mended_by_the_next(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    edit = (*KUBECONFIG, "--data", "chaos_docker_log_max_file=6", "--data",
            "chaos_cri_dockerd_version=0.3.25", "--limit", "pi1")  # fmt: skip
    set_pods(cluster, "pi1", {"name": "web-pi1", "seconds": 6})
    before = len(calls(cluster))

    def drains() -> list[Json]:
        return [call for call in calls(cluster)[before:] if call["verb"] == "drain"]

    command = (LAB, "--name", cluster.name, "run", "--", "pyinfra", "inventory.py", DOCKER, "-y")
    with subprocess.Popen(
        (*command, *edit), cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        wait_for("the drain", drains, 60)
        os.kill(run.pid, signal.SIGKILL)
    wait_for("the end of kubectl, which goes on", lambda: "ended" in drains()[0], 30)
    assert cordoned(cluster) == {"pi1"}
    assert cluster.exec("pi1", f"cat {NOTE}") == "pi1"
    assert max_file(cluster, "pi1") == "5"

    set_pods(cluster, "pi1")
    mended = {"pi1": {"Worker | Uncordon | Uncordon node", "Worker | Docker | Run Docker"}}
    assert cluster.announced("deploy.py", *edit) == mended
    assert cluster.changed("deploy.py", *edit) == mended
    assert not cordoned(cluster)
    assert max_file(cluster, "pi1") == "6"
    assert cluster.exec("pi1", f"ls {NOTE}", ok=False) == ""
    assert cluster.announced("deploy.py", *edit) == {}


def test_while_one_node_is_broken_the_others_are_left_at_work(cluster_of_nodes: Cluster) -> None:
    cluster = cluster_of_nodes
    edit = (DOCKER, *KUBECONFIG, "--data", "chaos_docker_log_max_file=7")
    cluster.exec("pi7", "systemctl stop kubelet")
    try:
        run = cluster.pyinfra(*edit, "-y", "--limit", "pi4", "--limit", "pi7", ok=False)
        assert run.status
        expected = "not restarted, because pi7: kubelet does not answer"
        assert said(run.text, "pi4").startswith(expected), run.text
        assert max_file(cluster, "pi4") != "7"
        # another controller is known to be down by the cluster too, if the run does not include it
        run = cluster.pyinfra(*edit, "-y", "--limit", "pi4", ok=False)
        assert run.status
        assert "pi4 is a controller, and another one, pi7, is not Ready" in run.text
        assert max_file(cluster, "pi4") != "7"
        assert not cordoned(cluster) - {"pi7"}
    finally:
        cluster.exec("pi7", "systemctl start kubelet")
    wait_for("kubelet", lambda: kubelet(cluster, "pi7"), 20)
