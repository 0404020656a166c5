"""The API of a cluster, as far as kubectl gets, cordons, drains and deletes nodes with it.

ConfigMaps and leases can be created and updated too, and kubectl prints leases as a table. Status
objects and their texts are those of Kubernetes: k8s.io/apimachinery, pkg/api/errors, and, for
evictions, pkg/registry/core/pod/storage/eviction.go. What is left out: watches, tables of anything
else, server-side apply, validation, and OpenAPI, so `kubectl create` and `replace` need `--raw`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil

from . import controllers, leases
from .store import Json, Objects, Store, stamp

ANONYMOUS = "system:anonymous"
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
"""What the ClusterRole system:public-info-viewer lets everybody read."""
_FOR_NODES = ("configmaps/kube-system/kubeadm-config", "configmaps/kube-system/kubelet-config")
"""What kubeadm's Roles nodes-kubeadm-config and kubelet-config let nodes read."""
_MERGES = ("application/strategic-merge-patch+json", "application/merge-patch+json")
_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}


@dataclass(frozen=True)
class Resource:
    """A resource of the API; GROUP is "" for the core's."""

    name: str
    kind: str
    group: str = ""
    short: tuple[str, ...] = ()
    namespaced: bool = True

    @property
    def place(self) -> str:
        """Where it is, below the server's address."""
        return f"apis/{self.group}/v1" if self.group else "api/v1"


RESOURCES = (
    Resource("namespaces", "Namespace", short=("ns",), namespaced=False),
    Resource("nodes", "Node", short=("no",), namespaced=False),
    Resource("pods", "Pod", short=("po",)),
    Resource("configmaps", "ConfigMap", short=("cm",)),
    Resource("daemonsets", "DaemonSet", "apps", ("ds",)),
    Resource("replicasets", "ReplicaSet", "apps", ("rs",)),
    Resource("poddisruptionbudgets", "PodDisruptionBudget", "policy", ("pdb",)),
    Resource("leases", "Lease", "coordination.k8s.io"),
)
GROUPS = ("apps", "coordination.k8s.io", "policy")
WRITTEN = frozenset({"configmaps", "leases"})
"""The resources that clients can create and update."""


@dataclass(frozen=True)
class User:
    """Who asks."""

    name: str = ANONYMOUS
    groups: frozenset[str] = frozenset({"system:unauthenticated"})


@dataclass(frozen=True)
class Request:
    """A request, as far as it matters here. HEADERS have names in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    user: User = User()


@dataclass(frozen=True)
class Target:
    """What a request is for: a RESOURCE, with "" for all namespaces and for a list."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def key(self) -> str:
        """The key of the object in the store."""
        parts = [self.resource.name, *([self.namespace] if self.resource.namespaced else [])]
        return "/".join([*parts, self.name])

    def verb(self, method: str) -> str:
        """Return what RBAC and audit logs call a request with METHOD."""
        verb = _VERBS.get(method, method.lower())
        return "list" if verb == "get" and not self.name else verb

    def reference(self) -> Json:
        """Return what audit logs call its objectRef."""
        found = {
            "resource": self.resource.name,
            "namespace": self.namespace,
            "name": self.name,
            "apiGroup": self.resource.group,
            "apiVersion": "v1",
            "subresource": self.subresource,
        }
        return {key: value for key, value in found.items() if value}


class Refused(Exception):
    """A request that is answered with a Status that says why."""

    def __init__(self, code: int, reason: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": details,
            "code": code,
        }


def key_of(item: Json) -> str:
    """Return the key of an object in the store."""
    resource = next(each for each in RESOURCES if each.kind == item["kind"])
    metadata = item["metadata"]
    return Target(resource, metadata.get("namespace", ""), metadata["name"]).key


def locate(path: str) -> Target | None:
    """Return the resource that a path is for, None if it is for none that is kept here."""
    parts = path.strip("/").split("/")
    for resource in RESOURCES:
        place = resource.place.split("/")
        if parts[: len(place)] != place:
            continue
        rest, namespace = parts[len(place) :], ""
        if resource.namespaced and len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        # namespaces/NAME/pods is for the pods
        if rest and rest[0] == resource.name and len(rest) <= (3 if resource.namespaced else 2):
            if resource.namespaced and not namespace and len(rest) > 1:
                return None
            return Target(resource, namespace, *rest[1:])
    return None


