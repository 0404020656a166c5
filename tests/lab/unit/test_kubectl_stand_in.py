"""The stand-in for kubectl, against the stand-in for kube-apiserver."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import apiserver, certificates, cluster_api, kubectl, plan
from tests.lab.paths import LAB, LabPaths

SERVER = LAB / "images/worker/files/usr/lib/lab/apiserver.py"


@dataclass
class Cluster:
    """A kubeconfig, its server, and the nodes."""

    paths: LabPaths
    port: int

    def kubectl(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [LAB / "bin/kubectl", f"--kubeconfig={self.paths.files}/kubeconfig", *words],
            env={**os.environ, "LAB_KUBERNETES": str(self.paths.kubernetes),
                 "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )  # fmt: skip

    def add(self, name: str, *pods: dict[str, Any]) -> None:
        cluster_api.add_node(self.paths, name, "127.0.0.1", *pods)

    def unschedulable(self, name: str) -> bool:
        return bool(cluster_api.nodes(self.paths)[name]["unschedulable"])


class Paths(LabPaths):
    """The paths of a lab that is a temporary directory."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """The certificates of a lab, and the port of an API server that has one."""
    root = tmp_path_factory.mktemp("kubectl")
    certificates.build(root / "certificates", etcd_addresses={})
    chosen = plan.make(name="unit", workers=("pi1",), storage=())
    node = chosen.node("pi1")
    apiserver.provision(chosen, node, root / "certificates", root / "node")
    pair = root / "node/etc/lab-apiserver/server"
    command = [sys.executable, str(SERVER), "--address=127.0.0.1", "--port=0", "--name=pi1"]
    command += [f"--certificate={pair}.crt", f"--key={pair}.key", f"--readyz={root}/readyz"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield root, int(server.stdout.readline().rpartition(" ")[2])
        server.kill()


@pytest.fixture
def cluster(served: tuple[Path, int], tmp_path: Path) -> Cluster:
    certificates_of, port = served
    paths = Paths("unit")
    object.__setattr__(paths, "root", tmp_path)
    (tmp_path / "certificates").symlink_to(certificates_of / "certificates")
    paths.files.mkdir()
    cluster_api.prepare(plan.make(name="unit", workers=("pi1",), storage=()), paths)
    made = Cluster(paths, port)
    point(made, port)
    made.add("pi1")
    return made


def point(cluster: Cluster, port: int) -> None:
    """Have the kubeconfig name another port of this computer."""
    file = cluster.paths.files / "kubeconfig"
    config = yaml.safe_load(file.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    file.write_text(yaml.safe_dump(config))


def test_a_node_is_cordoned_and_uncordoned(cluster: Cluster) -> None:
    for verb, before, after in (("cordon", False, True), ("uncordon", True, False)):
        assert cluster.unschedulable("pi1") is before
        assert cluster.kubectl(verb, "pi1").stdout == f"node/pi1 {verb}ed\n"
        assert cluster.kubectl(verb, "pi1").stdout == f"node/pi1 already {verb}ed\n"
        assert cluster.unschedulable("pi1") is after


def test_nodes_are_shown_with_their_condition(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as kubelet:
        monkeypatch.setattr(kubectl, "KUBELET", kubelet.getsockname()[1])
        monkeypatch.setenv("LAB_KUBERNETES", str(cluster.paths.kubernetes))
        words = [f"--kubeconfig={cluster.paths.files}/kubeconfig", "get", "nodes", "--output=json"]
        assert kubectl.main(words) == 0
    assert kubectl.main(words) == 0
    lines = capsys.readouterr().out.replace("}\n{", "}\n\0{").split("\0")
    for text, status in zip(lines, ("True", "Unknown"), strict=True):
        (node,) = json.loads(text)["items"]
        assert node["metadata"]["name"] == "pi1"
        (condition,) = node["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("Ready", status)


def test_an_api_that_is_away_is_told_as_by_the_original(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    point(cluster, port)
    done = cluster.kubectl("uncordon", "pi1")
    assert done.returncode == 1
    assert done.stderr == (
        f"The connection to the server 127.0.0.1:{port} was refused - did you specify the right "
        "host or port?\n"
    )


def test_a_server_that_hangs_is_given_up(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point(cluster, silent.getsockname()[1])
        begin = time.monotonic()
        done = cluster.kubectl("--request-timeout=1s", "cordon", "pi1")
        assert done.returncode == 1
        assert "Unable to connect to the server" in done.stderr
        assert 1 <= time.monotonic() - begin < 20


def test_a_server_of_another_authority_is_not_trusted(cluster: Cluster, tmp_path: Path) -> None:
    certificates.build(tmp_path / "others", etcd_addresses={})
    file = cluster.paths.files / "kubeconfig"
    config = cluster_api.kubeconfig("127.0.0.1", (tmp_path / "others/web-ca.crt").read_bytes())
    file.write_text(yaml.safe_dump(config))
    point(cluster, cluster.port)
    done = cluster.kubectl("cordon", "pi1")
    assert done.returncode == 1
    assert "x509" in done.stderr
    assert not cluster.unschedulable("pi1")


def test_pods_leave_a_node_that_is_drained(cluster: Cluster) -> None:
    cluster.add("pi1", {"name": "web-0", "seconds": 0.1})
    done = cluster.kubectl("drain", "pi1", "--ignore-daemonsets", "--timeout=9s")
    assert done.stdout.splitlines() == [
        "node/pi1 cordoned",
        "evicting pod default/web-0",
        "pod/web-0 evicted",
        "node/pi1 drained",
    ]
    assert cluster.unschedulable("pi1")


@pytest.mark.parametrize("pod", [{"budget": True}, {"seconds": 30}], ids=["budget", "slow"])
def test_pods_that_stay_are_told_when_time_is_over(cluster: Cluster, pod: dict[str, Any]) -> None:
    cluster.add("pi1", {"name": "web-0", **pod})
    done = cluster.kubectl("drain", "pi1", "--timeout=1s")
    assert done.returncode == 1
    why = 'error when evicting pods/"web-0" -n "default": global timeout reached: 1s'
    assert done.stderr.splitlines()[-1] == why
    assert ("would violate the pod's disruption budget" in done.stderr) is ("budget" in pod)


def test_pods_without_controller_are_left(cluster: Cluster) -> None:
    cluster.add("pi1", {"name": "mine", "bare": True})
    done = cluster.kubectl("drain", "pi1")
    assert done.returncode == 1
    assert "cannot delete Pods that declare no controller" in done.stderr
    assert cluster.kubectl("drain", "pi1", "--force").returncode == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("cordon", "pi9"), 'Error from server (NotFound): nodes "pi9" not found'),
        (("drain", "pi1", "--delete-local-data"), "error: unrecognized arguments"),
        (("taint", "pi1"), "error: "),
        (("get", "pods"), "gets nodes only"),
    ],
)
def test_what_the_original_refuses_is_refused(
    cluster: Cluster, words: tuple[str, ...], complaint: str
) -> None:
    done = cluster.kubectl(*words)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_calls_are_recorded_while_they_run_and_when_they_end(cluster: Cluster) -> None:
    cluster.add("pi1", {"name": "web-0", "seconds": 3})
    thread = threading.Thread(target=cluster.kubectl, args=("drain", "pi1"))
    thread.start()
    while not (calls := cluster_api.calls(cluster.paths)):
        time.sleep(0.02)
    assert "ended" not in calls[0]
    thread.join()
    (call,) = cluster_api.calls(cluster.paths)
    assert call["words"][-2:] == ["drain", "pi1"]
    assert call["status"] == 0
    assert call["ended"] - call["began"] >= 3
