"""The real kubectl, Debian's, against the stand-in for kube-apiserver."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from chaos_engine.operations.kubernetes.kubelet import (
    change_configuration,
    cluster_configuration,
    needed,
)
from chaos_engine.operations.rolling.cluster_turn import ClusterTurn
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.kubectl import Kubectl
from tests.lab import certificates, cluster_api, kubectl
from tests.lab.control_plane import leases, objects
from tests.lab.control_plane.controllers import is_ready
from tests.lab.control_plane.kubelet import Kubelet
from tests.lab.control_plane.store import Json, Store
from tests.lab.unit.api_servers import Server, make_folder, running


@dataclass
class Cluster:
    """An API server, and nodes whose kubelets renewed their leases just now."""

    server: Server
    root: Path

    @property
    def store(self) -> Store:
        return self.server.store

    def kubectl(self, *words: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        program = kubectl.piece() / "bin/kubectl"
        return subprocess.run(
            [program, f"--kubeconfig={config or self.root / 'kubeconfig'}", *words],
            env={**os.environ, "KUBECACHEDIR": str(self.root / "cache")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def config(self, port: int, issued: Path | None = None, *, known: bool = True) -> Path:
        """Write a kubeconfig, of the administrator or of nobody."""
        config = cluster_api.kubeconfig("127.0.0.1", issued or self.server.folder)
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        if not known:
            config["users"][0]["user"] = {}
        file = self.root / f"kubeconfig-{port}-{known}"
        file.write_text(yaml.safe_dump(config))
        return file

    def join(self, name: str) -> Kubelet:
        kubelet = Kubelet(self.store, name, "127.0.0.1", "v1.36.2")
        kubelet.register()
        return kubelet

    def node(self, name: str) -> Json:
        found: Json = json.loads(self.kubectl("get", "node", name, "--output=json").stdout)
        return found

    def pods(self) -> list[Json]:
        """The pods that have a node."""
        cluster_api.settle(self.store)
        with self.store.transaction() as kept:
            return [pod for pod in kept.of("pods") if "nodeName" in pod["spec"]]

    def run(self, *items: Json) -> None:
        """Add objects, and wait until there are pods, which run."""
        cluster_api.add(self.store, *items)
        while not (pods := self.pods()) or not all(map(is_ready, pods)):
            time.sleep(0.1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(make_folder(tmp_path_factory.mktemp("kubectl"))) as server:
        yield server


@pytest.fixture
def cluster(server: Server, tmp_path: Path) -> Cluster:
    with server.store.transaction() as kept:
        for key in [*kept]:
            kept.remove(key)
    made = Cluster(server, tmp_path)
    made.config(server.port).rename(tmp_path / "kubeconfig")
    made.join("pi1")
    return made


def test_a_node_is_cordoned_and_uncordoned(cluster: Cluster) -> None:
    for verb, after in (("cordon", True), ("uncordon", None)):
        done = cluster.kubectl(verb, "pi1")
        assert (done.stdout, done.stderr) == (f"node/pi1 {verb}ed\n", "")
        assert cluster.kubectl(verb, "pi1").stdout == f"node/pi1 already {verb}ed\n"
        assert cluster.node("pi1")["spec"].get("unschedulable") is after


def test_a_node_is_ready_while_its_lease_is_renewed(cluster: Cluster) -> None:
    def ready() -> list[str]:
        (node,) = json.loads(cluster.kubectl("get", "nodes", "--output=json").stdout)["items"]
        return [each["status"] for each in node["status"]["conditions"] if each["type"] == "Ready"]

    assert ready() == ["True"]
    lease = cluster.store.folder / "leases/pi1"
    os.utime(lease, (time.time() - 30, time.time() - 30))
    assert ready() == ["True"]
    os.utime(lease, (time.time() - 41, time.time() - 41))
    assert ready() == ["Unknown"]


def test_the_version_of_the_server_is_told(cluster: Cluster) -> None:
    told = json.loads(cluster.kubectl("version", "--output=json").stdout)
    assert told["serverVersion"]["gitVersion"] == "v1.36.2"


def test_a_node_is_deleted_with_its_pods(cluster: Cluster) -> None:
    cluster.run(objects.daemon_set("kube-proxy"))
    assert cluster.kubectl("delete", "node", "pi1").stdout.startswith('node "pi1" deleted')
    assert 'nodes "pi1" not found' in cluster.kubectl("get", "node", "pi1").stderr
    assert cluster.pods() == []


def test_pods_leave_a_node_that_is_drained_and_come_back(cluster: Cluster) -> None:
    cluster.run(objects.daemon_set("kube-proxy"), objects.replica_set("web", on="pi1"))
    cluster.join("pi1").beat(0, static={"kube-apiserver": "c0ffee"}, answers=True)
    (name,) = (pod["metadata"]["name"] for pod in cluster.pods() if web(pod))
    refused = cluster.kubectl("drain", "pi1", "--timeout=9s")
    assert "cannot delete DaemonSet-managed Pods" in refused.stderr
    done = cluster.kubectl("drain", "pi1", "--ignore-daemonsets", "--timeout=9s")
    assert done.stdout.splitlines() == [
        "node/pi1 already cordoned",
        f"evicting pod default/{name}",
        f"pod/{name} evicted",
        "node/pi1 drained",
    ]
    assert cluster.pods()
    assert not any(map(web, cluster.pods()))
    cluster.kubectl("uncordon", "pi1")
    assert sum(map(web, cluster.pods())) == 1


def web(pod: Json) -> bool:
    return bool(pod["metadata"]["namespace"] == "default")


def test_pods_that_a_budget_keeps_are_told_when_time_is_over(cluster: Cluster) -> None:
    cluster.run(objects.replica_set("web", on="pi1"), objects.budget("web", least=1))
    done = cluster.kubectl("drain", "pi1", "--timeout=2s")
    assert done.returncode == 1
    assert "Cannot evict pod as it would violate the pod's disruption budget." in done.stderr
    assert done.stderr.endswith(' -n "default": global timeout reached: 2s\n')


def test_pods_that_take_too_long_are_told_when_time_is_over(cluster: Cluster) -> None:
    cluster.run(objects.replica_set("web", on="pi1", grace=60))
    done = cluster.kubectl("drain", "pi1", "--timeout=2s")
    assert done.returncode == 1
    assert done.stderr.endswith(' in namespace "default" to terminate: context deadline exceeded\n')


def test_a_budget_lets_pods_go_one_after_the_other(cluster: Cluster) -> None:
    budget = objects.budget("web", least=1)
    cluster.run(objects.replica_set("web", on="pi1", replicas=2), budget)
    done = cluster.kubectl("drain", "pi1", "--timeout=4s")
    assert done.returncode == 1
    assert done.stdout.count(" evicted") == 1


def test_pods_without_controller_are_left(cluster: Cluster) -> None:
    cluster.run(objects.bare_pod("mine", on="pi1"))
    done = cluster.kubectl("drain", "pi1")
    assert done.returncode == 1
    assert "cannot delete Pods that declare no controller" in done.stderr
    assert cluster.kubectl("drain", "pi1", "--force").returncode == 0
    assert cluster.pods() == []


LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"


def write(cluster: Cluster, verb: str, path: str, body: Json) -> tuple[Json, str]:
    """Send an object as the package does, and return the answer and the error."""
    program = kubectl.piece() / "bin/kubectl"
    done = subprocess.run(
        [program, f"--kubeconfig={cluster.root / 'kubeconfig'}", verb, "--raw", path, "-f-"],
        input=json.dumps(body),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return json.loads(done.stdout or "{}"), done.stderr


def lease(**spec: object) -> Json:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "a"},
        "spec": spec,
    }


def test_a_lease_is_written_only_over_the_version_that_was_read(cluster: Cluster) -> None:
    first, error = write(cluster, "create", LEASES, lease(holderIdentity="anna"))
    assert (error, first["metadata"]["namespace"]) == ("", "kube-system")
    assert write(cluster, "create", LEASES, lease())[1].startswith(
        'Error from server (AlreadyExists): leases.coordination.k8s.io "a" already exists'
    )
    changed = {**first, "spec": {"holderIdentity": "bert"}}
    second, error = write(cluster, "replace", f"{LEASES}/a", changed)
    assert (error, second["spec"]) == ("", {"holderIdentity": "bert"})
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    assert write(cluster, "replace", f"{LEASES}/a", changed)[1].startswith(
        "Error from server (Conflict): Operation cannot be fulfilled on leases.coordination.k8s.io "
        '"a": the object has been modified; please apply your changes to the latest version'
    )
    assert write(cluster, "replace", f"{LEASES}/b", changed)[1].startswith(
        'Error from server (NotFound): leases.coordination.k8s.io "b" not found'
    )


def test_a_lease_without_a_duration_is_refused(cluster: Cluster) -> None:
    _, error = write(cluster, "create", LEASES, lease(leaseDurationSeconds=0))
    assert "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0" in error
    _, error = write(cluster, "create", LEASES, lease(renewTime="today"))
    assert "is not a MicroTime" in error


def test_leases_are_printed_with_their_holders(cluster: Cluster) -> None:
    write(cluster, "create", LEASES, lease(holderIdentity="anna@desk:1-a/pi1"))
    for words in (("lease",), ("leases.coordination.k8s.io", "a")):
        shown = cluster.kubectl("get", *words, "--namespace=kube-system").stdout.splitlines()
        assert [line.split()[:2] for line in shown] == [
            ["NAME", "HOLDER"],
            ["a", "anna@desk:1-a/pi1"],
        ]
    assert cluster.kubectl("delete", "lease", "a", "-n", "kube-system").returncode == 0
    assert "No resources found" in cluster.kubectl("get", "lease", "-n", "kube-system").stderr


def test_kubelets_configuration_is_changed_with_the_real_kubectl(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(kubectl.piece() / "bin"), prepend=":")
    asks = Kubectl(str(cluster.root / "kubeconfig"))
    assert cluster_configuration(asks) == {}
    text = "cgroupDriver: systemd\nfeatureGates:\n  A: true\nkind: KubeletConfiguration\n"
    with cluster.store.transaction() as kept:
        metadata = {"name": "kubelet-config", "namespace": "kube-system"}
        item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        kept.put("configmaps/kube-system/kubelet-config", {**item, "data": {"kubelet": text}})
    for _ in range(2):
        change_configuration(asks, lambda config: needed(config, {"B": False}, "100m"))
    with cluster.store.transaction() as kept:
        found = kept["configmaps/kube-system/kubelet-config"]
    assert yaml.safe_load(found["data"]["kubelet"]) == {
        "cgroupDriver": "systemd",
        "featureGates": {"A": True, "B": False},
        "kind": "KubeletConfiguration",
        "containerLogMaxSize": "1Ti",
    }
    assert found["metadata"]["namespace"] == "kube-system"


def test_a_turn_takes_its_leases_with_the_real_kubectl(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(kubectl.piece() / "bin"), prepend=":")
    asks = Kubectl(str(cluster.root / "kubeconfig"))
    said: list[str] = []
    host: Any = SimpleNamespace(log=said.append)
    for _ in range(2):  # the second turn finds the Leases that the first one has made
        turn = ClusterTurn(host, Rolling("proxy", batch=2, kubectl=asks, node="pi5"))
        turn.take()
        shown = cluster.kubectl("get", "lease", "--namespace=kube-system").stdout
        assert turn.confirm() == ""
        turn.end()
        names = ["chaos-engine.controller", "chaos-engine.turn-1", "chaos-engine.turn-2"]
        held = [line.split()[0] for line in shown.splitlines()[1:] if "/pi5 " in line]
        assert held == names
        assert (turn.problem, turn.waited, said) == ("", False, [])
    shown = cluster.kubectl("get", "lease", "--namespace=kube-system").stdout
    assert "pi5" not in shown


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1, "0s"), (119, "119s"), (125, "2m5s"), (120, "2m"), (660, "11m"), (10800, "3h")],
)
def test_ages_are_printed_as_by_kubectl(seconds: float, expected: str) -> None:
    assert leases.age(seconds) == expected


def test_an_api_that_is_away_is_told(cluster: Cluster) -> None:
    with running(cluster.server.folder, ready=False) as other:
        port = other.port
    done = cluster.kubectl("uncordon", "pi1", config=cluster.config(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port} was refused - did you specify the right host or port?" in done.stderr


def test_a_server_of_another_authority_is_not_trusted(cluster: Cluster, tmp_path: Path) -> None:
    certificates.build(tmp_path / "others", etcd_addresses={})
    config = cluster.config(cluster.server.port, tmp_path / "others")
    done = cluster.kubectl("cordon", "pi1", config=config)
    assert done.returncode == 1
    assert "x509: certificate signed by unknown authority" in done.stderr


def test_who_is_not_known_may_change_nothing(cluster: Cluster) -> None:
    config = cluster.config(cluster.server.port, known=False)
    done = cluster.kubectl("cordon", "pi1", config=config)
    assert done.returncode == 1
    assert not cluster.node("pi1")["spec"].get("unschedulable")


def test_what_was_asked_for_is_in_the_audit_log(cluster: Cluster) -> None:
    cluster.run(objects.replica_set("web", on="pi1"))
    before = len(cluster.store.audit())
    cluster.kubectl("drain", "pi1")
    events = cluster.store.audit()[before:]
    asked = [(e["verb"], e["objectRef"]["resource"], e["responseStatus"]["code"]) for e in events]
    assert asked[:4] == [
        ("get", "nodes", 200),
        ("patch", "nodes", 200),
        ("list", "pods", 200),
        ("create", "pods", 201),
    ]
    assert events[1]["requestObject"] == {"spec": {"unschedulable": True}}
    assert events[1]["user"]["username"] == "kubernetes-admin"
    assert events[1]["userAgent"].startswith("kubectl/v1.")
    assert "fieldSelector=spec.nodeName%3Dpi1" in events[2]["requestURI"]
