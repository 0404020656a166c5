"""What the lab's computer knows of the Kubernetes cluster: a kubeconfig, and the nodes in it.

The stand-in for kubectl (`kubectl.py`) is its client.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import yaml

from tests.lab.apiserver import VIP
from tests.lab.paths import LabPaths
from tests.lab.plan import Plan


def prepare(plan: Plan, paths: LabPaths) -> None:
    """Write the kubeconfig among the user's files; the cluster has no nodes yet."""
    (paths.kubernetes / "nodes").mkdir(parents=True, exist_ok=True)
    config = kubeconfig(plan.address(VIP), paths.web_authority.read_bytes())
    file = paths.files / "kubeconfig"
    file.touch(0o600)
    file.write_text(yaml.safe_dump(config))


def kubeconfig(address: str, authority: bytes) -> dict[str, Any]:
    """Return a kubeconfig of the cluster at ADDRESS, laid out as kubeadm's admin.conf."""
    certificate = base64.b64encode(authority).decode()
    cluster = {"certificate-authority-data": certificate, "server": f"https://{address}:6443"}
    context = {"cluster": "kubernetes", "user": "kubernetes-admin"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": cluster}],
        "contexts": [{"name": "kubernetes-admin@kubernetes", "context": context}],
        "current-context": "kubernetes-admin@kubernetes",
        "preferences": {},
        "users": [{"name": "kubernetes-admin", "user": {}}],
    }


def add_node(paths: LabPaths, name: str, address: str, *pods: dict[str, Any]) -> None:
    """Add a node to the cluster, schedulable, with PODS (see `kubectl.py`)."""
    node = {"address": address, "unschedulable": False, "pods": pods}
    (paths.kubernetes / "nodes" / f"{name}.json").write_text(json.dumps(node))


def set_pods(paths: LabPaths, name: str, *pods: dict[str, Any]) -> None:
    """Give a node of the cluster other pods; all else of it stays."""
    node = {**nodes(paths)[name], "pods": pods}
    (paths.kubernetes / "nodes" / f"{name}.json").write_text(json.dumps(node))


def remove_node(paths: LabPaths, name: str) -> None:
    """Remove a node from the cluster."""
    (paths.kubernetes / "nodes" / f"{name}.json").unlink(missing_ok=True)


def nodes(paths: LabPaths) -> dict[str, dict[str, Any]]:
    """Return what the cluster keeps of each node."""
    files = (paths.kubernetes / "nodes").glob("*.json")
    return {file.stem: json.loads(file.read_text()) for file in files}


def calls(paths: LabPaths) -> list[dict[str, Any]]:
    """Return the calls of kubectl in the order in which they began; one under way has no end."""
    file = paths.kubernetes / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    found: dict[tuple[float, str], dict[str, Any]] = {}
    for line in lines:
        call = json.loads(line)
        found[call["began"], json.dumps(call["words"])] = call
    return list(found.values())
