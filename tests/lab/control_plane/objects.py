"""Objects of a cluster as their makers make them: kubelet's nodes, and workloads with pods."""

from __future__ import annotations

from .store import Json

STATIC_POD_OWNER = "Node"
MIRROR = "kubernetes.io/config.mirror"
HASH = "kubernetes.io/config.hash"


def node(name: str, address: str, version: str) -> Json:
    """Return a Node as kubelet VERSION registers it; its Ready is what its lease says."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [],
            "nodeInfo": {"kubeletVersion": version, "operatingSystem": "linux"},
        },
    }


def replica_set(name: str, *, on: str, replicas: int = 1, grace: int = 1) -> Json:
    """Return a ReplicaSet in the namespace default whose pods run on the node ON only.

    + grace: the pods' terminationGracePeriodSeconds; the lab's pods take all of it
    """
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(grace, on)},
        },
    }


def bare_pod(name: str, *, on: str) -> Json:
    """Return a pod in the namespace default that no controller would make again."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {**_pod_spec(1, on), "nodeName": on},
    }


def daemon_set(name: str) -> Json:
    """Return a DaemonSet of the namespace kube-system, with a pod on each node."""
    labels = {"k8s-app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(30, "")},
        },
    }


def budget(name: str, *, least: int) -> Json:
    """Return a PodDisruptionBudget in the namespace default: of the pods of the ReplicaSet NAME, at
    LEAST so many shall be there."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": name}}},
    }


def mirror_pod(component: str, node: Json, digest: str) -> Json:
    """Return the pod that kubelet shows of a static pod of a node.

    + digest: of the static pod's manifest
    """
    name = node["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{component}-{name}",
            "namespace": "kube-system",
            "labels": {"component": component, "tier": "control-plane"},
            "annotations": {MIRROR: digest, HASH: digest},
            "ownerReferences": [owner(node)],
        },
        "spec": {**_pod_spec(30, ""), "nodeName": name, "hostNetwork": True},
    }


def owner(of: Json) -> Json:
    """Return the reference by which an object names its controller."""
    return {
        "apiVersion": of["apiVersion"],
        "kind": of["kind"],
        "name": of["metadata"]["name"],
        "uid": of["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _pod_spec(grace: int, on: str) -> Json:
    spec: Json = {
        "containers": [{"name": "main", "image": "lab.invalid/stand-in"}],
        "terminationGracePeriodSeconds": grace,
    }
    if on:
        spec["nodeSelector"] = {"kubernetes.io/hostname": on}
    return spec
