"""What kubelets and controllers do to a cluster's objects, without any server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.control_plane import api, controllers, objects
from tests.lab.control_plane import kubelet as kubelet_module
from tests.lab.control_plane.kubelet import MIRROR_LAG_SECONDS, Kubelet
from tests.lab.control_plane.store import Json, Store, parse_stamp

SERVER = {"kube-apiserver": "c0ffee"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def join(store: Store, name: str) -> Kubelet:
    kubelet = Kubelet(store, name, "192.168.1.50", "v1.36.2")
    kubelet.register()
    return kubelet


def put(store: Store, *items: Json) -> None:
    with store.transaction() as kept:
        for item in items:
            kept.put(api.key_of(item), item)


def pods(store: Store, now: float) -> list[Json]:
    with store.transaction() as kept:
        controllers.control(kept, store, now)
        return kept.of("pods")


def test_a_mirror_pod_stays_ready_for_a_while_after_its_server_has_ended(store: Store) -> None:
    def ready() -> bool:
        (pod,) = pods(store, time.time())
        return controllers.is_ready(pod)

    kubelet = join(store, "pi1")
    for moment, answers, expected in (
        (0.0, False, False),
        (1.0, True, True),
        (MIRROR_LAG_SECONDS, False, True),
        (MIRROR_LAG_SECONDS + 2, False, False),
    ):
        kubelet.beat(moment, static=SERVER, answers=answers)
        assert ready() is expected, moment
    kubelet.beat(99, static={}, answers=False)
    assert pods(store, time.time()) == []


def test_a_new_manifest_makes_another_mirror_pod(store: Store) -> None:
    """By whose hash kubeadm knows that kubelet has noticed the manifest."""
    kubelet = join(store, "pi1")
    seen = []
    for moment, digest in ((0.0, "old"), (1.0, "old"), (2.0, "new"), (3.0, "new")):
        kubelet.beat(moment, static={"kube-apiserver": digest}, answers=True)
        (pod,) = pods(store, time.time())
        hashed = pod["metadata"]["annotations"]["kubernetes.io/config.hash"]
        seen.append((hashed, pod["metadata"]["uid"], controllers.is_ready(pod)))
    hashes, uids, ready = zip(*seen, strict=True)
    assert hashes == ("old", "old", "new", "new")
    assert uids[0] == uids[1] != uids[2] == uids[3]
    assert ready == (True, True, False, True)


def test_each_static_pod_has_its_mirror_pod(store: Store) -> None:
    kubelet, other = join(store, "pi1"), join(store, "pi4")
    components = {"kube-apiserver": "a", "kube-controller-manager": "b", "kube-scheduler": "c"}
    for each in (kubelet, other):
        each.beat(0, static=components, answers=False)
    kubelet.beat(1, static={"kube-scheduler": "c"}, answers=False)
    names = {pod["metadata"]["name"] for pod in pods(store, time.time())}
    assert names == {f"{component}-pi4" for component in components} | {"kube-scheduler-pi1"}


def test_a_manifests_hash_is_that_of_its_content(tmp_path: Path) -> None:
    for name in ("kube-scheduler.yaml", ".kubelet-keep"):
        (tmp_path / name).write_text("a")
    (before,) = kubelet_module.digests(tmp_path).items()
    (tmp_path / "kube-scheduler.yaml").write_text("b")
    (after,) = kubelet_module.digests(tmp_path).items()
    assert before[0] == after[0] == "kube-scheduler"
    assert before[1] != after[1]


@pytest.mark.parametrize(
    ("service", "docker", "started", "digest", "minor", "command"),
    [
        ("inactive", "active", None, "new", "35", "restart --no-block"),
        ("inactive", "inactive", None, "new", "35", ""),
        ("active", "active", "new 35", "new", "35", ""),
        ("active", "active", None, "new", "35", ""),
        ("active", "active", "old 35", "new", "35", "restart --no-block"),
        ("active", "active", "new 34", "new", "35", "restart --no-block"),
        ("active", "inactive", "old 35", "new", "35", ""),
        ("active", "active", "new 35", None, "35", "stop"),
        ("inactive", "active", "new 35", None, "35", ""),
    ],
)
def test_an_api_server_is_restarted_by_another_manifest_or_minor_version(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    service: str,
    docker: str,
    started: str | None,
    digest: str | None,
    minor: str,
    command: str,
) -> None:
    said: list[str] = []

    def systemctl(*words: str) -> str:
        if words[0] == "is-active":
            return f"{service}\n{docker}"
        said.append(" ".join(words).removesuffix(f" {kubelet_module.SERVICE}"))
        return ""

    record = tmp_path / "run/started-with"
    if started is not None:
        record.parent.mkdir()
        record.write_text(started)
    monkeypatch.setattr(kubelet_module, "systemctl", systemctl)
    monkeypatch.setattr(kubelet_module, "STARTED_WITH", record)
    running = kubelet_module.keep_server(digest, minor)
    assert said == [command] * bool(command)
    if digest is None:
        assert running is None
        return
    expected = "old" if (docker, started) == ("inactive", "old 35") else "new"
    assert running == expected
    assert record.read_text().split()[0] == expected


def test_a_node_that_was_deleted_is_registered_by_its_kubelets_next_start(store: Store) -> None:
    kubelet = join(store, "pi1")
    with store.transaction() as kept:
        kept.remove("nodes/pi1")
    store.forget("pi1")
    kubelet.beat(1, static={}, answers=False)
    assert store.silence("pi1", time.time()) == float("inf")
    kubelet.register()
    with store.transaction() as kept:
        assert [node["metadata"]["name"] for node in kept.of("nodes")] == ["pi1"]


def test_what_somebody_changed_of_a_node_outlives_its_kubelets_restart(store: Store) -> None:
    kubelet = join(store, "pi1")
    with store.transaction() as kept:
        kept.put("nodes/pi1", {**kept["nodes/pi1"], "spec": {"unschedulable": True}})
    kubelet.register()
    with store.transaction() as kept:
        assert kept["nodes/pi1"]["spec"] == {"unschedulable": True}


def test_a_pod_takes_its_time_to_start_and_to_end(store: Store) -> None:
    kubelet, now = join(store, "pi1"), time.time()
    put(store, objects.replica_set("web", on="pi1", grace=3))
    (pod,) = pods(store, now)
    assert not controllers.is_ready(pod)
    (pod,) = pods(store, now + 2)
    assert controllers.is_ready(pod)
    request = api.Request("DELETE", f"/{api.RESOURCES[2].place}/namespaces/default/pods/"
                          f"{pod['metadata']['name']}")  # fmt: skip
    status, ending = api.answer(request, store, "1.36.2", now + 2)
    assert (status, ending["metadata"]["deletionGracePeriodSeconds"]) == (200, 3)
    ends = parse_stamp(ending["metadata"]["deletionTimestamp"])
    assert now + 5 <= ends < now + 7
    names = {each["metadata"]["name"] for each in pods(store, ends - 0.5)}
    assert pod["metadata"]["name"] in names
    assert len(names) == 2, "its ReplicaSet has made another one"
    kubelet.beat(1, static={}, answers=False)
    assert len(pods(store, ends)) == 1


def test_a_kubelet_that_is_silent_ends_no_pods(store: Store) -> None:
    join(store, "pi1")
    put(store, objects.bare_pod("mine", on="pi1"))
    now = time.time() + 11
    with store.transaction() as kept:
        kept["pods/default/mine"]["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
        kept.put("pods/default/mine", kept["pods/default/mine"])
    assert len(pods(store, now)) == 1
    store.beat("pi1")
    assert pods(store, time.time()) == []


def test_a_node_that_takes_no_pods_has_those_of_daemon_sets(store: Store) -> None:
    join(store, "pi1")
    with store.transaction() as kept:
        kept.put("nodes/pi1", {**kept["nodes/pi1"], "spec": {"unschedulable": True}})
    put(store, objects.daemon_set("kube-proxy"), objects.replica_set("web", on="pi1"))
    placed = {pod["metadata"]["namespace"]: pod["spec"].get("nodeName")
              for pod in pods(store, time.time())}  # fmt: skip
    assert placed == {"kube-system": "pi1", "default": None}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [({"minAvailable": 2}, 2), ({"minAvailable": "50%"}, 2), ({"maxUnavailable": 1}, 2)],
)
def test_what_a_budget_needs(store: Store, spec: Json, expected: int) -> None:
    join(store, "pi1")
    budget = objects.budget("web", least=1)
    budget["spec"] = {**spec, "selector": budget["spec"]["selector"]}
    put(store, objects.replica_set("web", on="pi1", replicas=3), budget)
    pods(store, time.time())
    with store.transaction() as kept:
        assert api.needed(kept, kept["poddisruptionbudgets/default/web"]) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("role", {"pi1", "pi4"}),
        ("role=", {"pi1"}),
        ("role=x", {"pi4"}),
        ("role!=x", {"pi1", "pi5"}),
        ("role,role!=x", {"pi1"}),
        ("role==x,kubernetes.io/os=linux", {"pi4"}),
        ("none", set()),
    ],
)
def test_labels_select_objects(store: Store, selector: str, expected: set[str]) -> None:
    for name, labels in (("pi1", {"role": ""}), ("pi4", {"role": "x"}), ("pi5", {})):
        join(store, name)
        with store.transaction() as kept:
            kept[f"nodes/{name}"]["metadata"]["labels"].update(labels)
            kept.put(f"nodes/{name}", kept[f"nodes/{name}"])
    request = api.Request("GET", "/api/v1/nodes", {"labelSelector": selector})
    _, found = api.answer(request, store, "1.36.2", time.time())
    assert {node["metadata"]["name"] for node in found["items"]} == expected


def test_a_list_of_a_namespace_is_of_its_objects(store: Store) -> None:
    join(store, "pi1")
    put(store, objects.bare_pod("mine", on="pi1"), objects.daemon_set("kube-proxy"))
    request = api.Request("GET", "/api/v1/namespaces/default/pods")
    _, found = api.answer(request, store, "1.36.2", time.time())
    assert [pod["metadata"]["name"] for pod in found["items"]] == ["mine"]


def test_an_eviction_that_a_budget_forbids_says_which_and_why(store: Store) -> None:
    join(store, "pi1")
    put(store, objects.replica_set("web", on="pi1"), objects.budget("web", least=1))
    (pod,) = pods(store, time.time())
    pods(store, time.time() + 2)
    name = pod["metadata"]["name"]
    request = api.Request(
        "POST",
        f"/api/v1/namespaces/default/pods/{name}/eviction",
        body=f'{{"metadata": {{"name": "{name}"}}}}'.encode(),
    )
    with pytest.raises(api.Refused) as refused:
        api.answer(request, store, "1.36.2", time.time() + 2)
    assert refused.value.code == 429
    assert refused.value.status["details"] == {
        "causes": [
            {
                "reason": "DisruptionBudget",
                "message": "The disruption budget web needs 1 healthy pods and has 1 currently",
            }
        ]
    }
