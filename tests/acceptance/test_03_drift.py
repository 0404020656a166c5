"""Each concern broken by hand once: the preview names exactly it, the run mends it."""

from __future__ import annotations

from itertools import cycle

import pytest

from tests import seen
from tests.virtual_cluster import Cluster

INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install"

DRIFT = {
    "hosts_file": ("sed -i /etcd1/d /etc/hosts", "Name the cluster's machines"),
    "docker": ("echo '{}' > /etc/docker/daemon.json", "Run Docker"),
    "packages": (
        f"rm /etc/apt/preferences.d/chaos-engine-removed; {INSTALL} modemmanager",
        "Remove packages",
    ),
    "swap": (
        "systemctl unmask swap.target; echo '/swap.img none swap sw 0 0' >> /etc/fstab",
        "Turn swap off",
    ),
    "journald": (
        "rm /etc/systemd/journald.conf.d/90-chaos-engine.conf;systemctl restart systemd-journald",
        "Keep the journal in RAM",
    ),
    "rsyslog": (
        "echo '*.* /var/log/second' > /etc/rsyslog.d/50-second.conf; systemctl restart rsyslog",
        "Send all logs to the log server",
    ),
    # the timer alone would mend it within minutes
    "log_mount": (
        "systemctl disable --now var-log-check.timer; systemctl stop var-log.service",
        "Mount the log share",
    ),
    "cri_dockerd": ("systemctl disable --now cri-docker.service", "Run cri-dockerd"),
    "kubernetes": ("apt-mark unhold kubelet", "Install Kubernetes"),
    "etcd_certificates": (
        "chmod 644 /etc/kubernetes/client.key",
        "Install the etcd certificates",
    ),
    "kernel": (
        "sed -i 's/ cgroup_memory=1//' /boot/firmware/cmdline.txt",
        "Edit the kernel's command line",
    ),
}


@pytest.fixture(scope="module")
def broken(deployed: Cluster) -> dict[str, set[str]]:
    """Every concern broken on some node; the operations that have to mend it, by node."""
    expected: dict[str, set[str]] = {}
    for node, (command, operation) in zip(cycle(deployed.workers), DRIFT.values()):
        deployed.exec(node, command)
        expected.setdefault(node, set()).add(operation)
    return expected


def test_every_concern_has_a_drift() -> None:
    assert set(DRIFT) == set(seen.CONCERNS)


def test_verify_says_what_is_broken(deployed: Cluster, broken: dict[str, set[str]]) -> None:
    run = deployed.pyinfra("chaos_engine.deploys.verify", "--dry", ok=False)
    assert run.status
    failed = {line.split("  FAILED")[0].split()[-1] for line in run.text.splitlines()
              if "FAILED" in line}  # fmt: skip
    assert failed == set(DRIFT)


def test_preview_names_the_broken_concerns_and_no_other(
    deployed: Cluster, broken: dict[str, set[str]]
) -> None:
    assert leaves(deployed.announced("deploy.py")) == broken


def test_run_mends_the_broken_concerns(deployed: Cluster, broken: dict[str, set[str]]) -> None:
    assert leaves(deployed.changed("deploy.py")) == broken
    assert deployed.announced("deploy.py") == {}


@pytest.mark.parametrize("concern", seen.CONCERNS)
def test_mended_concern_is_seen_again(deployed: Cluster, concern: str) -> None:
    for node in deployed.workers:
        seen.CONCERNS[concern](deployed, node, deployed.host(node))


def leaves(operations: dict[str, set[str]]) -> dict[str, set[str]]:
    """Operations without the names of the deploys that they are in."""
    return {host: {name.split(" | ")[-1] for name in names} for host, names in operations.items()}
