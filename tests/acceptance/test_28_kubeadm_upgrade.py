"""Upgrade a cluster by hand, from 1.34 to 1.35 and then to 1.36, as kubernetes.io's page describes:

https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade/

kubeadm and kubelet are the lab's stand-ins. What they refuse here is what real ones refuse.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster import by_kubeadm
from tests.cluster.by_kubeadm import kubeadm
from tests.cluster.joined import kubelet, store
from tests.cluster.lan_client import ready
from tests.cluster.virtual_cluster import Cluster, wait_for
from tests.lab import cluster_api
from tests.lab.control_plane.store import Json

FIRST, SECOND, THIRD, WORKER = "pi1", "pi4", "pi7", "pi5"
CONTROLLERS = (FIRST, SECOND, THIRD)
KUBECTL = ("kubectl", "--kubeconfig", "files/kubeconfig")
ENVIRONMENT = "/var/lib/kubelet/kubeadm-flags.env"


@pytest.fixture(scope="module")
def formed(deployed: Cluster) -> Iterator[Cluster]:
    """Make the nodes a cluster at 1.34, and afterwards bring them back."""
    by_kubeadm.form(deployed, "1.34.2")
    yield deployed
    by_kubeadm.dissolve(deployed)


def install(cluster: Cluster, node: str, version: str, *packages: str) -> None:
    """Install packages of a version of Kubernetes by apt, from the repository of its minor one."""
    minor = ".".join(version.split(".")[:2])
    names = " ".join(f"{package}={version}-*" for package in packages)
    cluster.exec(
        node,
        "export DEBIAN_FRONTEND=noninteractive\n"
        f"sed -i 's|/v1[.][0-9]*/|/v{minor}/|' /etc/apt/sources.list.d/kubernetes.list\n"
        f"apt-get -qq update && apt-mark -qq unhold {' '.join(packages)} &&\n"
        f"apt-get -qq -y install --allow-downgrades {names} && apt-mark -qq hold "
        f"{' '.join(packages)}",
    )


def upgrade_kubelet(cluster: Cluster, node: str, version: str) -> None:
    """Upgrade kubelet in a drained node, and wait until the node does its work."""
    drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data")
    cluster.run(*KUBECTL, *drain)
    install(cluster, node, version, "kubelet", "kubectl")
    cluster.exec(node, "systemctl daemon-reload; systemctl restart kubelet")
    wait_for(f"kubelet of {node}", lambda: kubelet_version(cluster, node) == f"v{version}", 30)
    cluster.run(*KUBECTL, "uncordon", node)
    if node in CONTROLLERS:
        wait_for(f"the API server of {node}", lambda: ready(cluster, [node]), 30)


def kubelet_version(cluster: Cluster, node: str) -> str:
    """Return the version of a node's kubelet as the cluster has it."""
    item = cluster_api.nodes(store(cluster))[node]
    return str(item["status"]["nodeInfo"]["kubeletVersion"])


def server_version(cluster: Cluster, node: str) -> str:
    """Return the version that a node's own API server tells anybody."""
    said = cluster.exec(node, "curl -sk https://127.0.0.1:6443/version")
    return str(json.loads(said)["gitVersion"])


def pods(cluster: Cluster, *words: str) -> list[Json]:
    """Return pods as kubectl has them."""
    done = cluster.run(*KUBECTL, "get", "pods", "-o", "json", *words)
    found: list[Json] = json.loads(done.out)["items"]
    return found


def test_kubectl_shows_the_cluster_that_kubeadm_has_formed(formed: Cluster) -> None:
    selector = "node-role.kubernetes.io/control-plane"
    done = formed.run(*KUBECTL, "get", "nodes", "-o", "json", "-l", f"{selector}=")
    names = {node["metadata"]["name"] for node in json.loads(done.out)["items"]}
    assert names == {*CONTROLLERS}
    static = pods(formed, "-n", "kube-system", "-l", "tier=control-plane")
    assert len(static) == 9
    for node in CONTROLLERS:
        assert server_version(formed, node) == "v1.34.2"


def test_kubeadm_does_not_upgrade_to_a_minor_version_that_it_is_not_of(formed: Cluster) -> None:
    said = kubeadm(formed, FIRST, "upgrade apply v1.35.1 -y", ok=False)
    assert "at least one minor release higher than the kubeadm minor release (35 > 34)" in said
    install(formed, FIRST, "1.35.0", "kubeadm")
    said = kubeadm(formed, FIRST, "upgrade apply v1.35.1 -y", ok=False)
    assert 'is higher than the kubeadm version "v1.35.0". Upgrade kubeadm first' in said
    said = kubeadm(formed, FIRST, "upgrade apply v1.34.1 -y", ok=False)
    assert "can only be used to upgrade to Kubernetes version 1.35" in said


def test_no_minor_version_is_skipped(formed: Cluster) -> None:
    install(formed, FIRST, "1.36.2", "kubeadm")
    for words in ("upgrade apply v1.36.2 -y", "upgrade plan", "upgrade node"):
        said = kubeadm(formed, FIRST, words, ok=False)
        assert "control plane version >= 1.35.0. Current version: v1.34.2" in said
    assert server_version(formed, FIRST) == "v1.34.2"


def test_a_worker_cannot_begin(formed: Cluster) -> None:
    install(formed, WORKER, "1.35.1", "kubeadm")
    said = kubeadm(formed, WORKER, "upgrade apply v1.35.1 -y", ok=False)
    assert "load admin kubeconfig: open /etc/kubernetes/admin.conf: no such file" in said


