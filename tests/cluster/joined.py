"""Have nodes of the lab join a cluster and leave it, by kubeadm's files and kubelet.

The cluster is the lab's (`lab/control_plane`). Its controllers are pi1, pi4 and pi7; only they have
a kube-apiserver, and only while they have joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.cluster.lan_client import CONTROLLERS, ready
from tests.cluster.virtual_cluster import Cluster, wait_for
from tests.lab import cluster_api, network
from tests.lab.cgroup import Group
from tests.lab.control_plane import objects
from tests.lab.control_plane.controllers import is_ready
from tests.lab.control_plane.store import Json, Store
from tests.lab.paths import LabPaths

KUBECONFIG = ("--data", "chaos_kubeconfig=files/kubeconfig")
"""pyinfra's options that name the kubeconfig of this cluster."""

_JOIN = """\
mkdir -p /var/lib/kubelet
printf 'apiVersion: kubelet.config.k8s.io/v1beta1\\nkind: KubeletConfiguration\\n' \
  >/var/lib/kubelet/config.yaml
printf 'apiVersion: v1\\nkind: Config\\n' >/etc/kubernetes/kubelet.conf
systemctl start kubelet
"""
_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
_JOIN_AS_CONTROLLER = f"""\
mkdir -p /etc/kubernetes/manifests
printf 'apiVersion: v1\\nkind: Pod\\nspec:\\n  containers:\\n  - image: %s:%s\\n' \
  registry.k8s.io/kube-apiserver "$(kubeadm version -o short)" \
  >{_MANIFEST}
"""
_LEAVE = f"""\
systemctl stop kubelet
rm -f /etc/kubernetes/kubelet.conf {_MANIFEST} /var/lib/kubelet/config.yaml
"""


def store(cluster: Cluster) -> Store:
    """Return the store of the cluster's objects."""
    return Store(LabPaths(cluster.name).kubernetes)


def join(cluster: Cluster, *names: str) -> None:
    """Have deployed nodes join the cluster, controllers as such. Wait until they work."""
    for node in names:
        controls = _JOIN_AS_CONTROLLER if node in CONTROLLERS else ""
        cluster.exec(node, f"{controls}{_JOIN}")
    for node in names:
        wait_for(f"kubelet of {node}", partial(kubelet, cluster, node), 20)
    wait_for("the nodes", lambda: cluster_api.nodes(store(cluster)).keys() >= {*names}, 20)
    controllers = CONTROLLERS.intersection(names)
    if controllers:
        slow = store(cluster).seconds("start-seconds", 0)
        wait_for("the API servers", lambda: ready(cluster, controllers) == controllers, slow + 30)


def leave(cluster: Cluster, *names: str) -> None:
    """Have nodes leave the cluster, as by ``kubeadm reset`` and ``kubectl delete node``."""
    for node in names:
        cluster.exec(node, _LEAVE)
        take_pods(cluster, node)
        mirror = f"pods/kube-system/kube-apiserver-{node}"
        cluster_api.remove(store(cluster), f"nodes/{node}", mirror)


@contextmanager
def api_server(cluster: Cluster, node: str) -> Iterator[None]:
    """Have a node that has not joined answer as a controller while the ``with`` block lasts."""
    cluster.exec(node, f"{_JOIN_AS_CONTROLLER}systemctl start lab-apiserver")
    try:
        wait_for(f"the API server of {node}", lambda: ready(cluster, [node]), 30)
        yield
    finally:
        cluster.exec(node, f"rm {_MANIFEST}")


def give_pods(cluster: Cluster, node: str, *, seconds: int = 1, budget: bool = False) -> None:
    """Give a node one pod, of a ReplicaSet that runs there only, instead of the one before.

    + seconds: how long the pod takes to end
    + budget: whether a PodDisruptionBudget forbids to evict it
    """
    take_pods(cluster, node)
    name, stored = f"web-{node}", store(cluster)
    cluster_api.add(stored, objects.replica_set(name, on=node, grace=seconds))
    if budget:
        cluster_api.add(stored, objects.budget(name, least=1))

    def runs() -> bool:
        cluster_api.settle(stored)
        return any(is_ready(pod) for pod in pods(cluster, node))

    wait_for(f"the pod of {node}", runs, 20)


def take_pods(cluster: Cluster, node: str) -> None:
    """Remove the pods that `give_pods` gave to a node."""
    name, stored = f"web-{node}", store(cluster)
    cluster_api.remove(
        stored, f"replicasets/default/{name}", f"poddisruptionbudgets/default/{name}"
    )
    for pod in pods(cluster, node):
        cluster_api.remove(stored, f"pods/default/{pod['metadata']['name']}")


def pods(cluster: Cluster, node: str) -> list[Json]:
    """Return the pods that `give_pods` gave to a node."""
    with store(cluster).transaction() as stored:
        found = stored.of("pods", "default")
        return [pod for pod in found if pod["metadata"].get("labels") == {"app": f"web-{node}"}]


@contextmanager
def all_joined(cluster: Cluster) -> Iterator[Cluster]:
    """Have all nodes join a cluster, each with a pod. Afterwards bring them back by `deploy.py`."""
    with joined(cluster, cluster.workers):
        for node in cluster.workers:
            give_pods(cluster, node)
        yield cluster
    cluster.changed("deploy.py")
    assert cluster.announced("deploy.py") == {}


@contextmanager
def joined(cluster: Cluster, names: Iterable[str]) -> Iterator[Cluster]:
    """Have some nodes join a cluster while the ``with`` block lasts."""
    names = [*names]
    join(cluster, *names)
    yield cluster
    leave(cluster, *names)


@contextmanager
def slow_api_servers(cluster: Cluster, seconds: float) -> Iterator[None]:
    """Make API servers take so many seconds from a start until they listen. A real one takes 30."""
    cluster_api.set_seconds(store(cluster), "start-seconds", seconds)
    try:
        yield
    finally:
        cluster_api.set_seconds(store(cluster), "start-seconds", cluster_api.START_SECONDS)


@contextmanager
def grace_period(cluster: Cluster, seconds: float) -> Iterator[None]:
    """Set after how many seconds without a word of kubelet a node is not Ready, 40 by default."""
    cluster_api.set_seconds(store(cluster), "node-monitor-grace-period", seconds)
    try:
        yield
    finally:
        cluster_api.set_seconds(store(cluster), "node-monitor-grace-period", None)


def kubelet(cluster: Cluster, node: str) -> str:
    """Return the version of the kubelet that runs on a node, "" if none does."""
    run = "/proc/$(systemctl show -p MainPID --value kubelet)/exe --version"
    return cluster.exec(node, run, ok=False).removeprefix("Kubernetes v")


def cordoned(cluster: Cluster) -> set[str]:
    """Return the names of the nodes that are cordoned."""
    known = cluster_api.nodes(store(cluster))
    return {name for name, node in known.items() if node["spec"].get("unschedulable")}


def audit(cluster: Cluster) -> list[Json]:
    """Return what kubectl has asked the API for, as API servers recorded it, in order of time."""
    events = [e for e in store(cluster).audit() if e["userAgent"].startswith("kubectl")]
    return sorted(events, key=lambda event: str(event["requestReceivedTimestamp"]))


def kubectl_runs(cluster: Cluster) -> bool:
    """Tell whether a kubectl runs on the lab's computer."""
    names = []
    for process in Group.of(cluster.name, network.COMPUTER).processes():
        try:
            names.append(Path(f"/proc/{process}/comm").read_text().strip())
        except OSError:  # ended meanwhile
            continue
    return "kubectl" in names
