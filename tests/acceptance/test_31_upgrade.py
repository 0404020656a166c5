"""Upgrade a cluster that kubeadm has made: three controllers and a worker, one minor by another.

kubeadm, kubelet and the API servers are the lab's stand-ins, which refuse and write what the real
ones do. Requests go to the API's address all the time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaos_engine.facts.kubernetes import KUBELET_CONFIG
from tests.cluster.by_kubeadm import options
from tests.cluster.joined import KUBECONFIG, cordoned, kubelet, store
from tests.cluster.lan_client import CONTROLLERS, ready
from tests.cluster.turns import are_apart, at_least_two_were_ready, in_proxys_turn_only, watched
from tests.cluster.upgrades import (
    FIRST,
    in_its_turn,
    killed_when,
    kubeadm_works,
    made_by_kubeadm,
    state,
    to,
)
from tests.cluster.virtual_cluster import Cluster, wait_for

OLD, MIDDLE, NEW = "1.34.2", "1.35.1", "1.36.2"
GATE = "ExtendWebSocketsToKubelet"
CONFIGMAP = "configmaps/kube-system/kubelet-config"
KUBEADM, APPLY, NODE, KUBELET, CONFIGURE = (
    f"Upgrade | {name}"
    for name in (
        "Install kubeadm",
        "Upgrade first controller",
        "Upgrade other controllers",
        "Upgrade kubelet",
        "Configure kubelet",
    )
)


@pytest.fixture(scope="module")
def old(deployed: Cluster) -> Iterator[Cluster]:
    """Have all nodes join a cluster at the oldest version."""
    with made_by_kubeadm(deployed, OLD) as cluster:
        yield cluster


def plan(cluster: Cluster) -> dict[str, set[str]]:
    """Return what an upgrade of the whole cluster has to do on each node."""
    others = CONTROLLERS - {FIRST}
    return {
        node: {KUBEADM, KUBELET, *([APPLY] if node == FIRST else [NODE] if node in others else [])}
        for node in cluster.workers
    }


def is_at(cluster: Cluster, version: str) -> None:
    """Check what each node runs, has installed and holds."""
    minor = version.rpartition(".")[0]
    for node, lines in state(cluster).items():
        images = [line for line in lines if line.startswith("image: ")]
        assert {line.rpartition(":")[2] for line in images} <= {f"v{version}"}, (node, images)
        assert bool(images) == (node in CONTROLLERS)
        rest = [line for line in lines if line not in images]
        assert rest == sorted(
            [
                f"Kubernetes v{version}",
                *(f"{name} installed {version}-1.1" for name in ("kubeadm", "kubectl", "kubelet")),
                *("kubeadm", "kubectl", "kubelet"),
                "deb [signed-by=/etc/apt/keyrings/kubernetes-apt-keyring.gpg] "
                f"https://pkgs.k8s.io/core:/stable:/v{minor}/deb/ /",
                *(["active"] * 3),
                "0",
            ]
        ), (node, rest)


def test_deploy_refuses_another_minor_version_and_points_to_upgrade(old: Cluster) -> None:
    run = old.pyinfra("deploy.py", "--dry", *options(MIDDLE), *KUBECONFIG, ok=False)
    assert run.status
    assert "upgrade the whole cluster with chaos_engine.deploys.upgrade" in run.text


@pytest.mark.parametrize(
    ("version", "more", "message"),
    [
        (NEW, (), "kubeadm upgrades by one minor version at a time; set chaos_kubernetes_version "
         "to a release of 1.35 first"),
        ("1.34.1", (), "a cluster cannot be downgraded to 1.34.1"),
        (MIDDLE, ("--limit", "pi1", "--limit", "pi4", "--limit", "pi5"), "the controller pi7 is "
         "not in this run, and its API server is 1.34.2"),
    ],
)  # fmt: skip
def test_what_breaks_the_rules_is_refused(
    old: Cluster, version: str, more: tuple[str, ...], message: str
) -> None:
    run = old.pyinfra(*to(version), "-y", *more, ok=False)
    assert run.status
    assert message in " ".join(run.text.split()), run.text
    assert {kubelet(old, node) for node in old.workers} == {OLD}


def test_an_upgrade_to_the_next_minor_version(old: Cluster) -> None:
    assert old.announced(*to(MIDDLE)) == plan(old)
    why = old.announced_why
    assert why[FIRST][KUBEADM][0] == f"kubeadm {OLD} -> {MIDDLE}"
    assert why[FIRST][APPLY] == [f"kubeadm upgrade apply v{MIDDLE} (the cluster is {OLD})"]
    assert "kubeadm upgrade node" in why["pi5"][KUBELET]
    assert f"kubelet {OLD} -> {MIDDLE}" in why["pi5"][KUBELET]
    with watched(old) as watch:
        assert old.changed(*to(MIDDLE)) == plan(old)
    assert old.changed_why == why
    assert sorted(turn.node for turn in watch.turns) == sorted(old.workers)
    are_apart(watch, *CONTROLLERS)
    at_least_two_were_ready(watch)
    in_proxys_turn_only(watch)
    is_at(old, MIDDLE)


def test_a_second_run_changes_nothing(old: Cluster) -> None:
    assert old.announced(*to(MIDDLE)) == {}
    assert old.changed(*to(MIDDLE)) == {}


def test_a_run_that_is_killed_and_a_node_that_goes_are_no_end(old: Cluster) -> None:
    """Kill the upgrade while kubeadm works, cut a node's power in its turn, and run it again."""
    with watched(old) as watch:
        killed_when(old, NEW, "kubeadm at work", lambda: kubeadm_works(old, FIRST))
    at_least_two_were_ready(watch)

    gone = cut_in_its_turn(old)

    wait_for("the API servers", lambda: ready(old, CONTROLLERS) == CONTROLLERS, 120)
    wait_for("kubelet", lambda: kubelet(old, gone), 60)
    announced = old.announced(*to(NEW))
    assert gone in announced
    assert {node for node, names in announced.items() if CONFIGURE in names} == {*old.workers}
    assert old.changed(*to(NEW)) == announced
    is_at(old, NEW)
    assert not cordoned(old)
    assert old.announced(*to(NEW)) == {}


