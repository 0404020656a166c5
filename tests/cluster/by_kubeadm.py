"""Make deployed nodes a cluster by real use of kubeadm, with the files that the deploy left for it,
and take it apart again.

kubeadm is the lab's stand-in, which keeps ConfigMaps and Secrets in the lab's etcd.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from tests.cluster.joined import leave as forget
from tests.cluster.joined import store
from tests.cluster.lan_client import CONTROLLERS, ready
from tests.cluster.virtual_cluster import Cluster, wait_for
from tests.lab import cluster_api

FOLDER = "/etc/kubernetes/chaos-engine"
INIT, JOIN = f"{FOLDER}/kubeadm-init.yaml", f"{FOLDER}/kubeadm-join.yaml"
SOCKET = "unix:///run/cri-dockerd.sock"

_COPY = "/root/kubeadm-join.yaml"
_KUBELET_CONF = "/etc/kubernetes/kubelet.conf"
_FORGET = """\
export ETCDCTL_API=3
etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/tls/ca.crt \
  --cert /etc/etcd/tls/server.crt --key /etc/etcd/tls/server.key del --prefix /registry/
"""
"""What kubeadm says a user has to do where etcd is external, after the last `reset`."""


def options(version: str) -> tuple[str, ...]:
    """Return pyinfra's options that deploy a version of Kubernetes, with a cri-dockerd for it."""
    return (
        *("--data", f"chaos_kubernetes_version={version}"),
        *("--data", "chaos_cri_dockerd_version=0.4.3"),
    )


def kubeadm(cluster: Cluster, node: str, words: str, ok: bool = True) -> str:
    """Run kubeadm on a node. Return what it prints."""
    done = cluster.exec(node, f"kubeadm {words} 2>&1; echo $?")
    said, _, status = done.rpartition("\n")
    assert (status == "0") == ok, said
    return said


def form(cluster: Cluster, version: str) -> dict[str, str]:
    """Deploy a version of Kubernetes on all nodes, and make them a cluster. Wait until it works.

    The first controller is pi1, the other controllers of the lab join as such, and all else as
    workers. Return what kubeadm printed on each.
    """
    cluster.pyinfra("-y", "deploy.py", *options(version))
    first, *others = sorted(cluster.workers, key=lambda node: (node not in CONTROLLERS, node))
    said = join(cluster, first, others)
    wait_until_ready(cluster, said)
    return said


def join(cluster: Cluster, first: str, others: Iterable[str]) -> dict[str, str]:
    """Have nodes join by the commands in the comments of their files: by ``kubeadm init`` the FIRST
    one, a controller, and then the OTHERS. Return what kubeadm printed on each."""
    said = {first: kubeadm(cluster, first, f"init --config {INIT} --upload-certs")}
    wait_for("the API", lambda: answers(cluster, first), 60)
    command = kubeadm(cluster, first, "token create --print-join-command")
    upload = f"init phase upload-certs --upload-certs --config {INIT}"
    key = kubeadm(cluster, first, upload).splitlines()[-1]
    values = {
        "token: ": re.findall(r"--token (\S+)", command)[0],
        "- sha256:": re.findall(r"cert-hash sha256:(\S+)", command)[0],
        'certificateKey: "': f'{key}"',
    }
    fill = "; ".join(f"s/{name}.* # PLACEHOLDER/{name}{value}/" for name, value in values.items())
    for node in others:
        cluster.exec(node, f"umask 077; sed '{fill}' {JOIN} >{_COPY}")
        said[node] = kubeadm(cluster, node, f"join --config {_COPY}")
    return said


def wait_until_ready(cluster: Cluster, nodes: Iterable[str]) -> None:
    """Wait until nodes are in the cluster, and their API servers ready."""
    expected = {*nodes}
    wait_for("the nodes", lambda: cluster_api.nodes(store(cluster)).keys() >= expected, 20)
    controllers = CONTROLLERS.intersection(expected)
    slow = store(cluster).seconds("start-seconds", 0)
    check = partial(ready, cluster, controllers)
    wait_for("the API servers", lambda: check() == controllers, slow + 30)


def answers(cluster: Cluster, node: str) -> bool:
    """Tell whether the API answers a node at the common address."""
    url = "https://k8s:6443/readyz"
    return cluster.exec(node, f"curl -ks -o /dev/null -w '%{{http_code}}' {url}", ok=False) == "200"


def dissolve(cluster: Cluster) -> None:
    """Take the cluster apart, as by ``kubeadm reset`` and ``kubectl delete node``, and bring the
    nodes back by `deploy.py`."""
    for node in cluster.workers:
        if cluster.exec(node, f"ls {_KUBELET_CONF}", ok=False):
            kubeadm(cluster, node, f"reset -f --cri-socket {SOCKET}")
    forget(cluster, *cluster.workers)
    cluster.exec("etcd1", _FORGET)
    cluster.changed("deploy.py")
