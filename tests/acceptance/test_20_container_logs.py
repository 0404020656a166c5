"""Spare the card of Docker's data: mount options and late writeback, on a node with a card."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.spared_card import ADD, CHATTY, CHATTY_RUNS, ENTRY, SETTINGS, VM
from tests.cluster.virtual_cluster import Cluster, wait_for

DEPLOY = "chaos_engine.deploys.container_logs"
UNDO = ("chaos_engine.deploys.undo", "--data", "chaos_undo=container_logs")
MOUNT = "Container logs | Mount the disk of Docker's data with options that reduce writes"
LATER = "Container logs | Write data later"
DATA = tuple(word for key, value in SETTINGS.items() for word in ("--data", f"chaos_{key}={value}"))

REMOVE = """
set -eu
mv /root/fstab /etc/fstab
systemctl daemon-reload
mount -i -o remount,errors=continue /
for name in dirty_expire_centisecs dirty_writeback_centisecs; do
  ! mountpoint -q /proc/sys/vm/$name || umount /proc/sys/vm/$name
done
"""

LOGS = "/var/lib/docker/containers"
EMPTY = f"find / -xdev -path {LOGS} -prune -o -type f -size 0 -print | sort"


@pytest.fixture(scope="module")
def node(deployed: Cluster) -> Iterator[str]:
    """Return the node with a card, whose root has an entry in fstab meanwhile."""
    name = deployed.carded
    deployed.exec(name, ADD + VM)
    yield name
    deployed.exec(name, VM)
    deployed.pyinfra(*UNDO, "-y", "--limit", name)
    deployed.exec(name, REMOVE)


def options(cluster: Cluster, node: str) -> set[str]:
    """Return the options with which the root is mounted."""
    return set(cluster.exec(node, "findmnt --noheadings --output OPTIONS /").split(","))


def writeback(cluster: Cluster, node: str) -> list[str]:
    """Return the parameters of the kernel's writeback, in hundredths of a second."""
    return cluster.exec(
        node, "cat /proc/sys/vm/dirty_expire_centisecs /proc/sys/vm/dirty_writeback_centisecs"
    ).split()


def test_options_and_writeback_are_set_last_over_a_boot_and_are_undone(
    deployed: Cluster, node: str
) -> None:
    one = ("--limit", node)
    before = (options(deployed, node), writeback(deployed, node))
    fstab = deployed.exec(node, "cat /etc/fstab")
    assert deployed.announced(DEPLOY, *one) == {}, "nothing is wanted by default"

    assert deployed.announced(DEPLOY, *DATA, *one) == {node: {MOUNT, LATER}}
    why = deployed.announced_why[node][MOUNT]
    assert deployed.changed(DEPLOY, *DATA, *one) == {node: {MOUNT, LATER}}
    assert deployed.changed_why[node][MOUNT] == why
    assert any("it has relatime,nolazytime,commit=5" in line for line in why), why
    now = options(deployed, node)
    assert {"noatime", "lazytime", "commit=600"} <= now
    assert "relatime" not in now
    assert writeback(deployed, node) == ["3500", "700"]
    entry = ENTRY.replace("remount-ro", "remount-ro,noatime,lazytime,commit=600")
    assert deployed.exec(node, "cat /etc/fstab") == fstab.replace(ENTRY, entry)
    assert deployed.announced(DEPLOY, *DATA, *one) == {}

    deployed.power(node, "cycle")
    deployed.await_shares(node)
    wait_for("the options at boot", lambda: options(deployed, node) == now)
    deployed.exec(node, f"{VM}\nsystemctl restart systemd-sysctl")
    assert writeback(deployed, node) == ["3500", "700"]
    assert deployed.announced(DEPLOY, *DATA, *one) == {}
    deployed.exec(node, "docker info >/dev/null")

    # by hand: the run says what it was, and sets it again
    deployed.exec(node, "mount -i -o remount,relatime,commit=5 /")
    assert deployed.changed(DEPLOY, *DATA, *one) == {node: {MOUNT}}
    assert options(deployed, node) == now

    assert deployed.changed(*UNDO, *one) == {node: {"Undo | Undo Container logs"}}
    assert (options(deployed, node), writeback(deployed, node)) == before
    assert deployed.exec(node, "cat /etc/fstab") == fstab
    assert deployed.exec(node, "ls /etc/sysctl.d/99-container-logs.conf 2>&1 || true").endswith(
        "No such file or directory"
    )


def test_a_power_cut_amid_rotation_costs_lines_and_nothing_else(
    deployed: Cluster, node: str
) -> None:
    deployed.exec(node, VM)
    deployed.changed(DEPLOY, *DATA, "--limit", node)
    try:
        deployed.exec(node, CHATTY)
        empty = set(deployed.exec(node, EMPTY).split("\n"))
        rotated = f"stat -c %y {LOGS}/*/*-json.log.1"
        first = deployed.exec(node, rotated, ok=False)
        wait_for("a rotation", lambda: deployed.exec(node, rotated, ok=False) != first, 30)

        deployed.lab("power", node, "cut", "--lose")
        deployed.power(node, "on")
        deployed.await_shares(node)

        wait_for("the container", lambda: deployed.exec(node, CHATTY_RUNS, ok=False) == "true", 60)
        assert set(deployed.exec(node, EMPTY).split("\n")) <= empty
        deployed.exec(node, "dpkg --audit && docker logs --tail 1 chatty")
        assert {"noatime", "lazytime", "commit=600"} <= options(deployed, node)
    finally:
        deployed.exec(node, "docker rm -f chatty; docker image rm chatty", ok=False)
