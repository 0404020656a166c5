"""Tell which upgrades of a cluster the rules of Kubernetes and kubeadm allow."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from chaos_engine.facts.text import setting
from chaos_engine.operations.compatibility import etcd_misfit, kubernetes_misfit

VERSION = setting("kubernetes_version")
UPGRADE = "chaos_engine.deploys.upgrade"
"""The deploy that upgrades a cluster."""

POLICY = "kubernetes.io/releases/version-skew-policy"

OLDER_KUBELETS = ((25, 3), (0, 2))
"""By how many minor versions a kubelet may be older than an API server, from the kubelet's minor
version on that stands before it."""


@dataclass(frozen=True)
class ClusterState:
    """The versions that were found in a cluster.

    + configured: version to which kubeadm has last brought the cluster
    + api_servers: version of each controller's API server, by the controller's name; "" if the API
      server does not answer
    + kubelets: version of each node's kubelet, by the node's name; "" if it is unknown
    + controllers: the names of the nodes that kubeadm has marked as controllers
    + etcd: version of each etcd server by its address; "" if it does not answer
    + cri_dockerd: version of the current node's cri-dockerd; "" if it is unknown
    """

    configured: str
    api_servers: Mapping[str, str] = field(default_factory=dict)
    kubelets: Mapping[str, str] = field(default_factory=dict)
    controllers: Collection[str] = ()
    etcd: Mapping[str, str] = field(default_factory=dict)
    cri_dockerd: str = ""


@dataclass(frozen=True)
class Wanted:
    """The upgrade that a run is asked for.

    + version: the version to which the cluster shall be brought
    + nodes: names of the nodes in the run
    + controllers: names of the controllers that the settings name
    """

    version: str
    nodes: Collection[str] = ()
    controllers: Collection[str] = ()


@dataclass(frozen=True)
class Rule:
    """A rule for upgrades.

    + rule: the rule in one sentence
    + source: where the rule is documented
    + broken: function that yields a message for each way in which an upgrade breaks the rule
    """

    rule: str
    source: str
    broken: Callable[[ClusterState, Wanted], Iterator[str]]


_VERSION = r"v?(\d+)\.(\d+)\.(\d+)"


def numbers(version: str) -> tuple[int, int, int]:
    """Return the numbers of a version: ``numbers("1.36.2") == (1, 36, 2)``.

    Raises ``ValueError`` if the text does not begin with a version.
    """
    match = re.match(_VERSION, version)
    if not match:
        raise ValueError(f"{version!r} is no version")
    return int(match[1]), int(match[2]), int(match[3])


def minor(version: str) -> int:
    """Return the minor version of a release: ``minor("1.36.2") == 36``."""
    return numbers(version)[1]


def _control_plane(cluster: ClusterState) -> dict[str, str]:
    """Return the known versions of the control plane, by the words that name each."""
    found = {f"the API server of {name}": one for name, one in cluster.api_servers.items()}
    return {"kubeadm's configuration": cluster.configured} | {n: v for n, v in found.items() if v}


def _made_by_kubeadm(cluster: ClusterState, wanted: Wanted) -> Iterator[str]:
    if not cluster.configured:
        yield (
            "the cluster has no configmap kubeadm-config in kube-system, so kubeadm has not made "
            "the cluster and cannot upgrade it"
        )


def _no_downgrade(cluster: ClusterState, wanted: Wanted) -> Iterator[str]:
    newer = {
        name: version
        for name, version in {
            **_control_plane(cluster),
            **{f"the kubelet of {name}": version for name, version in cluster.kubelets.items()},
        }.items()
        if version and numbers(version) > numbers(wanted.version)
    }
    if newer:
        newest = max(newer.values(), key=numbers)
        found = ", ".join(f"{name} is {version}" for name, version in newer.items())
        yield (
            f"{found}, and a cluster cannot be downgraded to {wanted.version}; set {VERSION} to "
            f"{newest} or later"
        )


def _one_minor(cluster: ClusterState, wanted: Wanted) -> Iterator[str]:
    known = {name: version for name, version in _control_plane(cluster).items() if version}
    behind = {n: v for n, v in known.items() if minor(v) + 1 < minor(wanted.version)}
    if behind:
        name, oldest = min(behind.items(), key=lambda one: numbers(one[1]))
        yield (
            f"{name} is {oldest}, and kubeadm upgrades by one minor version at a time; set "
            f"{VERSION} to a release of 1.{minor(oldest) + 1} first, and to {wanted.version} later"
        )


def _one_minor_of_node(cluster: ClusterState, wanted: Wanted) -> Iterator[str]:
    # A kubelet as old as the control plane is not named besides it
    known = [minor(version) for version in _control_plane(cluster).values() if version]
    limit = min([*known, minor(wanted.version) - 1])
    for name, version in sorted(cluster.kubelets.items()):
        if name in wanted.nodes and version and minor(version) < limit:
            yield (
                f"the kubelet of {name} is {version}, and kubeadm upgrades a node by one minor "
                f"version at a time; set {VERSION} to a release of 1.{minor(version) + 1} first, "
                f"and to {wanted.version} later"
            )


def _old_kubelets(cluster: ClusterState, wanted: Wanted) -> Iterator[str]:
    for name, version in sorted(cluster.kubelets.items()):
        if name in wanted.nodes or not version:
            continue
        allowed = next(most for since, most in OLDER_KUBELETS if minor(version) >= since)
        oldest = minor(wanted.version) - allowed
        if minor(version) < oldest:
            yield (
                f"the kubelet of {name} is {version}, but an API server {wanted.version} works "
                f"with a kubelet 1.{oldest} or newer; set {VERSION} to a release of "
                f"1.{minor(version) + allowed} or older first, and include {name} in that run"
            )


def _whole_control_plane(cluster: ClusterState, wanted: Wanted) -> Iterator[str]:
    unknown = sorted({*cluster.controllers} - {*wanted.controllers})
    if unknown:
        yield (
            f"{', '.join(unknown)}: a controller of the cluster, but not in "
            f"{setting('controllers')}; add it there, and to the inventory"
        )
    for name in wanted.controllers:
        version = cluster.api_servers.get(name, "")
        if name in wanted.nodes or name not in cluster.kubelets or version == wanted.version:
            continue
        found = f"its API server is {version}" if version else "its API server does not answer"
        yield (
            f"the controller {name} is not in this run, and {found}; all controllers have to be "
            f"upgraded before the kubelets, so include {name}"
        )


def _etcd(cluster: ClusterState, wanted: Wanted) -> Iterator[str]:
    if problem := etcd_misfit(wanted.version, cluster.etcd):
        yield problem


def _cri_dockerd(cluster: ClusterState, wanted: Wanted) -> Iterator[str]:
    if cluster.cri_dockerd and (problem := kubernetes_misfit(cluster.cri_dockerd, wanted.version)):
        yield f"{problem}, and run chaos_engine.deploys.cri_dockerd before the upgrade"


RULES = (
    Rule(
        "kubeadm upgrades the clusters that kubeadm has made",
        "kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade",
        _made_by_kubeadm,
    ),
    Rule(
        "no part of a cluster goes back to an older version",
        "kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade",
        _no_downgrade,
    ),
    Rule(
        "the control plane goes up by one minor version at a time",
        "MaximumAllowedMinorVersionUpgradeSkew in kubeadm's app/phases/upgrade/policy.go",
        _one_minor,
    ),
    Rule(
        "a node goes up by one minor version at a time",
        "kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-upgrade",
        _one_minor_of_node,
    ),
    Rule(
        "a kubelet is at most three minor versions older than an API server; before 1.25, two",
        POLICY,
        _old_kubelets,
    ),
    Rule(
        "no kubelet is newer than any API server, so all controllers go first",
        POLICY,
        _whole_control_plane,
    ),
    Rule(
        "an external etcd is as new as kubeadm wants it",
        "MinExternalEtcdVersion in kubeadm's app/constants/constants.go",
        _etcd,
    ),
    Rule(
        "cri-dockerd speaks the version of the CRI that kubelet wants",
        "Mirantis/cri-dockerd#136, KEP-4033",
        _cri_dockerd,
    ),
)
"""The rules for upgrades, with their sources."""


def refusals(cluster: ClusterState, wanted: Wanted) -> list[str]:
    """Return all reasons why a cluster cannot be upgraded, [] if it can. This is a pure function.

    **Example:** ``refusals(ClusterState("1.34.2"), Wanted("1.36.2"))``
    """
    return [message for rule in RULES for message in rule.broken(cluster, wanted)]


def left_behind(cluster: ClusterState, wanted: Wanted) -> dict[str, str]:
    """Return the nodes that are not in the run and keep an older kubelet, with its version."""
    return {
        name: version
        for name, version in sorted(cluster.kubelets.items())
        if name not in wanted.nodes and version and version != wanted.version
    }


def first_controller(cluster: ClusterState, wanted: Wanted) -> str:
    """Return the controller on which ``kubeadm upgrade apply`` runs, "" if it runs on none.

    kubeadm stores the new version in its configuration when ``apply`` has upgraded the controller
    on which it runs. If ``apply`` was interrupted before that, it has to run again on the same
    controller: on the one whose API server has the new version already, or does not answer. If
    there is none, it is the first controller. This is a pure function.
    """
    if cluster.configured == wanted.version:
        return ""
    known = [name for name in wanted.controllers if name in cluster.kubelets]
    begun = [name for name in known if cluster.api_servers.get(name) in (wanted.version, "")]
    return next(iter([*begun, *known]), "")


def check_skew(installed: str, wanted: str, joined: bool) -> str:
    """Return why the kubelet of a node must not get another version by itself, "" if it may.

    + installed, wanted: versions, such as ``1.36.2``
    + joined: whether the node has joined a cluster. If not, any change is fine

    A patch release is fine, except an older one. This is a pure function.
    """
    if not joined:
        return ""
    if not re.match(_VERSION, installed):
        return (
            f"the node has joined a cluster, but the version {installed!r} of its kubelet is no "
            "release of Kubernetes; install a release of kubelet on this node"
        )
    if numbers(installed) == numbers(wanted):
        return ""
    if numbers(wanted) < numbers(installed):
        return (
            f"the node has joined a cluster, so kubelet {installed} cannot be downgraded to "
            f"{wanted}; set {VERSION} to {installed} or later"
        )
    if minor(installed) == minor(wanted):
        return ""
    return (
        f"the node has joined a cluster, and kubelet {installed} must not become {wanted} before "
        f"all API servers have that minor version; upgrade the whole cluster with {UPGRADE}, or "
        f"set {VERSION} to a release of 1.{minor(installed)}"
    )
