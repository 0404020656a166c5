"""The real kubectl, Debian's, against the stand-in for kube-apiserver."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.lab import certificates, cluster_api, kubectl
from tests.lab.control_plane import objects
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
