"""Read, verify and refuse nodes before anything is deployed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.acceptance.conftest import MANIFEST
from tests.cluster.virtual_cluster import Cluster
from tests.lab import certificates


def test_facts_print_typed_values(cluster: Cluster) -> None:
    facts = (("kernel.KernelCmdline", "file", ()), ("mounts.Mounts", None, ("path=/",)))
    for fact, key, arguments in facts:
        said = cluster.pyinfra("fact", f"chaos_engine.facts.{fact}", *arguments).text
        text = said.split("Fact data for")[1]
        value = json.loads(text[text.index("{") : text.rindex("}") + 1])
        assert set(value) == set(cluster.workers)
        assert key is None or key in value[cluster.workers[0]]


def test_dpkg_waits_for_the_disk_as_on_a_pi(cluster: Cluster) -> None:
    """Check that nodes have none of the settings that make building their images fast."""
    for node in (str(each["name"]) for each in cluster.status["nodes"]):
        said = cluster.exec(node, "dpkg --force-help")
        assert "unsafe-io" not in said.split("Currently enabled options:")[1], node
        assert "unsafe-io" not in cluster.exec(node, "apt-config dump DPkg::Options"), node


def test_verify_says_what_is_missing(cluster: Cluster) -> None:
    run = cluster.pyinfra("chaos_engine.deploys.verify", "-y", ok=False)
    assert run.status
    for concern in ("docker", "kernel", "log_mount", "kubernetes", "cri_dockerd", "journald"):
        assert any(concern in line and "FAILED" in line for line in run.text.splitlines()), run.text
    assert "Traceback" not in run.text


@pytest.fixture
def files(cluster: Cluster) -> Iterator[Path]:
    """Return the folder of the user's own files, and restore them afterwards."""
    files = Path(cluster.status["files"])
    kept = files.with_name("files.kept")
    shutil.copytree(files, kept)
    yield files
    for path in files.iterdir():
        path.unlink()
    for path in kept.iterdir():
        shutil.copy2(path, files)
    shutil.rmtree(kept)


@pytest.fixture
def untouched(cluster: Cluster) -> Iterator[None]:
    """Fail if the test changed a file of a node."""
    before = {node: cluster.exec(node, MANIFEST) for node in cluster.workers}
    yield
    for node in cluster.workers:
        assert cluster.exec(node, MANIFEST) == before[node], node


def refused(cluster: Cluster, *expected: str, data: tuple[str, ...] = ()) -> None:
    """Check that the deploy ends before it touches a node, and says all that is expected."""
    extra = [word for setting in data for word in ("--data", setting)]
    run = cluster.pyinfra("deploy.py", "-y", *extra, ok=False)
    assert run.status
    assert "Starting operation" not in run.text
    assert "Traceback" not in run.text
    error = run.text.split("pyinfra error in ")[1]
    named = (mark for node in cluster.workers for mark in (f"{node}:", f"{node}, ", f"{node} and "))
    assert any(mark in error for mark in named), error
    for text in expected:
        assert text in error


@pytest.mark.usefixtures("untouched")
class TestBadInput:
    """Errors in the site's own files, which stop the run for all nodes."""

    def test_tarball_is_missing(self, cluster: Cluster, files: Path) -> None:
        for path in files.glob("cri-dockerd-*.tgz"):
            path.unlink()
        refused(cluster, "files/cri-dockerd-0.3.17.", " is missing, and ", "; download ")

    def test_tarball_has_another_checksum(self, cluster: Cluster, files: Path) -> None:
        for path in files.glob("cri-dockerd-0.3.17.*.tgz"):
            path.write_bytes(path.read_bytes() + b"\0")
        refused(
            cluster, "cri-dockerd-0.3.17.", "sha256", "; if the tarball is wrong, download it from "
        )

    def test_certificate_is_missing(self, cluster: Cluster, files: Path) -> None:
        (files / "etcd-client.crt").unlink()
        refused(
            cluster,
            "etcd-client.crt: there is no such file; put the file at this path, or set "
            "chaos_etcd_client_certificate to the file's path",
        )

    def test_certificate_has_expired(self, cluster: Cluster, files: Path) -> None:
        now = datetime.now(timezone.utc)
        replace_client(cluster, files, now - timedelta(days=9), now - timedelta(days=2))
        refused(cluster, "etcd-client.crt", "expired")

    def test_key_belongs_to_another_certificate(self, cluster: Cluster, files: Path) -> None:
        certificate = (files / "etcd-client.crt").read_bytes()
        replace_client(cluster, files, None, None)
        (files / "etcd-client.crt").write_bytes(certificate)
        refused(cluster, "etcd-client.key", "etcd-client.crt")

    def test_node_has_no_volume(self, cluster: Cluster) -> None:
        table = json.dumps({"pi10": {"volume": "pi10", "servers": ["etcd1", "etcd2"]}})
        refused(
            cluster,
            "chaos_log_volumes has no Gluster volume for this node, only for pi10",
            data=(f"chaos_log_volumes={table}",),
        )

    def test_setting_is_misspelt(self, cluster: Cluster) -> None:
        refused(
            cluster,
            "chaos_docker_log_maxsize is no setting; did you mean chaos_docker_log_max_size?",
            data=("chaos_docker_log_maxsize=10m",),
        )


def replace_client(
    cluster: Cluster, files: Path, not_before: datetime | None, not_after: datetime | None
) -> None:
    """Replace the client certificate and key by others of the lab's authority."""
    authority = Path(cluster.status["certificates"])
    certificate, key = certificates.client(
        authority, "test-client", not_before=not_before, not_after=not_after
    )
    shutil.copy2(certificate, files / "etcd-client.crt")
    shutil.copy2(key, files / "etcd-client.key")
