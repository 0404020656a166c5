"""Switch storage nodes off: at the deploy, at boot, and under a mounted /var/log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster.virtual_cluster import Cluster, wait_for

STORAGE = ("etcd1", "etcd2", "etcd3")
MOUNTED = "findmnt -no SOURCE --mountpoint /var/log -t fuse.glusterfs"


def primary(cluster: Cluster, node: str) -> str:
    """Return the storage node that a worker asks first."""
    return STORAGE[(int(node.removeprefix("pi")) - 1) % len(STORAGE)]


def storage(cluster: Cluster, action: str) -> None:
    """Switch the power of all storage nodes."""
    for node in STORAGE:
        cluster.power(node, action)


def answers(cluster: Cluster, node: str) -> bool:
    """Tell whether a new ssh login runs a command within 15 seconds."""
    run = cluster.run("timeout", "15", "ssh", node, "true", ok=False)
    return run.status == 0


def active(cluster: Cluster, node: str, unit: str) -> bool:
    """Tell whether a unit runs."""
    return cluster.exec(node, f"systemctl is-active {unit}", ok=False) == "active"


def test_deploy_mounts_by_a_backup_server(deployed: Cluster) -> None:
    node = next(node for node in deployed.workers if primary(deployed, node) == "etcd2")
    deployed.exec(node, "systemctl stop var-log.service")
    deployed.power("etcd2", "cut")
    try:
        deployed.changed("deploy.py", "--limit", node)
        assert deployed.exec(node, MOUNTED)
        deployed.exec(node, "echo by-backup > /var/log/by-backup && rm /var/log/by-backup")
    finally:
        deployed.power("etcd2", "on")


def test_node_boots_without_storage_and_mounts_when_it_returns(deployed: Cluster) -> None:
    node = deployed.workers[0]
    storage(deployed, "cut")
    try:
        begin = time.monotonic()
        deployed.power(node, "cycle")
        wait_for("ssh", lambda: answers(deployed, node), 60)
        for unit in ("docker.service", "cri-docker.socket", "rsyslog.service"):
            wait_for(f"{unit} without storage", partial(active, deployed, node, unit), 60)
        print(f"{node} was up after {time.monotonic() - begin:.0f} s without storage")
        assert not deployed.exec(node, MOUNTED, ok=False)
        journal = deployed.exec(node, "journalctl --header | grep '^File path'")
        assert "/var/log" not in journal
    finally:
        storage(deployed, "on")
    deployed.await_shares(node)


@pytest.fixture(scope="class")
def without_storage(deployed: Cluster) -> Iterator[Cluster]:
    """Switch all storage nodes off while the workers have mounted their shares."""
    deployed.await_shares()
    storage(deployed, "cut")
    yield deployed
    storage(deployed, "on")
    deployed.await_shares()


class TestStorageStopsUnderAMountedNode:
    """Tests of a node whose log share goes away while it is in use."""

    def test_ssh_still_logs_in(self, without_storage: Cluster) -> None:
        assert answers(without_storage, without_storage.workers[0])

    def test_deploy_ends_with_a_reason(self, without_storage: Cluster) -> None:
        node = without_storage.workers[0]
        begin = time.monotonic()
        run = without_storage.pyinfra("deploy.py", "-y", "--limit", node, ok=False, timeout=300)
        print(f"the deploy ended after {time.monotonic() - begin:.0f} s")
        assert "fix the storage servers" in run.text
        assert "Traceback" not in run.text

    def test_node_reboots_within_90_seconds(self, without_storage: Cluster) -> None:
        node = without_storage.workers[0]
        before = without_storage.boot_id(node)
        begin = time.monotonic()
        without_storage.exec(node, "systemctl reboot", ok=False)
        wait_for(
            "another boot",
            lambda: without_storage.has_rebooted(node, before) and answers(without_storage, node),
            90,
        )
        print(f"{node} rebooted in {time.monotonic() - begin:.0f} s")


def test_nodes_are_as_wanted_when_storage_is_back(deployed: Cluster) -> None:
    deployed.changed("deploy.py")
    assert deployed.announced("deploy.py") == {}
