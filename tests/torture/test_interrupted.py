"""A first deploy that is cut short again and again, and is mended by running it again.

Each chain takes one fresh node through its first deploy: the first run is cut short at the first
point, the second at the next, and so on; the last run goes to its end. So the run after each point
has to mend what that point has left.
"""

from __future__ import annotations

import pytest

from tests import node_state
from tests.interrupted_deploy import KNOWN, chain
from tests.interruption import REBOOT, Killed, Point, PowerCut, PowerCutInReboot, Stopped
from tests.virtual_cluster import Cluster

HOSTS = "Name the cluster's machines"
DOCKER = "Run Docker"
PACKAGES = "Remove packages"
SWAP = "Turn swap off"
JOURNAL = "Keep the journal in RAM"
LOGS = "Send all logs to the log server"
GLUSTER = "Install the Gluster client"
SHARE = "Mount the log share"
SHIM = "Run cri-dockerd"
MODULES = "Prepare the kernel for Kubernetes"
QUIET = "Keep kubelet quiet until the node joins"
KUBERNETES = "Install Kubernetes"
KUBEADM = "Configure kubeadm and crictl"
CERTIFICATES = "Install the etcd certificates"
KERNEL = "Edit the kernel's command line"
NETWORK = "Create the proxy's network"
HAIRPIN = "Reach the proxy from its own node"
IMAGE = "Pull HAProxy's image"
HAPROXY = "Run HAProxy"

CHAINS: dict[str, tuple[str, list[Point]]] = {
    "killed, odd operations begun": (
        "pi1",
        [
            Killed(HOSTS, "sent"),
            Killed(DOCKER, "after"),
            Killed(PACKAGES, "sent"),
            Killed(SWAP, "after"),
            Killed(JOURNAL, "sent"),
            Killed(LOGS, "after"),
            Killed(GLUSTER, "sent"),
            Killed(SHARE, "after"),
            Killed(SHIM, "half"),
            Killed(MODULES, "after"),
            Killed(QUIET, "sent"),
            Killed(KUBERNETES, "after"),
            Killed(KUBEADM, "sent"),
            Killed(CERTIFICATES, "after"),
            Killed(KERNEL, "sent"),
            Killed(REBOOT, "before"),
        ],
    ),
    "killed, even operations begun": (
        "pi7",
        [
            Killed(HOSTS, "after"),
            Killed(DOCKER, "sent"),
            Killed(PACKAGES, "after"),
            Killed(SWAP, "sent"),
            Killed(JOURNAL, "half"),
            Killed(LOGS, "sent"),
            Killed(GLUSTER, "after"),
            Killed(SHARE, "half"),
            Killed(SHIM, "after"),
            Killed(MODULES, "half"),
            Killed(QUIET, "after"),
            Killed(KUBERNETES, "sent"),
            Killed(KUBEADM, "after"),
            Killed(CERTIFICATES, "half"),
            Killed(KERNEL, "after"),
            Killed(REBOOT, "sent"),
        ],
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
            Killed(REBOOT, "after"),
        ],
    ),
    "stopped and killed": (
        "pi1",
        [
            Stopped("mv", " /etc/hosts$", "KILL"),
            Stopped("base64", "-d", "KILL"),
            Stopped("mv", " /etc/docker/daemon.json$", "KILL"),
            Stopped("sync", "/etc/docker /etc/systemd", "KILL"),
            Stopped("dpkg-deb", "fsys-tarfile .*containerd_", "KILL"),
            Stopped("deb-systemd-invoke", "containerd", "KILL"),
            Stopped("deb-systemd-invoke", "docker", "HUP"),
            Stopped("systemctl", "^(re)?start -- docker.service", "KILL"),
            Stopped("deb-systemd-invoke", "stop .*unattended-upgrades", "KILL"),
            Stopped("apt-get", "remove -- ", "HUP"),
            Stopped("ln", "swap.target", "KILL"),
            Stopped("systemctl", "restart -- systemd-journald", "KILL"),
            Stopped("rm", "/etc/rsyslog.d/", "KILL"),
            Stopped("systemctl", "restart -- rsyslog", "KILL"),
            Stopped("dpkg-deb", "fsys-tarfile .*glusterfs-common", "KILL"),
            Stopped("mv", " /etc/systemd/system/var-log.service$", "KILL"),
            Stopped("mv", " /etc/systemd/system/cri-docker.service$", "KILL"),
            Stopped("systemctl", "start -- cri-docker.service", "HUP"),
            Stopped("mv", "kubernetes-apt-keyring.gpg$", "KILL"),
            Stopped("apt-mark", "hold .*kubelet", "KILL"),
            Stopped("mv", " /etc/kubernetes/client.key$", "KILL"),
            Stopped("mv", " /boot/firmware/cmdline.txt$", "KILL"),
            Stopped("systemd-run", "systemctl reboot", "KILL"),
        ],
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_interrupted_deploy_ends_as_an_undisturbed_one(
    cluster: Cluster, undisturbed: dict[str, node_state.State], name: str
) -> None:
    node, points = CHAINS[name]
    chain(cluster, node, points)
    state = node_state.take(cluster, node)
    assert node_state.differences(undisturbed[node], state, KNOWN) == []


def test_there_are_points_enough() -> None:
    points = [point for _, chain in CHAINS.values() for point in chain]
    cuts = [point for point in points if isinstance(point, PowerCut | PowerCutInReboot)]
    assert len(points) - len(cuts) >= 40
    assert len(cuts) >= 20
