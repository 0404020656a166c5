"""What a worker of the predecessor's is given: the scripts and files, filled in for it."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.lab import linux, paths, plan, predecessor


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files for the proxy, by name."""
    monkeypatch.setattr(paths, "RUN", tmp_path)
    own = tmp_path / "lab" / "files"
    own.mkdir(parents=True)
    architecture = linux.run("dpkg", "--print-architecture").strip()
    tarball = f"cri-dockerd-0.3.17.{architecture}.tgz"
    for name in ("ca.crt", "etcd-client.crt", "etcd-client.key", tarball):
        (own / name).write_text(name)
    lab = plan.make(name="lab", legacy=["pi5"])
    with tarfile.open(fileobj=io.BytesIO(predecessor.bundle(lab, lab.node("pi5")))) as tar:
        return {
            member.name: reader.read().decode()
            for member in tar.getmembers()
            if (reader := tar.extractfile(member))
        }


def test_nothing_is_left_to_be_filled_in(files: dict[str, str]) -> None:
    left = {name: re.findall("@[A-Z_]+@", text) for name, text in files.items()}
    assert {name: found for name, found in left.items() if found} == {}


def test_files_are_the_nodes_own(files: dict[str, str]) -> None:
    assert "etcd2:/pi5 /var/log" in files["files/var-log.service"]
    assert "backup-volfile-servers=etcd1:etcd3" in files["files/var-log.service"]
    assert files["files/10-all.conf"].endswith("\n*.* @192.168.1.42")
    assert "192.168.1.59\tpi10.example.net pi10\n" in files["files/hosts"]
    assert "etcd" not in files["files/hosts"]
    assert files["files/etcd-client.key"] == "etcd-client.key"


@pytest.mark.parametrize("name", ["work-node", "proxy-node", "files/haproxy_start.sh"])
def test_scripts_are_ones(files: dict[str, str], name: str) -> None:
    assert files[name].startswith("#!/bin/")
    subprocess.run(["bash", "-n"], input=files[name], text=True, check=True)


def test_each_worker_asks_another_server_first() -> None:
    assert [predecessor.servers(name)[0] for name in ("pi1", "pi2", "pi3", "pi4")] == [
        "etcd1",
        "etcd2",
        "etcd3",
        "etcd1",
    ]
    assert predecessor.servers("pi5") == ["etcd2", "etcd1", "etcd3"]