def authorize(request: Request, *, roles: bool) -> None:
    """Raise `Refused` if the user may not do that.

    + roles: whether RBAC knows its roles already; before, it lets nobody do anything
    """
    if "authorization" in request.headers:
        # no token is known here
        raise Refused(401, "Unauthorized", "Unauthorized")
    user = request.user
    if "system:masters" in user.groups:
        return
    reads = request.method in ("GET", "HEAD")
    below = any(request.path == each or request.path.startswith(f"{each}/") for each in _PUBLIC)
    discovers = user.name != ANONYMOUS and request.path.strip("/").split("/")[0] in ("api", "apis")
    target = locate(request.path)
    if roles and (
        "kubeadm:cluster-admins" in user.groups
        or (reads and below)
        or (reads and target and target.key in _FOR_NODES and "system:nodes" in user.groups)
        or (reads and discovers and target is None)
    ):
        return
    raise _forbidden(request)


def _forbidden(request: Request) -> Refused:
    target, user = locate(request.path), request.user.name
    if target is None:
        verb = _VERBS.get(request.method, request.method.lower())
        return Refused(
            403, "Forbidden", f'forbidden: User "{user}" cannot {verb} path "{request.path}"'
        )
    name, resource = target.name, target.resource
    what = "/".join(filter(None, (resource.name, target.subresource)))
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    subject = f'{what} "{name}"' if name else what
    return Refused(
        403,
        "Forbidden",
        f'{subject} is forbidden: User "{user}" cannot {target.verb(request.method)} resource '
        f'"{what}" in API group "{resource.group}" {where}',
        **_details(target),
    )


def answer(request: Request, store: Store, version: str, now: float) -> tuple[int, Json]:
    """Answer an authorized request at the time NOW; raises `Refused`.

    + version: the server's, as 1.36.2
    """
    found = discovery(request.path, version)
    if found is not None:
        return 200, found
    target = locate(request.path)
    if target is None:
        raise Refused(404, "NotFound", "the server could not find the requested resource")
    with store.transaction() as objects:
        controllers.control(objects, store, now)
        return _serve(request, target, objects, store, now)


def discovery(path: str, version: str) -> Json | None:
    """Return what the server says of itself at PATH, None if that is not what PATH is for."""
    parts = path.strip("/").split("/")
    if parts == ["version"]:
        major, minor, _ = version.split(".", 2)
        return {
            "major": major,
            "minor": minor,
            "gitVersion": f"v{version}",
            "gitCommit": "stand-in",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none",
            "compiler": "none",
            "platform": "linux/amd64",
        }
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        groups = [_group(name) for name in GROUPS]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if len(parts) == 2 and parts[0] == "apis" and parts[1] in GROUPS:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}
    served = [resource for resource in RESOURCES if resource.place.split("/") == parts]
    if not served:
        return None
    version = "/".join(parts[1:])
    resources = [one for each in served for one in _described(each)]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _described(resource: Resource) -> Iterable[Json]:
    yield {
        "name": resource.name,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["delete", "get", "list", "patch", *_more_verbs(resource)],
        "shortNames": list(resource.short),
    }
    if resource.name == "pods":
        # By its group and version kubectl drain knows that pods can be evicted
        yield {
            "name": "pods/eviction",
            "singularName": "",
            "namespaced": True,
            "group": "policy",
            "version": "v1",
            "kind": "Eviction",
            "verbs": ["create"],
        }


def _more_verbs(resource: Resource) -> list[str]:
    return ["create", "update"] if resource.name in WRITTEN else []


