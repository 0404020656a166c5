"""Nodes of the lab that have joined a cluster, as far as kubeadm's files and kubelet say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.lab import cluster_api
from tests.lab.paths import LabPaths
from tests.virtual_cluster import Cluster, wait_for

KUBECONFIG = ("--data", "chaos_kubeconfig=files/kubeconfig")
"""pyinfra's options that name the kubeconfig of this cluster."""

_JOIN = """\
mkdir -p /var/lib/kubelet
printf 'apiVersion: kubelet.config.k8s.io/v1beta1\\nkind: KubeletConfiguration\\n' \
  >/var/lib/kubelet/config.yaml
printf 'apiVersion: v1\\nkind: Config\\n' >/etc/kubernetes/kubelet.conf
systemctl start kubelet
"""
# A controller's kube-apiserver is a pod: it ends and starts with Docker
_POD = "/etc/systemd/system/lab-apiserver.service.d/pod.conf"
_POD_TEXT = "[Unit]\\nPartOf=docker.service\\nAfter=docker.service kubelet.service\\n"
_LEAVE = f"""\
rm -f {_POD}; systemctl daemon-reload
systemctl stop kubelet
rm -f /etc/kubernetes/kubelet.conf /var/lib/kubelet/config.yaml
"""


def join(cluster: Cluster, node: str, *pods: dict[str, Any]) -> None:
    """Have a deployed node join the cluster that `kubectl` knows, with PODS (see
    `lab/kubectl.py`)."""
    pod = (
        f"mkdir -p {_POD.rpartition('/')[0]}; printf '{_POD_TEXT}' >{_POD}; systemctl daemon-reload"
    )
    cluster.exec(node, f"{_JOIN}{pod}")
    cluster_api.add_node(LabPaths(cluster.name), node, cluster.address(node), *pods)
    wait_for(f"kubelet of {node}", lambda: kubelet(cluster, node), 20)


def set_pods(cluster: Cluster, node: str, *pods: dict[str, Any]) -> None:
    """Give a node other pods."""
    cluster_api.set_pods(LabPaths(cluster.name), node, *pods)


def leave(cluster: Cluster, node: str) -> None:
    """Have a node leave the cluster, as ``kubeadm reset`` does."""
    cluster.exec(node, _LEAVE)
    cluster_api.remove_node(LabPaths(cluster.name), node)


@contextmanager
def all_joined(cluster: Cluster) -> Iterator[Cluster]:
    """The nodes as a cluster, each with a pod; afterwards they are as `deploy.py` has them."""
    for node in cluster.workers:
        join(cluster, node, {"name": f"web-{node}", "seconds": 0.5})
    yield cluster
    for node in cluster.workers:
        leave(cluster, node)
    cluster.changed("deploy.py")
    assert cluster.announced("deploy.py") == {}


def kubelet(cluster: Cluster, node: str) -> str:
    """The version of the kubelet that runs on a node, "" if none does."""
    run = "/proc/$(systemctl show -p MainPID --value kubelet)/exe --version"
    return cluster.exec(node, run, ok=False).removeprefix("Kubernetes v")


def cordoned(cluster: Cluster) -> set[str]:
    """The nodes that take no pods."""
    known = cluster_api.nodes(LabPaths(cluster.name))
    return {name for name, node in known.items() if node["unschedulable"]}


def calls(cluster: Cluster) -> list[dict[str, Any]]:
    """The calls of kubectl so far, each with `began`, `verb`, `node`, and, once over, `ended` and
    `status`."""
    found = []
    for call in cluster_api.calls(LabPaths(cluster.name)):
        words = [word for word in call["words"] if not word.startswith("--")]
        found.append({**call, "verb": words[0], "node": words[1]})
    return found
