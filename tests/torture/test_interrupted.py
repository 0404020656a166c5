"""Interrupt a first deploy again and again, and run it again each time.

Each chain takes one fresh node through its first deploy. The first run is interrupted at the first
point, the second at the next, and so on. The last run goes to its end. So the run after each point
has to fix what that interruption has left.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.cluster.interrupted_deploy import KNOWN, chain, make_fresh
from tests.cluster.interruption import Killed, Point, PowerCut, PowerCutInReboot, Stopped
from tests.cluster.node_state import State, differences, take
from tests.cluster.operations import (
    CERTIFICATES,
    CLOCK,
    COPY,
    CRI_DOCKERD,
    DOCKER,
    GLUSTER,
    HAIRPIN,
    HAPROXY,
    HOSTS,
    IMAGE,
    JOURNAL,
    KERNEL,
    KUBEADM,
    KUBERNETES,
    LOGS,
    MODULES,
    NETWORK,
    PACKAGES,
    PROXY,
    QUIET,
    REBOOT,
    SHARE,
    SWAP,
    WORKER,
)
from tests.cluster.virtual_cluster import Cluster

CHAINS: dict[str, tuple[str, list[Point], list[Point]]] = {
    "killed, odd operations begun": (
        "pi1",
        [
            Killed(HOSTS, "sent"),
            Killed(JOURNAL, "sent"),
            Killed(LOGS, "after"),
            Killed(GLUSTER, "sent"),
            Killed(SHARE, "after"),
            Killed(DOCKER, "after"),
            Killed(PACKAGES, "sent"),
            Killed(SWAP, "after"),
            Killed(CLOCK, "sent"),
            Killed(CRI_DOCKERD, "half"),
            Killed(MODULES, "after"),
            Killed(QUIET, "sent"),
            Killed(KUBERNETES, "after"),
            Killed(KUBEADM, "sent"),
            Killed(CERTIFICATES, "after"),
            Killed(KERNEL, "sent"),
        ],
        [],
    ),
    "killed, even operations begun": (
        "pi1",
        [
            Killed(HOSTS, "after"),
            Killed(JOURNAL, "half"),
            Killed(LOGS, "sent"),
            Killed(GLUSTER, "after"),
            Killed(SHARE, "half"),
            Killed(DOCKER, "sent"),
            Killed(PACKAGES, "after"),
            Killed(SWAP, "sent"),
            Killed(CLOCK, "after"),
            Killed(CRI_DOCKERD, "after"),
            Killed(MODULES, "half"),
            Killed(QUIET, "after"),
            Killed(KUBERNETES, "sent"),
            Killed(KUBEADM, "after"),
            Killed(CERTIFICATES, "half"),
            Killed(KERNEL, "after"),
        ],
        [Killed(REBOOT, "sent")],
    ),
    "killed, proxy": (
        "pi5",
        [
            Killed(DOCKER, "half"),
            Killed(NETWORK, "sent"),
            Killed(HAIRPIN, "sent"),
            Killed(IMAGE, "sent"),
            Killed(HAPROXY, "half"),
            Killed(HAPROXY, "sent"),
            Killed(COPY, "half"),
        ],
        [Killed(REBOOT, "after")],
    ),
    "command killed too": (
        "pi1",
        [
            Stopped("mv", " /etc/hosts$", "KILL"),
            Stopped("base64", "-d", "KILL"),
            Stopped("systemctl", "restart -- systemd-journald", "KILL"),
            Stopped("rm", "/etc/rsyslog.d/", "KILL"),
            Stopped("systemctl", "restart -- rsyslog", "KILL"),
            Stopped("dpkg-deb", "fsys-tarfile .*glusterfs-common", "KILL"),
            Stopped("mv", " /etc/systemd/system/var-log.service$", "KILL"),
            Stopped("mv", " /etc/docker/daemon.json$", "KILL"),
            Stopped("sync", "/etc/docker /etc/systemd", "KILL"),
            Stopped("dpkg-deb", "fsys-tarfile .*containerd_", "KILL"),
            Stopped("deb-systemd-invoke", "containerd", "KILL"),
            Stopped("deb-systemd-invoke", "docker", "HUP"),
            Stopped("systemctl", "^(re)?start -- docker.service", "KILL"),
            Stopped("deb-systemd-invoke", "stop ModemManager", "KILL"),
            Stopped("apt-get", " remove -- ", "HUP"),
            Stopped("ln", "swap.target", "KILL"),
            Stopped("systemctl", "enable -- chaos-engine-clock", "KILL"),
            Stopped("mv", " /etc/systemd/system/cri-docker.service$", "KILL"),
            Stopped("systemctl", "start -- cri-docker.service", "HUP"),
            Stopped("mv", "kubernetes-apt-keyring.gpg$", "KILL"),
            Stopped("apt-mark", "hold .*kubelet", "KILL"),
            Stopped("mv", " /etc/kubernetes/client.key$", "KILL"),
            Stopped("mv", " /boot/firmware/cmdline.txt$", "KILL"),
        ],
        [Stopped("systemd-run", "systemctl reboot", "KILL")],
    ),
    "command goes on": (
        "pi1",
        [
            Stopped("cp", "originals/etc/hosts", "goes on"),
            Stopped("tar", "-xzmf", "HUP"),
            Stopped("dpkg-deb", "fsys-tarfile .*glusterfs-client", "goes on"),
            Stopped("systemctl", "start -- var-log.service", "stays"),
            Stopped("mv", " /etc/docker/daemon.json$", "stays"),
            Stopped("apt-get", " install .*docker.io", "stays"),
            Stopped("mv", " /usr/local/bin/cri-dockerd$", "stays"),
            Stopped("systemctl", "daemon-reload", "HUP"),
            Stopped("apt-get", " install .*kubelet", "stays"),
            Stopped("mv", " /boot/firmware/cmdline.txt$", "stays"),
        ],
        [Stopped("systemctl", "^reboot", "goes on")],
    ),
    "proxy's command killed too": (
        "pi5",
        [
            Killed(NETWORK, "before"),
            Stopped("docker", "network create", "KILL"),
            Stopped("docker", "^pull", "HUP"),
            Stopped("mv", " /usr/sbin/haproxy_start.sh$", "KILL"),
            Stopped("mv", " /etc/systemd/system/docker_haproxy.service$", "HUP"),
            Stopped("systemctl", "start -- docker_haproxy.service", "stays"),
        ],
        [],
    ),
    "power cut": (
        "pi1",
        [
            PowerCut("mv", " /etc/hosts$"),
            PowerCut("mv", " /etc/systemd/journald.conf.d/"),
            PowerCut("rm", "/etc/rsyslog.d/50-default.conf"),
            PowerCut("systemctl", "restart -- rsyslog"),
            PowerCut("mv", " /etc/systemd/system/var-log-check.timer$"),
            PowerCut("systemctl", "enable -- var-log.service"),
            PowerCut("mv", " /etc/docker/daemon.json$"),
            PowerCut("mv", "docker.service.d/50-chaos-engine.conf$"),
            PowerCut("dpkg-deb", "fsys-tarfile .*docker.io_"),
            PowerCut("deb-systemd-invoke", "start .*docker"),
            PowerCut("apt-mark", "hold docker.io"),
            PowerCut("deb-systemd-invoke", "stop snapd"),
            PowerCut("ln", "swap.target"),
            PowerCut("mv", " /etc/systemd/system/chaos-engine-clock.service$"),
        ],
        [PowerCutInReboot("up")],
    ),
    "power cut, second half": (
        "pi1",
        [
            PowerCut("tar", "-xzmf"),
            PowerCut("dpkg-deb", "fsys-tarfile .*glusterfs-client"),
            PowerCut("mv", " /usr/local/bin/cri-dockerd$"),
            PowerCut("systemctl", "daemon-reload"),
            PowerCut("mv", "kubernetes-apt-keyring.gpg$"),
            PowerCut("dpkg-deb", "fsys-tarfile .*kubelet_"),
            PowerCut("mv", " /etc/kubernetes/client.crt$"),
            PowerCut("mv", " /boot/firmware/cmdline.txt.chaos-engine.bak$"),
            PowerCut("mv", " /boot/firmware/cmdline.txt$"),
            PowerCut("sync", "^-- /boot/firmware"),
        ],
        [PowerCutInReboot("down")],
    ),
}


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> Callable[[str], State]:
    """Return a function that returns the state of a node after an undisturbed first deploy."""

    @cache
    def state(node: str) -> State:
        make_fresh(cluster, node)
        cluster.changed("deploy.py", "--limit", node)
        return take(cluster, node)

    return state


@pytest.mark.parametrize("name", CHAINS)
def test_interrupted_deploy_ends_as_an_undisturbed_one(
    cluster: Cluster, undisturbed: Callable[[str], State], name: str
) -> None:
    node, points, in_reboot = CHAINS[name]
    wanted = undisturbed(node)
    chain(cluster, node, points, in_reboot)
    assert differences(wanted, take(cluster, node), KNOWN) == []


def test_every_operation_is_interrupted_and_points_are_enough() -> None:
    chains = CHAINS.values()
    points = [point for _, points, in_reboot in chains for point in (*points, *in_reboot)]
    cuts = [point for point in points if isinstance(point, PowerCut | PowerCutInReboot)]
    killed = {point.operation for point in points if isinstance(point, Killed)}
    assert killed == {*WORKER, *PROXY}
    # Each chain is also killed once before its reboot
    assert len(points) - len(cuts) + len(chains) >= 40
    assert len(cuts) >= 20