def test_kubelet_of_1_35_does_not_start_with_the_flags_of_1_34(formed: Cluster) -> None:
    """Check what becomes of a node whose kubelet is upgraded before ``kubeadm upgrade``."""
    assert "--pod-infra-container-image=" in formed.exec(WORKER, f"cat {ENVIRONMENT}")
    install(formed, WORKER, "1.35.1", "kubelet")
    formed.exec(WORKER, "systemctl restart kubelet")
    complaint = "failed to parse kubelet flag: unknown flag: --pod-infra-container-image"
    log = f"journalctl -u kubelet --since -60s | grep -c '{complaint}' || true"
    wait_for("kubelet's complaint", lambda: formed.exec(WORKER, log) != "0", 30)
    assert kubelet_version(formed, WORKER) == "v1.34.2"
    install(formed, WORKER, "1.34.2", "kubelet")
    formed.exec(WORKER, "systemctl restart kubelet")
    wait_for("kubelet", lambda: kubelet(formed, WORKER) == "1.34.2", 30)


def test_a_controller_that_is_not_ready_stops_the_upgrade(formed: Cluster) -> None:
    install(formed, FIRST, "1.35.1", "kubeadm")
    formed.exec(THIRD, "systemctl stop kubelet")
    try:
        cluster_api.set_seconds(store(formed), "node-monitor-grace-period", 2)
        wait_for("the node's state", lambda: "NotReady" in _nodes(formed), 30)
        said = kubeadm(formed, FIRST, "upgrade apply v1.35.1 -y", ok=False)
    finally:
        formed.exec(THIRD, "systemctl start kubelet")
        cluster_api.set_seconds(store(formed), "node-monitor-grace-period", None)
    assert f"there are NotReady control-planes in the cluster: [{THIRD}]" in said
    wait_for("the node's state", lambda: "NotReady" not in _nodes(formed), 30)


def _nodes(cluster: Cluster) -> str:
    """Return the states of all nodes."""
    form = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"
    states = cluster.run(*KUBECTL, "get", "nodes", "-o", form).out.split()
    return " ".join("Ready" if state == "True" else "NotReady" for state in states)


def test_nodes_that_take_no_pods_stop_the_upgrade(formed: Cluster) -> None:
    """Check it, as kubeadm has a Job run before."""
    formed.run(*KUBECTL, "cordon", *formed.workers)
    try:
        said = kubeadm(formed, FIRST, "upgrade apply v1.35.1 -y", ok=False)
    finally:
        formed.run(*KUBECTL, "uncordon", *formed.workers)
    assert "did not complete in 15s: no condition of type Complete" in said


@pytest.mark.parametrize("version", ["1.35.1", "1.36.2"])
def test_a_cluster_goes_up_by_one_minor_version(formed: Cluster, version: str) -> None:
    for node in (*CONTROLLERS, WORKER):
        install(formed, node, version, "kubeadm")
        if node == FIRST:
            assert f"kubeadm upgrade apply v{version}" in kubeadm(formed, node, "upgrade plan")
            said = kubeadm(formed, node, f"upgrade apply v{version} -y")
            assert f'of your cluster was upgraded to "v{version}".' in said
        else:
            said = kubeadm(formed, node, "upgrade node")
            assert "kubelet configuration for this node was successfully upgraded!" in said
        if node in CONTROLLERS:
            # kubeadm does not wait for it
            wait_for(f"the API server of {node}", partial(ready, formed, [node]), 30)
            assert server_version(formed, node) == f"v{version}"
            assert "Renewing apiserver certificate" in said
        assert "pod-infra-container-image" not in formed.exec(node, f"cat {ENVIRONMENT}")
    for node in (*CONTROLLERS, WORKER):
        upgrade_kubelet(formed, node, version)
    by_kubeadm.wait_until_ready(formed, formed.workers)
    versions = {kubelet_version(formed, node) for node in formed.workers}
    assert versions == {f"v{version}"}


def test_a_second_upgrade_changes_no_manifest(formed: Cluster) -> None:
    said = kubeadm(formed, FIRST, "upgrade apply v1.36.2 -y")
    assert "Current and new manifests of kube-apiserver are equal, skipping upgrade" in said


def test_a_minor_version_of_kubelet_restarts_the_api_server(formed: Cluster) -> None:
    """Check what a turn has to wait for, as real containers are restarted too."""
    started = "systemctl show -p ExecMainStartTimestampMonotonic --value lab-apiserver"
    before = formed.exec(SECOND, started)
    formed.exec(SECOND, "systemctl restart kubelet")
    wait_for("kubelet", lambda: kubelet(formed, SECOND) == "1.36.2", 20)
    assert formed.exec(SECOND, started) == before
    install(formed, SECOND, "1.35.1", "kubelet")
    formed.exec(SECOND, "systemctl restart kubelet")
    wait_for("the restart", lambda: formed.exec(SECOND, started) != before, 20)
    upgrade_kubelet(formed, SECOND, "1.36.2")


def test_certificates_are_told_and_renewed(formed: Cluster) -> None:
    told = json.loads(kubeadm(formed, FIRST, "certs check-expiration -o json"))
    left = {each["name"]: each["residualTime"] // 86400 for each in told["certificates"]}
    assert left["apiserver"] == left["admin.conf"] == 364
    serial = "openssl x509 -noout -serial -in /etc/kubernetes/pki/apiserver.crt"
    before = formed.exec(FIRST, serial)
    assert "Done renewing certificates" in kubeadm(formed, FIRST, "certs renew all")
    assert formed.exec(FIRST, serial) != before


def test_a_token_lives_until_it_is_deleted(formed: Cluster) -> None:
    token = kubeadm(formed, FIRST, "token create --ttl 10m")
    assert token in kubeadm(formed, FIRST, "token list")
    kubeadm(formed, FIRST, f"token delete {token}")
    assert token not in kubeadm(formed, FIRST, "token list")
