"""Spare the card of Docker's data: mount options and late writeback, on a node with a card."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.virtual_cluster import Cluster, wait_for

DEPLOY = "chaos_engine.deploys.container_logs"
UNDO = ("chaos_engine.deploys.undo", "--data", "chaos_undo=container_logs")
MOUNT = "Container logs | Mount the disk of Docker's data with options that reduce writes"
LATER = "Container logs | Write data later"
SETTINGS = {
    "container_logs_noatime": "true",
    "container_logs_lazytime": "true",
    "container_logs_commit": "600",
    # hardly later than the kernel's own 35 s
    "container_logs_writeback": "42",
}
DATA = tuple(word for key, value in SETTINGS.items() for word in ("--data", f"chaos_{key}={value}"))

# As on a Raspberry Pi's card; the image's fstab has no entry for the root. There is no `discard`:
# after a power cut of the lab ext4 discards blocks although it was not committed that they are free
ENTRY = "/dev/mmcblk0p2\t/\text4\terrors=remount-ro\t0 1"
ADD = f"""
set -eu
cp -a /etc/fstab /root/fstab
printf '%s\\n' '{ENTRY}' >>/etc/fstab
systemctl daemon-reload
mount -o remount /
"""

REMOVE = """
set -eu
mv /root/fstab /etc/fstab
systemctl daemon-reload
mount -i -o remount,errors=continue /
for name in dirty_expire_centisecs dirty_writeback_centisecs; do
  ! mountpoint -q /proc/sys/vm/$name || umount /proc/sys/vm/$name
done
"""

# The nodes share the kernel of this computer, whose parameters outside of net they cannot set. So
# the node gets files of its own in their place, which end with its boot
VM = """
for name in dirty_expire_centisecs dirty_writeback_centisecs; do
  mountpoint -q /proc/sys/vm/$name && continue
  cat /proc/sys/vm/$name >/run/$name
  mount --bind /run/$name /proc/sys/vm/$name
done
"""


LOGS = "/var/lib/docker/containers"
# An image of the node's own shell: there is no registry to pull from. The container writes until it
# is removed. That it was started is on the card only with the next synchronisation
CHATTY = """
set -eu
docker image inspect seen >/dev/null 2>&1 ||
  tar -chf - /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') | docker import - seen >/dev/null
docker run -d --name chatty --restart always seen /bin/sh -c '
  while :; do echo "a line of a container that writes much"; done' >/dev/null
sync -f /
"""
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

        running = "docker inspect --format '{{.State.Running}}' chatty"
        wait_for("the container", lambda: deployed.exec(node, running, ok=False) == "true", 60)
        assert set(deployed.exec(node, EMPTY).split("\n")) <= empty
        deployed.exec(node, "dpkg --audit && docker logs --tail 1 chatty")
        assert {"noatime", "lazytime", "commit=600"} <= options(deployed, node)
    finally:
        deployed.exec(node, "docker rm -f chatty", ok=False)