def _serve(
    request: Request, target: Target, objects: Objects, store: Store, now: float
) -> tuple[int, Json]:
    method = request.method
    if method == "POST" and (target.resource.name, target.subresource) == ("pods", "eviction"):
        return 201, _evict(request, target, objects, now)
    writes = target.resource.name in WRITTEN and not target.subresource
    if writes and method == "POST" and not target.name:
        return 201, _create(request, target, objects)
    if target.subresource or (not target.name and method != "GET"):
        raise Refused(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    as_table = target.resource.name == "leases" and leases.is_table(request.headers)
    if not target.name:
        found = _list(request, target, objects, store, now)
        return 200, leases.table(found["items"], found["metadata"], now) if as_table else found
    item = _get(target, objects)
    if method == "GET":
        return 200, leases.table([item], {}, now) if as_table else shown(item, store, now)
    if method == "PUT" and writes:
        return 200, _update(request, target, objects)
    if method == "PATCH":
        kind = request.headers.get("content-type", "")
        if kind not in _MERGES:
            raise Refused(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join(_MERGES),
            )
        merged = merge(item, _read(request))
        return 200, shown(objects.put(target.key, merged), store, now)
    if method == "DELETE":
        return 200, _delete(request, target, objects, store, now)
    raise Refused(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def _get(target: Target, objects: Objects) -> Json:
    if target.key not in objects:
        raise Refused(404, "NotFound", f"{_called(target)} not found", **_details(target))
    return objects[target.key]


def _called(target: Target) -> str:
    """Return what errors call the object."""
    return (
        f'{".".join(filter(None, (target.resource.name, target.resource.group)))} "{target.name}"'
    )


def _create(request: Request, target: Target, objects: Objects) -> Json:
    item = _read(request)
    name = item.get("metadata", {}).get("name", "")
    wanted = Target(target.resource, target.namespace, name)
    _check_written(item, wanted)
    if item["metadata"].get("resourceVersion"):
        message = "resourceVersion should not be set on objects to be created"
        raise Refused(500, "", message)
    if wanted.key in objects:
        message = f"{_called(wanted)} already exists"
        raise Refused(409, "AlreadyExists", message, **_details(wanted))
    return objects.put(wanted.key, item)


def _update(request: Request, target: Target, objects: Objects) -> Json:
    item, kept = _read(request), objects[target.key]["metadata"]
    _check_written(item, target)
    # An update without a version is not refused: the last one wins
    if item["metadata"].get("resourceVersion") not in (None, "", kept["resourceVersion"]):
        raise Refused(
            409,
            "Conflict",
            f"Operation cannot be fulfilled on {_called(target)}: the object has been modified; "
            "please apply your changes to the latest version and try again",
            **_details(target),
        )
    own = {key: kept[key] for key in ("uid", "creationTimestamp")}
    return objects.put(target.key, {**item, "metadata": {**item["metadata"], **own}})


def _check_written(item: Json, target: Target) -> None:
    """Raise `Refused` for an object that is not one of the target's name and kind."""
    found, metadata = item.get("kind"), item.get("metadata", {})
    if found != target.resource.kind:
        raise Refused(400, "BadRequest", f"{found} in a request for {target.resource.name}")
    if not target.name or metadata.get("name") != target.name:
        message = "the name of the object does not match the name on the URL"
        raise Refused(400, "BadRequest", message)
    if metadata.get("namespace", target.namespace) != target.namespace:
        message = "the namespace of the provided object does not match the namespace sent on the "
        raise Refused(400, "BadRequest", f"{message}request")
    metadata["namespace"] = target.namespace
    if found == "Lease" and (problems := leases.problems(item)):
        raise Refused(422, "Invalid", f"{_called(target)} is invalid: {problems}")


def _details(target: Target) -> dict[str, str]:
    found = {
        "name": target.name,
        "group": target.resource.group,
        "kind": target.resource.name,
    }
    return {key: value for key, value in found.items() if value}


def _list(request: Request, target: Target, objects: Objects, store: Store, now: float) -> Json:
    if request.query.get("watch") in ("true", "1"):
        raise Refused(405, "MethodNotAllowed", "the lab's stand-in cannot be watched")
    found = [
        shown(item, store, now)
        for item in objects.of(target.resource.name, target.namespace)
        if selected(item, request.query.get("fieldSelector", ""), fields=True)
        and selected(item, request.query.get("labelSelector", ""), fields=False)
    ]
    resource = target.resource
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": f"{resource.group}/v1".lstrip("/"),
        "metadata": {"resourceVersion": str(objects.revision)},
        "items": found,
    }


def selected(item: Json, selector: str, *, fields: bool) -> bool:
    """Whether an object is what a selector of FIELDS, or of labels, asks for.

    Of labels: a label that an object has (`NAME`), and as Kubernetes has it, one that is not there
    equals nothing. Raises `Refused` for what is no selector of equalities.
    """
    for term in filter(None, selector.split(",")):
        if not fields and not {"=", "(", "!", " "} & set(term):
            if term not in item["metadata"].get("labels", {}):
                return False
            continue
        name, operator, wanted = _parse_term(term)
        value: object = item if fields else item["metadata"].get("labels", {}).get(name)
        for part in name.split(".") if fields else ():
            value = value.get(part) if isinstance(value, dict) else None
        equal = (value or "") == wanted and (fields or value is not None)
        if equal is (operator == "!="):
            return False
    return True


def _parse_term(term: str) -> tuple[str, str, str]:
    for operator in ("!=", "==", "="):
        name, found, wanted = term.partition(operator)
        if found:
            return name, operator, wanted
    raise Refused(400, "BadRequest", f"the lab's stand-in cannot select by {term!r}")


def shown(item: Json, store: Store, now: float) -> Json:
    """Return an object as the server shows it: with what follows from other objects."""
    if item["kind"] != "Node":
        return item
    name, status = item["metadata"]["name"], item["status"]
    ready = controllers.ready(store, name, now)
    condition = {
        "type": "Ready",
        "status": "True" if ready else "Unknown",
        "reason": "KubeletReady" if ready else "NodeStatusUnknown",
        "message": "kubelet is posting ready status"
        if ready
        else "Kubelet stopped posting node status.",
    }
    others = [each for each in status["conditions"] if each["type"] != "Ready"]
    return {**item, "status": {**status, "conditions": [*others, condition]}}


def merge(item: Json, patch: Json) -> Json:
    """Return an object with a patch merged into it: null removes, maps merge, all else replaces.

    As RFC 7396; strategic merges differ from that in lists only, which are refused.
    """
    merged = dict(item)
    for key, value in patch.items():
        if isinstance(value, list):
            raise Refused(400, "BadRequest", f"the lab's stand-in cannot patch the list {key!r}")
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge(merged.get(key) or {}, value)
        else:
            merged[key] = value
    return merged


def _delete(request: Request, target: Target, objects: Objects, store: Store, now: float) -> Json:
    item = objects[target.key]
    if target.resource.name == "pods":
        options = _read(request) if request.body else {}
        _end(objects, target.key, options, now)
        return item
    objects.remove(target.key)
    if target.resource.name == "nodes":
        store.forget(target.name)
    details = {**_details(target), "uid": item["metadata"]["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }


def _evict(request: Request, target: Target, objects: Objects, now: float) -> Json:
    eviction = _read(request)
    if eviction.get("metadata", {}).get("name") != target.name:
        raise Refused(400, "BadRequest", "name in URL does not match name in Eviction object")
    pod = _get(target, objects)
    budgets = [
        budget
        for budget in objects.of("poddisruptionbudgets", target.namespace)
        if pod in controllers.covered(objects, budget)
    ]
    if not _needs_no_budget(pod):
        _check_budgets(objects, pod, budgets)
    _end(objects, target.key, eviction.get("deleteOptions") or {}, now)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _needs_no_budget(pod: Json) -> bool:
    phase = pod["status"]["phase"]
    return phase != "Running" or "deletionTimestamp" in pod["metadata"]


def _check_budgets(objects: Objects, pod: Json, budgets: list[Json]) -> None:
    if len(budgets) > 1:
        raise Refused(
            500,
            "",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does "
            "not support.",
        )
    for budget in budgets:
        needs, has = needed(objects, budget), controllers.healthy(objects, budget)
        if not controllers.is_ready(pod) and has >= needs > 0:
            continue
        if has <= needs:
            name = budget["metadata"]["name"]
            cause = {
                "reason": "DisruptionBudget",
                "message": f"The disruption budget {name} needs {needs} healthy pods and has {has} "
                "currently",
            }
            raise Refused(
                429,
                "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.",
                causes=[cause],
            )


def needed(objects: Objects, budget: Json) -> int:
    """Return how many healthy pods a PodDisruptionBudget wants: its status.desiredHealthy."""
    spec, pods = budget["spec"], controllers.covered(objects, budget)
    uids = {each["uid"] for pod in pods for each in pod["metadata"].get("ownerReferences", [])}
    expected: int = sum(
        owner["spec"]["replicas"]
        for owner in objects.of("replicasets")
        if owner["metadata"]["uid"] in uids
    )
    if "minAvailable" in spec:
        return _scaled(spec["minAvailable"], expected)
    return max(0, expected - _scaled(spec["maxUnavailable"], expected))


def _scaled(value: int | str, of: int) -> int:
    return value if isinstance(value, int) else ceil(int(value.removesuffix("%")) * of / 100)


def _end(objects: Objects, key: str, options: Json, now: float) -> None:
    """Have a pod end in the time that it is given; a second call changes nothing."""
    pod = objects[key]
    grace = options.get("gracePeriodSeconds")
    if grace is None:
        grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
    if "nodeName" not in pod["spec"]:
        objects.remove(key)
    elif "deletionTimestamp" not in pod["metadata"]:
        pod["metadata"]["deletionTimestamp"] = stamp(ceil(now + grace))
        pod["metadata"]["deletionGracePeriodSeconds"] = grace
        objects.put(key, pod)


def _read(request: Request) -> Json:
    try:
        found = json.loads(request.body)
    except ValueError as error:
        raise Refused(400, "BadRequest", f"the object provided is unrecognized: {error}") from None
    if not isinstance(found, dict):
        raise Refused(400, "BadRequest", "the object provided is unrecognized")
    return found
