"""Test the rules for upgrades: each refused state, with its message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos_engine.facts.text import named
from chaos_engine.operations.kubernetes.skew import (
    RULES,
    ClusterState,
    Wanted,
    check_skew,
    first_controller,
    left_behind,
    numbers,
    refusals,
)

CONTROLLERS = ("pi1", "pi4", "pi7")
NODES = (*CONTROLLERS, "pi5")
CLUSTER = ClusterState(
    "1.34.2",
    dict.fromkeys(CONTROLLERS, "1.34.2"),
    dict.fromkeys(NODES, "1.34.2"),
    CONTROLLERS,
    {"192.168.1.40": "3.5.24"},
    "0.4.3",
)
WANTED = Wanted("1.35.1", NODES, CONTROLLERS)


def found(**changes: Any) -> ClusterState:
    return replace(CLUSTER, **changes)


def wanted(**changes: Any) -> Wanted:
    return replace(WANTED, **changes)


def said(cluster: ClusterState, run: Wanted) -> list[str]:
    """Return the refusals as a user of the deploy reads them."""
    return [named(message, "chaos_") for message in refusals(cluster, run)]


@pytest.mark.parametrize(
    ("cluster", "run"),
    [
        (CLUSTER, WANTED),
        (CLUSTER, wanted(version="1.34.2")),
        (CLUSTER, wanted(version="1.34.9")),
        # an interrupted upgrade goes on, whatever has its version already
        (found(api_servers={**CLUSTER.api_servers, "pi1": "1.35.1"}), WANTED),
        (found(configured="1.35.1", kubelets={**CLUSTER.kubelets, "pi1": "1.35.1"}), WANTED),
        # the node itself tells why its API server does not answer
        (found(api_servers={**CLUSTER.api_servers, "pi1": ""}), WANTED),
        # the control plane is done, and some workers follow
        (
            found(configured="1.35.1", api_servers=dict.fromkeys(CONTROLLERS, "1.35.1")),
            wanted(nodes=("pi5",)),
        ),
        (found(kubelets={**CLUSTER.kubelets, "pi9": "1.32.0"}), WANTED),
        (found(kubelets={**CLUSTER.kubelets, "pi5": ""}), WANTED),
        (found(etcd={"192.168.1.40": ""}, cri_dockerd=""), WANTED),
        # a controller of the settings that has not joined yet
        (found(), wanted(controllers=(*CONTROLLERS, "pi9"))),
    ],
)
def test_an_upgrade_that_keeps_the_rules_is_not_refused(cluster: ClusterState, run: Wanted) -> None:
    assert refusals(cluster, run) == []


@pytest.mark.parametrize(
    ("cluster", "run", "message"),
    [
        (
            found(configured=""),
            WANTED,
            "the cluster has no configmap kubeadm-config in kube-system, so kubeadm has not made "
            "the cluster and cannot upgrade it",
        ),
        (
            CLUSTER,
            wanted(version="1.33.9"),
            "kubeadm's configuration is 1.34.2, the API server of pi1 is 1.34.2, the API server of "
            "pi4 is 1.34.2, the API server of pi7 is 1.34.2, the kubelet of pi1 is 1.34.2, the "
            "kubelet of pi4 is 1.34.2, the kubelet of pi7 is 1.34.2, the kubelet of pi5 is 1.34.2, "
            "and a cluster cannot be downgraded to 1.33.9; set chaos_kubernetes_version to 1.34.2 "
            "or later",
        ),
        (
            found(kubelets={**CLUSTER.kubelets, "pi5": "1.36.0"}),
            WANTED,
            "the kubelet of pi5 is 1.36.0, and a cluster cannot be downgraded to 1.35.1; set "
            "chaos_kubernetes_version to 1.36.0 or later",
        ),
        (
            found(api_servers={**CLUSTER.api_servers, "pi4": "1.34.3"}),
            wanted(version="1.34.2"),
            "the API server of pi4 is 1.34.3, and a cluster cannot be downgraded to 1.34.2; set "
            "chaos_kubernetes_version to 1.34.3 or later",
        ),
        (
            CLUSTER,
            wanted(version="1.36.2"),
            "kubeadm's configuration is 1.34.2, and kubeadm upgrades by one minor version at a "
            "time; set chaos_kubernetes_version to a release of 1.35 first, and to 1.36.2 later",
        ),
        (
            found(configured="1.35.1", api_servers={"pi1": "1.35.1", "pi4": "1.34.2"}),
            wanted(version="1.36.2"),
            "the API server of pi4 is 1.34.2, and kubeadm upgrades by one minor version at a "
            "time; set chaos_kubernetes_version to a release of 1.35 first, and to 1.36.2 later",
        ),
        # kubeadm 1.36 leaves a flag of 1.34 in place, with which kubelet 1.36 does not start
        (
            found(
                configured="1.35.1",
                api_servers=dict.fromkeys(CONTROLLERS, "1.35.1"),
                kubelets={**dict.fromkeys(CONTROLLERS, "1.35.1"), "pi5": "1.34.2"},
            ),
            wanted(version="1.36.2"),
            "the kubelet of pi5 is 1.34.2, and kubeadm upgrades a node by one minor version at a "
            "time; set chaos_kubernetes_version to a release of 1.35 first, and to 1.36.2 later",
        ),
        (
            found(kubelets={**CLUSTER.kubelets, "pi9": "1.31.14"}),
            WANTED,
            "the kubelet of pi9 is 1.31.14, but an API server 1.35.1 works with a kubelet 1.32 or "
            "newer; set chaos_kubernetes_version to a release of 1.34 or older first, and include "
            "pi9 in that run",
        ),
        (
            found(
                configured="1.26.9",
                api_servers=dict.fromkeys(CONTROLLERS, "1.26.9"),
                kubelets={**dict.fromkeys(NODES, "1.26.9"), "pi9": "1.24.1"},
            ),
            wanted(version="1.27.3"),
            "the kubelet of pi9 is 1.24.1, but an API server 1.27.3 works with a kubelet 1.25 or "
            "newer; set chaos_kubernetes_version to a release of 1.26 or older first, and include "
            "pi9 in that run",
        ),
        (
            found(controllers=(*CONTROLLERS, "pi9")),
            WANTED,
            "pi9: a controller of the cluster, but not in chaos_controllers; add it there, and to "
            "the inventory",
        ),
        (
            CLUSTER,
            wanted(nodes=("pi1", "pi4", "pi5")),
            "the controller pi7 is not in this run, and its API server is 1.34.2; all controllers "
            "have to be upgraded before the kubelets, so include pi7",
        ),
        (
            found(api_servers={**CLUSTER.api_servers, "pi7": ""}),
            wanted(nodes=("pi1", "pi4", "pi5")),
            "the controller pi7 is not in this run, and its API server does not answer; all "
            "controllers have to be upgraded before the kubelets, so include pi7",
        ),
        (
            found(etcd={"192.168.1.40": "3.5.16"}),
            WANTED,
            "etcd 3.5.16 on 192.168.1.40: kubeadm 1.35.1 refuses an etcd older than 3.5.24; "
            "upgrade etcd before you run kubeadm",
        ),
        (
            found(cri_dockerd="0.2.6"),
            WANTED,
            "Kubernetes 1.26 and newer need cri-dockerd 0.3.0 or newer; chaos_kubernetes_version "
            "is 1.35.1 and chaos_cri_dockerd_version is 0.2.6; set chaos_cri_dockerd_version to "
            "0.3.0 or newer, and run chaos_engine.deploys.cri_dockerd before the upgrade",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused(cluster: ClusterState, run: Wanted, message: str) -> None:
    assert said(cluster, run) == [message]


def test_all_refusals_are_told_at_once() -> None:
    cluster = found(etcd={"192.168.1.40": "3.4.1"}, kubelets={**CLUSTER.kubelets, "pi5": "1.28.15"})
    said_of = said(cluster, wanted(version="1.36.2", nodes=("pi1", "pi5")))
    assert len(said_of) == 5, said_of  # two controllers are missing


def test_each_rule_has_a_source_and_refuses_something() -> None:
    bad = found(
        configured="",
        api_servers={"pi1": "1.36.2", "pi4": "1.33.0"},
        kubelets={"pi1": "1.32.0", "pi4": "1.34.2", "pi9": "1.30.0", "pi10": "1.36.0"},
        controllers=("pi9",),
        etcd={"192.168.1.40": "3.4.1"},
        cri_dockerd="0.2.6",
    )
    for rule in RULES:
        assert rule.source
        assert [*rule.broken(bad, WANTED)], rule.rule


def test_nodes_that_stay_behind_are_named() -> None:
    cluster = found(kubelets={**CLUSTER.kubelets, "pi9": "1.34.2", "pi10": "1.35.1", "pi2": ""})
    assert left_behind(cluster, WANTED) == {"pi9": "1.34.2"}


@pytest.mark.parametrize(
    ("configured", "api_servers", "first"),
    [
        ("1.34.2", {"pi1": "1.34.2", "pi4": "1.34.2", "pi7": "1.34.2"}, "pi1"),
        # apply was interrupted on pi4, before and after its API server had the new version
        ("1.34.2", {"pi1": "1.34.2", "pi4": "", "pi7": "1.34.2"}, "pi4"),
        ("1.34.2", {"pi1": "1.34.2", "pi4": "1.35.1", "pi7": "1.34.2"}, "pi4"),
        # apply has done its work
        ("1.35.1", {"pi1": "1.34.2", "pi4": "1.35.1", "pi7": "1.34.2"}, ""),
        ("1.35.1", {"pi1": "1.35.1", "pi4": "1.35.1", "pi7": "1.35.1"}, ""),
    ],
)
def test_apply_runs_on_the_first_controller_or_where_it_has_begun(
    configured: str, api_servers: dict[str, str], first: str
) -> None:
    assert first_controller(found(configured=configured, api_servers=api_servers), WANTED) == first


def test_apply_does_not_run_on_a_controller_that_has_not_joined() -> None:
    assert first_controller(CLUSTER, wanted(controllers=("pi9", *CONTROLLERS))) == "pi1"


@pytest.mark.parametrize(
    ("now", "then", "refused"),
    [
        (
            "1.28.15",
            "1.28.14",
            "the node has joined a cluster, so kubelet 1.28.15 cannot be downgraded to 1.28.14; "
            "set chaos_kubernetes_version to 1.28.15 or later",
        ),
        (
            "1.36.2",
            "1.35.9",
            "the node has joined a cluster, so kubelet 1.36.2 cannot be downgraded to 1.35.9; set "
            "chaos_kubernetes_version to 1.36.2 or later",
        ),
        (
            "1.28.15",
            "1.29.0",
            "the node has joined a cluster, and kubelet 1.28.15 must not become 1.29.0 before all "
            "API servers have that minor version; upgrade the whole cluster with "
            "chaos_engine.deploys.upgrade, or set chaos_kubernetes_version to a release of 1.28",
        ),
        ("1.28.9", "1.28.15", ""),
        ("1.28.15", "1.28.15", ""),
        (
            "dev",
            "1.28.15",
            "the node has joined a cluster, but the version 'dev' of its kubelet is no release of "
            "Kubernetes; install a release of kubelet on this node",
        ),
    ],
)
def test_a_joined_nodes_kubelet_alone_gets_patch_releases_only(
    now: str, then: str, refused: str
) -> None:
    assert check_skew(now, then, joined=False) == ""
    assert named(check_skew(now, then, joined=True), "chaos_") == refused


@pytest.mark.parametrize("text", ["", "1.36", "latest"])
def test_what_is_no_version_is_told(text: str) -> None:
    assert numbers("v1.36.2") == numbers("1.36.2-1.1") == (1, 36, 2)
    with pytest.raises(ValueError, match="is no version"):
        numbers(text)
