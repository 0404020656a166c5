"""Join a cluster by kubeadm itself, with the files that the deploy left for it.

The versions are the package's defaults, the newest pair. A controller joins by `kubeadm init`,
another one and a worker by `kubeadm join`. Then the tests do what users do on such nodes. kubeadm,
kubelet and cri-dockerd are the lab's stand-ins, which do as real ones were seen to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster import by_kubeadm
from tests.cluster.by_kubeadm import INIT, JOIN, SOCKET, kubeadm
from tests.cluster.virtual_cluster import Cluster, limits

FIRST, SECOND, WORKER = NODES = ("pi1", "pi4", "pi5")
NEWEST = (*by_kubeadm.options("1.36.2"), *limits(NODES))
UNDO = "chaos_engine.deploys.undo"
KUBELET = "http://127.0.0.1:10248"


@pytest.fixture(scope="module")
def newest(deployed: Cluster) -> Iterator[Cluster]:
    """Deploy the nodes with the newest pair, and afterwards as `deploy.py` has them."""
    deployed.pyinfra("-y", "deploy.py", *NEWEST)
    yield deployed
    by_kubeadm.dissolve(deployed)


@dataclass(frozen=True)
class Joined:
    """The cluster that the nodes have joined, with the output of kubeadm on each."""

    cluster: Cluster
    said: dict[str, str]


@pytest.fixture(scope="module")
def joined(newest: Cluster) -> Joined:
    """Have the nodes join, by the commands in the comments of their files."""
    return Joined(newest, by_kubeadm.join(newest, FIRST, (SECOND, WORKER)))


def asked(cluster: Cluster, node: str, what: str) -> str:
    """Return what a node's kubelet answers to the API server about a stream or a rotation."""
    return cluster.exec(node, f"curl -s {KUBELET}/lab/{what}")


@pytest.mark.parametrize("node", NODES)
def test_kubeadm_has_nothing_against_its_files(newest: Cluster, node: str) -> None:
    files = [JOIN] if node == WORKER else [INIT, JOIN]
    for file in files:
        assert kubeadm(newest, node, f"config validate --config {file}") == "ok"


def test_without_a_socket_kubeadm_does_not_know_which_runtime_is_meant(newest: Cluster) -> None:
    """Check why our files and our instructions to users have to name the socket."""
    found = "found multiple CRI endpoints on the host."
    assert found in kubeadm(newest, WORKER, "reset -f", ok=False)


def test_init_and_join_warn_of_nothing_that_the_deploy_could_have_done(joined: Joined) -> None:
    for node, said in joined.said.items():
        assert "sandbox image" not in said, (node, said)
        assert "socat not found" not in said, (node, said)


def test_the_api_servers_pod_sees_no_kubeconfig(joined: Joined) -> None:
    """Check it, as kubeadm mounts the whole folder of etcd's certificates into the pod."""
    pod = joined.cluster.exec(FIRST, "cat /etc/kubernetes/manifests/kube-apiserver.yaml")
    assert "mountPath: /etc/kubernetes\n" not in pod


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("what", ["exec", "attach", "portforward"])
def test_kubectl_gets_its_streams(joined: Joined, node: str, what: str) -> None:
    assert asked(joined.cluster, node, what) == "ok"


@pytest.mark.parametrize("program", ["socat", "conntrack", "crictl"])
def test_what_the_runtime_needs_is_there_and_stays(newest: Cluster, program: str) -> None:
    """Check that these packages are not there only because an older kubelet needed them."""
    package = {"crictl": "cri-tools"}.get(program, program)
    for node in NODES:
        assert newest.exec(node, f"command -v {program} || true"), f"{program} on {node}"
        removed = newest.exec(node, "apt-get --simulate autoremove")
        assert f"Remv {package} " not in removed, f"apt would remove {package} on {node}"


def test_kubelet_leaves_the_rotation_of_logs_to_docker(joined: Joined) -> None:
    """Check it, as Docker rotates them, and cri-dockerd cannot."""
    folder = "/var/log/pods/default_big_1/web"
    limit = "256000"
    assert f'"max-size": "{limit[:3]}k"' in joined.cluster.exec(
        WORKER, "cat /etc/docker/daemon.json"
    )
    joined.cluster.exec(WORKER, f"mkdir -p {folder}; truncate -s {limit} {folder}/0.log")
    try:
        assert asked(joined.cluster, WORKER, "rotate") == "ok"
    finally:
        joined.cluster.exec(WORKER, f"rm -r {folder.rpartition('/')[0]}")


def test_a_second_deploy_changes_nothing(joined: Joined) -> None:
    """Check it after kubeadm join has rewritten etcd's certificates and kubelet runs."""
    assert joined.cluster.changed("deploy.py", *NEWEST) == {}


def test_verify_finds_joined_nodes_as_wanted(joined: Joined) -> None:
    run = joined.cluster.pyinfra("chaos_engine.deploys.verify", "-y", *NEWEST)
    assert "FAILED" not in run.text


def test_undo_is_refused_and_says_how_to_leave(joined: Joined) -> None:
    (refused,) = joined.cluster.announced(UNDO, "--limit", WORKER)[WORKER]
    (said,) = joined.cluster.announced_why[WORKER][refused]
    assert "the node has joined a cluster" in said
    command = re.findall(r"kubeadm (reset[^,;]*)", said)[0].split(" on it")[0]
    assert "--cri-socket" in command, said


def test_after_a_reset_kubernetes_is_undone_without_a_trace(joined: Joined) -> None:
    cluster = joined.cluster
    assert "does not perform cleanup" in kubeadm(cluster, WORKER, f"reset -f --cri-socket {SOCKET}")
    undo = (UNDO, "--data", "chaos_undo=kubernetes", "--limit", WORKER)
    assert cluster.changed(*undo) == {WORKER: {"Undo | Undo Kubernetes"}}
    assert cluster.announced(*undo) == {}
    left = cluster.exec(WORKER, "find /etc/kubernetes /var/lib/kubelet -type f 2>/dev/null || true")
    etcds = ("ca.crt", "client.crt", "client.key")
    assert set(left.split()) <= {
        f"{folder}/{name}"
        for folder in ("/etc/kubernetes", "/etc/kubernetes/etcd")
        for name in etcds
    }
    assert cluster.exec(WORKER, "command -v kubeadm kubelet || true") == ""
