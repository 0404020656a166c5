"""Have nodes of the lab join a cluster by kubeadm, and upgrade that cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cluster import by_kubeadm
from tests.cluster.joined import (
    KUBECONFIG,
    cordoned,
    give_pods,
    kubectl_runs,
    store,
    take_pods,
)
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster, wait_for
from tests.lab import cluster_api

UPGRADE = "chaos_engine.deploys.upgrade"
UPGRADING = "/var/lib/chaos-engine/upgrading"
FIRST = "pi1"
"""The controller on which ``kubeadm upgrade apply`` has to run: the first of the settings."""

_STATE = f"""\
/proc/$(systemctl show -p MainPID --value kubelet)/exe --version
dpkg-query -W -f '${{Package}} ${{db:Status-Status}} ${{Version}}\\n' kubeadm kubelet kubectl
apt-mark showhold | grep ^kube
grep -ho 'image: .*' /etc/kubernetes/manifests/*.yaml 2>/dev/null
cat /etc/apt/sources.list.d/kubernetes.list
ls {UPGRADING} /var/lib/chaos-engine/cordoned 2>/dev/null
systemctl is-active kubelet docker cri-docker
grep -c pod-infra-container-image /var/lib/kubelet/kubeadm-flags.env
true
"""


def to(version: str) -> tuple[str, ...]:
    """Return pyinfra's arguments for an upgrade to a version."""
    return (UPGRADE, *by_kubeadm.options(version), *KUBECONFIG)


def state(cluster: Cluster) -> dict[str, list[str]]:
    """Return what each node has of Kubernetes: what runs, is installed, held and left over."""
    return {node: sorted(cluster.exec(node, _STATE).splitlines()) for node in (*cluster.workers,)}


@contextmanager
def made_by_kubeadm(cluster: Cluster, version: str) -> Iterator[Cluster]:
    """Have all nodes join a cluster by kubeadm, each with a pod, while the block lasts."""
    by_kubeadm.form(cluster, version)
    for node in cluster.workers:
        give_pods(cluster, node)
    yield cluster
    for node in cluster.workers:
        take_pods(cluster, node)
    by_kubeadm.dissolve(cluster)
    names = (f"configmaps/kube-system/{name}-config" for name in ("kubeadm", "kubelet"))
    cluster_api.remove(store(cluster), *names)


@contextmanager
def begun(cluster: Cluster, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Begin a run over all nodes. If it still works at the end of the block, kill pyinfra."""
    with subprocess.Popen(
        [LAB, "--name", cluster.name, "run", "--", "pyinfra", "inventory.py", "-y", *arguments,
         *cluster.limit],
        cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as run:  # fmt: skip
        try:
            yield run
        finally:
            run.kill()


def killed_when(cluster: Cluster, version: str, what: str, reached: Callable[[], object]) -> None:
    """Begin an upgrade, and kill pyinfra once `reached` is true. Fail if it ends before."""
    with begun(cluster, *to(version)) as run:
        wait_for(what, lambda: reached() or run.poll() is not None, 240)
        if run.poll() is not None:
            said = run.stdout.read() if run.stdout else ""
            raise AssertionError(f"{what} was not reached:\n{said}")
    wait_for("the end of kubectl, which goes on", lambda: not kubectl_runs(cluster), 60)


def kubeadm_works(cluster: Cluster, node: str) -> bool:
    """Tell whether kubeadm is at work on a node's control plane."""
    return bool(cluster.exec(node, f"ls {UPGRADING}", ok=False))


def in_its_turn(cluster: Cluster) -> str:
    """Return a node that is cordoned, "" if there is none."""
    return next(iter(sorted(cordoned(cluster))), "")
