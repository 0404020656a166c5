"""Undo: a node is again what it was, concern by concern, through kills, and exactly as announced.

On nodes that are deployed; the proxy is given the fresh image first, so that what it was is known.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests import seen
from tests.node_state import State, differences, take
from tests.virtual_cluster import CHECKOUT, LAB, Cluster, wait_for

NODE = seen.PROXY
UNDO = "chaos_engine.deploys.undo"
WHOLE = {
    *("HAProxy", "Proxy network", "Kernel", "Etcd certificates", "Kubernetes", "cri-dockerd"),
    *("Log share", "Logs", "Journal", "Swap", "Packages", "Docker", "Hosts file"),
}
LAST = "Undo | Remove what was kept"
MANIFEST = "cut -f 1 /var/lib/chaos-engine/manifest 2>/dev/null | sort -u"

BUT = (
    # Groups and users of packages stay with Debian; the files with a hyphen are their backups
    r"contents /etc/(group|gshadow|passwd|shadow|subgid|subuid)-?:",
    # Docker's and containerd's data stay, and so do their folders
    r"(files|contents) /var/lib/(docker|containerd|cri-dockerd)(/|:)",
    # What other programs keep of their own: the linker, snapd, sudo (a mark of its first use)
    r"contents /etc/ld\.so\.cache:",
    r"(files|contents) /var/lib/snapd/",
    r"(files|contents) /home/ubuntu/\.sudo_as_admin_successful:",
    # Debian's modemmanager makes this when it is removed, and leaves it when it comes back
    r"files /etc/systemd/system/ModemManager:",
    # docker.io removes this empty folder of AppArmor's when it is purged
    r"files /etc/apparmor\.d/disable:",
    # The very first boot's work, which is not done again
    r"active (ldconfig|systemd-(journal-catalog-update|sysusers|update-done))\.service: ",
)
"""What is not as it was on a fresh node, each with its reason."""


@pytest.fixture(scope="module")
def fresh(deployed: Cluster) -> Iterator[State]:
    """What the proxy's node is before it is deployed; it is deployed then, and again at the end."""
    deployed.lab("reset", NODE)
    deployed.exec(NODE, "systemctl is-system-running --wait || true")
    state = take(deployed, NODE)
    deployed.pyinfra("deploy.py", "-y", "--limit", NODE)
    yield state
    deployed.pyinfra("deploy.py", "-y")
    assert deployed.announced("deploy.py") == {}


def undone(*titles: str) -> set[str]:
    """The names of the operations that undo these concerns."""
    return {f"Undo | Undo {title}" for title in titles}


def concerns(cluster: Cluster, node: str) -> set[str]:
    """Those that a node has noted."""
    return set(cluster.exec(node, MANIFEST).split())


def another(cluster: Cluster) -> str:
    """A node that is not the proxy."""
    return next(node for node in cluster.workers if node != NODE)


def test_some_concerns_alone_are_undone_and_deployed_again(deployed: Cluster) -> None:
    node = another(deployed)
    one = ("--limit", node)
    asked = ("--data", "chaos_undo=journald,rsyslog,kernel", *one)
    others = concerns(deployed, node) - {"journald", "rsyslog", "kernel"}
    expected = {node: undone("Journal", "Logs", "Kernel")}
    assert deployed.announced(UNDO, *asked) == expected
    assert deployed.changed(UNDO, *asked) == expected
    assert deployed.announced(UNDO, *asked) == {}
    assert concerns(deployed, node) == others

    host = deployed.host(node)
    assert host.file("/etc/rsyslog.d/50-default.conf").exists
    assert not host.file("/etc/rsyslog.d/10-all.conf").exists
    assert host.service("rsyslog").is_running
    assert "/var/log/journal/" in host.check_output("journalctl --header | grep '^File path'")
    assert "cgroup_memory" not in host.check_output("cat /boot/firmware/cmdline.txt")
    for concern in ("packages", "swap", "docker", "cri_dockerd", "kubernetes"):
        seen.CONCERNS[concern](deployed, node, host)

    again = {name.split(" | ")[1] for name in deployed.announced("deploy.py", *one)[node]}
    assert again == {"Journal", "Logs", "Kernel"}
    deployed.pyinfra("deploy.py", "-y", *one)
    assert deployed.announced("deploy.py", *one) == {}


def test_a_node_of_a_cluster_is_refused(deployed: Cluster) -> None:
    node = another(deployed)
    joined = "/etc/kubernetes/kubelet.conf"
    deployed.exec(node, f"touch {joined}")
    try:
        (said,) = deployed.announced(UNDO, "--limit", node)[node]
        assert said.startswith("Undo | Refuse node: it has joined a cluster, which needs docker, ")
        assert "run kubeadm reset on it, and run again" in said
        asked = ("--data", "chaos_undo=journald", "--limit", node)
        assert deployed.announced(UNDO, *asked) == {node: undone("Journal")}
    finally:
        deployed.exec(node, f"rm {joined}")


def test_the_preview_lists_every_concern(deployed: Cluster, fresh: State) -> None:
    assert deployed.announced(UNDO, "--limit", NODE) == {NODE: {*undone(*WHOLE), LAST}}


def test_an_undo_that_is_cut_short_goes_on(deployed: Cluster, fresh: State) -> None:
    """Its run is killed, and the node's power cut, while packages go."""
    deployed.exec(NODE, "echo mine >>/etc/hosts; echo '# mine' >>/etc/crictl.yaml")
    command = [LAB, "--name", deployed.name, "run", "--", "pyinfra", "inventory.py"]
    running = subprocess.Popen(
        [*command, UNDO, "-y", "--limit", NODE],
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        removing = "pgrep -x dpkg >/dev/null && echo now || true"
        wait_for("packages that go", lambda: deployed.exec(NODE, removing), 120)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    deployed.power(NODE, "cycle")
    left = concerns(deployed, NODE)
    assert "kubernetes" in left
    assert "haproxy" not in left

    announced = deployed.announced(UNDO, "--limit", NODE)
    assert LAST in announced[NODE]
    assert announced[NODE] < {*undone(*WHOLE), LAST}
    assert deployed.changed(UNDO, "--limit", NODE) == announced
    assert concerns(deployed, NODE) == set()


def test_a_second_undo_changes_nothing(deployed: Cluster, fresh: State) -> None:
    assert deployed.announced(UNDO, "--limit", NODE) == {}
    assert deployed.changed(UNDO, "--limit", NODE) == {}


def test_the_node_is_what_it_was(deployed: Cluster, fresh: State) -> None:
    aside = "/var/lib/chaos-engine/aside/etc/crictl.yaml"
    assert "# mine" in deployed.exec(NODE, f"cat {aside}")
    assert deployed.exec(NODE, "tail -n 1 /etc/hosts") == "mine"
    deployed.exec(NODE, "rm -r /var/lib/chaos-engine; sed -i '$d' /etc/hosts")
    deployed.power(NODE, "cycle")
    deployed.exec(NODE, "systemctl is-system-running --wait || true")
    assert differences(fresh, take(deployed, NODE), but=BUT) == []
    assert not deployed.host(NODE).interface("lb-hairpin").exists
