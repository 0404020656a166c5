"""What the controllers, the scheduler and the kubelets do to pods, whenever anybody looks.

No process of its own: each API server brings the objects up to date before it answers.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from . import objects as made
from .store import GRACE_SECONDS, Json, Objects, Store, parse_stamp, stamp

_STARTS_SECONDS = 1
"""How long a pod takes from being scheduled to being ready."""
_SILENT_SECONDS = 10
"""A kubelet that has not renewed its lease for so long ends no pods."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def control(objects: Objects, store: Store, now: float) -> None:
    """Bring pods to what their owners and their nodes have them be at the time NOW."""
    _end_pods(objects, store, now)
    _make_pods(objects)
    _schedule(objects, store, now)
    _start_pods(objects, now)


def ready(store: Store, node: str, now: float) -> bool:
    """Whether a node's lease is new enough for the node lifecycle controller."""
    return store.silence(node, now) < store.seconds("node-monitor-grace-period", GRACE_SECONDS)


def is_ready(pod: Json) -> bool:
    """Whether a pod has the condition Ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def owned(objects: Objects, owner: Json) -> list[Json]:
    """Return the pods of an owner that are not about to end."""
    uid = owner["metadata"]["uid"]
    return [
        pod
        for pod in objects.of("pods", owner["metadata"]["namespace"])
        if "deletionTimestamp" not in pod["metadata"]
        and any(each["uid"] == uid for each in pod["metadata"].get("ownerReferences", []))
    ]


def covered(objects: Objects, budget: Json) -> list[Json]:
    """Return the pods that a PodDisruptionBudget is for."""
    selector = budget["spec"]["selector"]["matchLabels"]
    return [
        pod
        for pod in objects.of("pods", budget["metadata"]["namespace"])
        if selector.items() <= pod["metadata"].get("labels", {}).items()
    ]


def healthy(objects: Objects, budget: Json) -> int:
    """Return how many of the pods of a PodDisruptionBudget are ready, and stay."""
    return sum(
        is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
        for pod in covered(objects, budget)
    )


def _end_pods(objects: Objects, store: Store, now: float) -> None:
    """Remove pods whose time is over, if their kubelet works, and those of removed nodes."""
    for key, pod in [each for each in objects.items() if each[0].startswith("pods/")]:
        node = pod["spec"].get("nodeName")
        ends = pod["metadata"].get("deletionTimestamp")
        over = ends is not None and parse_stamp(ends) <= now
        works = node is None or store.silence(node, now) < _SILENT_SECONDS
        if (over and works) or (node is not None and f"nodes/{node}" not in objects):
            objects.remove(key)


def _make_pods(objects: Objects) -> None:
    for owner in objects.of("replicasets"):
        for _ in range(owner["spec"]["replicas"] - len(owned(objects, owner))):
            _make_pod(objects, owner)
    nodes = [node["metadata"]["name"] for node in objects.of("nodes")]
    for owner in objects.of("daemonsets"):
        has = {pod["spec"].get("nodeName") for pod in owned(objects, owner)}
        for node in nodes:
            # also on those that take no pods: it tolerates that they are unschedulable
            if node not in has:
                _make_pod(objects, owner)["spec"]["nodeName"] = node


def _make_pod(objects: Objects, owner: Json) -> Json:
    of, template = owner["metadata"], owner["spec"]["template"]
    name = f"{of['name']}-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": of["namespace"],
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": [made.owner(owner)],
        },
        "spec": dict(template["spec"]),
    }
    return objects.put(f"pods/{of['namespace']}/{name}", pod)


def _schedule(objects: Objects, store: Store, now: float) -> None:
    for pod in objects.of("pods"):
        if "nodeName" in pod["spec"]:
            continue
        fit = list(_fit(objects, pod, store, now))
        if fit:
            pods = [each["spec"].get("nodeName") for each in objects.of("pods")]
            pod["spec"]["nodeName"] = min(fit, key=pods.count)
            objects.put(_key(pod), pod)


def _fit(objects: Objects, pod: Json, store: Store, now: float) -> Iterator[str]:
    wanted = pod["spec"].get("nodeSelector", {})
    for node in objects.of("nodes"):
        name, labels = node["metadata"]["name"], node["metadata"].get("labels", {})
        takes = not node["spec"].get("unschedulable") and wanted.items() <= labels.items()
        if takes and ready(store, name, now):
            yield name


def _start_pods(objects: Objects, now: float) -> None:
    for pod in objects.of("pods"):
        status = pod.setdefault("status", {"phase": "Pending"})
        if "nodeName" not in pod["spec"] or made.MIRROR in pod["metadata"].get("annotations", {}):
            continue
        if "startTime" not in status:
            status["startTime"] = stamp(now)
            objects.put(_key(pod), pod)
        elif not is_ready(pod) and now >= parse_stamp(status["startTime"]) + _STARTS_SECONDS:
            status["phase"] = "Running"
            status["conditions"] = [{"type": "Ready", "status": "True"}]
            objects.put(_key(pod), pod)


def _key(pod: Json) -> str:
    return f"pods/{pod['metadata']['namespace']}/{pod['metadata']['name']}"
