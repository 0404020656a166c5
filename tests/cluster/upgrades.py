"""Have nodes of the lab join a cluster by kubeadm, and upgrade that cluster."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cluster.joined import KUBECONFIG, cordoned, give_pods, kubectl_runs, take_pods
from tests.cluster.joined import leave as forget
from tests.cluster.lan_client import CONTROLLERS, ready
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster, wait_for

UPGRADE = "chaos_engine.deploys.upgrade"
UPGRADING = "/var/lib/chaos-engine/upgrading"
FIRST = "pi1"
"""The controller on which ``kubeadm upgrade apply`` has to run: the first of the settings."""

_FOLDER = "/etc/kubernetes/chaos-engine"
_INIT, _JOIN = f"{_FOLDER}/kubeadm-init.yaml", f"{_FOLDER}/kubeadm-join.yaml"
_COPY = "/root/kubeadm-join.yaml"
_RESET = "kubeadm reset -f --cri-socket unix:///run/cri-dockerd.sock"
_EMPTY_ETCD = """\
export ETCDCTL_API=3
etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/tls/ca.crt \
  --cert /etc/etcd/tls/server.crt --key /etc/etcd/tls/server.key del --prefix /registry/
"""
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


def of(version: str) -> tuple[str, ...]:
    """Return pyinfra's options for a version of Kubernetes."""
    return ("--data", f"chaos_kubernetes_version={version}",
            "--data", "chaos_cri_dockerd_version=0.4.3")  # fmt: skip


def to(version: str) -> tuple[str, ...]:
    """Return pyinfra's arguments for an upgrade to a version."""
    return (UPGRADE, *of(version), *KUBECONFIG)


def state(cluster: Cluster) -> dict[str, list[str]]:
    """Return what each node has of Kubernetes: what runs, is installed, held and left over."""
    return {node: sorted(cluster.exec(node, _STATE).splitlines()) for node in (*cluster.workers,)}


@contextmanager
def made_by_kubeadm(cluster: Cluster, version: str) -> Iterator[Cluster]:
    """Have all nodes join a cluster by kubeadm, each with a pod, while the block lasts."""
    cluster.changed("deploy.py", *of(version))
    try:
        _run(cluster, FIRST, f"kubeadm init --config {_INIT} --upload-certs")
        wait_for("the first API server", lambda: ready(cluster, [FIRST]), 60)
        for node in cluster.workers:
            if node != FIRST:
                _join(cluster, node)
        wait_for("the API servers", lambda: ready(cluster, CONTROLLERS) == CONTROLLERS, 60)
        for node in cluster.workers:
            give_pods(cluster, node)
        yield cluster
    finally:
        for node in cluster.workers:
            take_pods(cluster, node)
            if cluster.exec(node, "ls /etc/kubernetes/kubelet.conf", ok=False):
                cluster.exec(node, f"{_RESET} >/dev/null 2>&1", ok=False)
        forget(cluster, *cluster.workers)
        cluster.exec("etcd1", _EMPTY_ETCD)
    cluster.changed("deploy.py")


def _join(cluster: Cluster, node: str) -> None:
    command = _run(cluster, FIRST, "kubeadm token create --print-join-command")
    upload = f"kubeadm init phase upload-certs --upload-certs --config {_INIT}"
    values = {
        "token: ": re.findall(r"--token (\S+)", command)[0],
        "- sha256:": re.findall(r"cert-hash sha256:(\S+)", command)[0],
        'certificateKey: "': f'{_run(cluster, FIRST, upload).splitlines()[-1]}"',
    }
    fill = "; ".join(f"s/{name}.* # PLACEHOLDER/{name}{value}/" for name, value in values.items())
    cluster.exec(node, f"umask 077; sed '{fill}' {_JOIN} >{_COPY}")
    _run(cluster, node, f"kubeadm join --config {_COPY}")


def _run(cluster: Cluster, node: str, command: str) -> str:
    """Run a command on a node, which must succeed. Return what it prints."""
    said, _, status = cluster.exec(node, f"{command} 2>&1; echo $?").rpartition("\n")
    assert status == "0", f"{node}: {command}\n{said}"
    return said


@contextmanager
def begun(cluster: Cluster, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Begin a run over all nodes. Kill pyinfra at the end of the block, as by ``kill -9``."""
    with subprocess.Popen(
        [LAB, "--name", cluster.name, "run", "--", "pyinfra", "inventory.py", "-y", *arguments,
         *cluster.limit],
        cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as run:  # fmt: skip
        try:
            yield run
        finally:
            os.kill(run.pid, signal.SIGKILL)


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