def test_kubectl_exec_works_after_the_upgrade(old: Cluster) -> None:
    assert exec_works(old) == {*old.workers}
    assert f"{GATE}: false" in configmap(old), "nodes that join later need it too"
    run = old.pyinfra("deploy.py", "--dry", *options(NEW), *KUBECONFIG)
    assert "kubectl exec and attach fail" not in run.text


def test_an_upgrade_to_the_same_version_sets_a_gate_that_somebody_took_out(old: Cluster) -> None:
    edit = f"sed -i 's/{GATE}: false/{GATE}: true/' {KUBELET_CONFIG}; systemctl restart kubelet"
    for node in old.workers:
        old.exec(node, edit)
    with store(old).transaction() as kept:
        shown = kept[CONFIGMAP]
        shown["data"]["kubelet"] = shown["data"]["kubelet"].replace("false", "true")
        kept.put(CONFIGMAP, shown)
    wait_for("kubelet", lambda: all(kubelet(old, node) for node in old.workers), 60)
    assert not exec_works(old)
    run = old.pyinfra("deploy.py", "--dry", *options(NEW), *KUBECONFIG)
    assert "kubectl exec and attach fail on this node" in run.text

    assert old.announced(*to(NEW)) == {node: {CONFIGURE} for node in old.workers}
    assert old.announced_why["pi5"][CONFIGURE] == [f"kubelet's featureGates.{GATE} true -> false"]
    with watched(old) as watch:
        assert old.changed(*to(NEW)) == {node: {CONFIGURE} for node in old.workers}
    at_least_two_were_ready(watch)
    assert exec_works(old) == {*old.workers}
    assert old.announced(*to(NEW)) == {}


def exec_works(cluster: Cluster) -> set[str]:
    """Return the nodes on which kubelet opens a stream of the container runtime, as exec does."""
    ask = "curl -s http://localhost:10248/lab/exec"
    return {node for node in cluster.workers if cluster.exec(node, ask, ok=False) == "ok"}


def configmap(cluster: Cluster) -> str:
    """Return kubelet's configuration in the cluster."""
    with store(cluster).transaction() as kept:
        return str(kept[CONFIGMAP]["data"]["kubelet"])


def cut_in_its_turn(cluster: Cluster) -> str:
    """Upgrade, and cut the power of the first node that has its turn. Return the node."""
    run = cluster.start("run", "--", "pyinfra", "inventory.py", "-y", *to(NEW), *cluster.limit)
    wait_for("a turn", lambda: in_its_turn(cluster), 180)
    gone = in_its_turn(cluster)
    cluster.power(gone, "cut")
    said, _ = run.communicate(timeout=600)
    assert run.returncode
    others = [node for node in cluster.workers if node != gone]
    for node in others:
        assert f"because of a problem on {gone}: " in said, (node, said)
    assert cordoned(cluster) == {gone}
    cluster.power(gone, "on")
    return gone
