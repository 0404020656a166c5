"""The lab's Kubernetes cluster, seen and changed past its API servers.

What the cluster keeps is in a folder of the lab (`control_plane.store`). The lab's computer has two
kubeconfigs of its administrator: `files/admin.conf`, as kubeadm writes it, whose server only nodes
know by name, and `files/kubeconfig`, with the address of the API instead.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import yaml

from tests.lab.apiserver import VIP
from tests.lab.control_plane import objects
from tests.lab.control_plane.api import key_of
from tests.lab.control_plane.controllers import control
from tests.lab.control_plane.store import Json, Store
from tests.lab.paths import LabPaths
from tests.lab.plan import Plan

START_SECONDS = 2.0
"""How long a lab's API servers take to start, unless a test wants them as slow as real ones."""


def prepare(plan: Plan, paths: LabPaths) -> None:
    """Write the kubeconfigs among the user's files; the cluster has no nodes yet."""
    paths.kubernetes.mkdir(parents=True, exist_ok=True)
    paths.kubernetes.chmod(0o700)
    store = Store(paths.kubernetes)
    set_seconds(store, "start-seconds", START_SECONDS)
    add(store, objects.daemon_set("kube-proxy"))
    for name, host in (("admin.conf", "k8s"), ("kubeconfig", plan.address(VIP))):
        file = paths.files / name
        file.touch(0o600)
        file.write_text(yaml.safe_dump(kubeconfig(host, paths.certificates)))


def kubeconfig(host: str, issued: Path) -> dict[str, Any]:
    """Return the administrator's kubeconfig of the API at HOST, laid out as kubeadm's admin.conf,
    with the certificates of the folder ISSUED."""

    def encoded(name: str) -> str:
        return base64.b64encode((issued / name).read_bytes()).decode()

    cluster = {
        "certificate-authority-data": encoded("kubernetes-ca.crt"),
        "server": f"https://{host}:6443",
    }
    user = {
        "client-certificate-data": encoded("kubernetes-admin.crt"),
        "client-key-data": encoded("kubernetes-admin.key"),
    }
    context = {"cluster": "kubernetes", "user": "kubernetes-admin"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": cluster}],
        "contexts": [{"name": "kubernetes-admin@kubernetes", "context": context}],
        "current-context": "kubernetes-admin@kubernetes",
        "preferences": {},
        "users": [{"name": "kubernetes-admin", "user": user}],
    }


def set_seconds(store: Store, name: str, seconds: float | None) -> None:
    """Choose a setting of the cluster (`control_plane.store`), or with None its default."""
    file = store.folder / name
    if seconds is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(f"{seconds}\n")


def add(store: Store, *items: Json) -> None:
    """Have the cluster keep objects; one that it has is replaced."""
    with store.transaction() as kept:
        for item in items:
            kept.put(key_of(item), item)


def remove(store: Store, *keys: str) -> None:
    """Remove objects, by their keys; what is not there is no error."""
    with store.transaction() as kept:
        for key in keys:
            if key in kept:
                kept.remove(key)


def settle(store: Store) -> None:
    """Bring pods to what their owners want, as an API server does before it answers."""
    with store.transaction() as kept:
        control(kept, store, time.time())


def nodes(store: Store) -> dict[str, Json]:
    """Return the nodes of the cluster by name."""
    with store.transaction() as kept:
        return {node["metadata"]["name"]: node for node in kept.of("nodes")}
