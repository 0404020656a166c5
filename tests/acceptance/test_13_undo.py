"""Undo nodes concern by concern, exactly as announced, through kills, until they are as before.

The nodes are deployed. The proxy is reset first, so that its state before the deploy is known.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.acceptance.suites import SUITE, USERLAND
from tests.cluster import seen
from tests.cluster.node_state import AFTER_UNDO, State, differences, take
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster, wait_for

NODE = seen.PROXY
UNDO = "chaos_engine.deploys.undo"
WHOLE = {
    *("HAProxy", "Proxy network", "Kernel", "Etcd certificates", "Kubernetes", "cri-dockerd"),
    *("Log share", "Logs", "Journal", "Swap", "Clock", "Packages", "Docker", "Hosts file"),
}
LAST = "Undo | Remove what was kept"
CUT = "/var/tmp/cut"
PRERM = "/var/lib/dpkg/info/kubelet.prerm"
"""By a line in it the first removal of kubelet makes the file CUT, and stands still."""

MANIFEST = "cut -f 1 /var/lib/chaos-engine/manifest 2>/dev/null | sort -u"

AS_PEOPLE_HAVE_THEM = r"""
import os, struct

def own(path, mode):
    # tag, permissions and id of each entry of an ACL (linux/posix_acl_xattr.h)
    entries = [(1, 6, -1), (2, 6, 1234), (4, 4, -1), (16, 6, -1), (32, 4, -1)]
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.chown(path, 1000, 4)
    os.chmod(path, mode)
    os.setxattr(path, "user.origin", b"a tool of the owner's")
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)

def put(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    own(path, 0o664)

for path in ("/etc/hosts", "/etc/fstab", "/boot/firmware/cmdline.txt"):
    own(path, 0o664)
own("/etc/rsyslog.d/50-default.conf", 0o640)
put("/etc/dotfiles/docker/daemon.json", '{"debug": false}')
put("/etc/dotfiles/crictl.yaml", "timeout: 3\n")
os.symlink("dotfiles/docker", "/etc/docker")
os.symlink("/etc/dotfiles/crictl.yaml", "/etc/crictl.yaml")
os.symlink("../dotfiles/nothing", "/etc/sysctl.d/99-kubernetes.conf")
os.symlink("/dev/null", "/etc/modules-load.d/kubernetes.conf")
"""
"""A script that gives files that will be merged, replaced or removed owner, mode, ACL and extended
attribute, and has links in place of others, also of a folder: relative, absolute, to nowhere, to
another file system."""

# GNU's sudo leaves that file; with ubuntu26 it is sudo-rs
BUT = [
    reason
    for reason in AFTER_UNDO[SUITE.name]
    if USERLAND != "ubuntu26" or "sudo_as_admin" not in reason
]


@pytest.fixture(scope="module")
def fresh(deployed: Cluster) -> State:
    """Return the state of the proxy's node before its deploy, and deploy it."""
    deployed.lab("reset", NODE)
    # Any real node has it; Debian lets nobody remove it, and Docker would bring it
    deployed.exec(NODE, "apt-get update && apt-get install -y --no-install-recommends e2fsprogs")
    deployed.exec(NODE, f"python3 - <<'END'\n{AS_PEOPLE_HAVE_THEM}\nEND")
    state = settled(deployed)
    assert len(state["attributes"]) >= 12
    deployed.pyinfra("deploy.py", "-y", "--limit", NODE)
    return state


@pytest.fixture(scope="module")
def again(deployed: Cluster) -> Iterator[Cluster]:
    """Deploy the cluster after the undo. In the end reset the node with the edited files."""
    deployed.pyinfra("deploy.py", "-y")
    yield deployed
    deployed.lab("reset", NODE)
    deployed.pyinfra("deploy.py", "-y", "--limit", NODE)


def settled(cluster: Cluster) -> State:
    """Return the state of the proxy's node after its boot, when snapd has ended too."""
    cluster.exec(NODE, "systemctl is-system-running --wait || true")
    snapd = "systemctl is-active snapd.service || true"
    wait_for("snapd to end", lambda: cluster.exec(NODE, snapd) == "inactive", 60)
    return take(cluster, NODE)


def undone(*titles: str) -> set[str]:
    """Return the names of the operations that undo these concerns."""
    return {f"Undo | Undo {title}" for title in titles}


def concerns(cluster: Cluster, node: str) -> set[str]:
    """Return the concerns that a node has noted."""
    return set(cluster.exec(node, MANIFEST).split())


def another(cluster: Cluster) -> str:
    """Return a node that is not the proxy."""
    return next(node for node in cluster.workers if node != NODE)


def test_a_node_of_a_cluster_is_refused(deployed: Cluster) -> None:
    node = another(deployed)
    joined = "/etc/kubernetes/kubelet.conf"
    deployed.exec(node, f"touch {joined}")
    try:
        assert deployed.announced(UNDO, "--limit", node) == {node: {"Undo | Refuse node"}}
        (said,) = deployed.announced_why[node]["Undo | Refuse node"]
        assert said.startswith("the node has joined a cluster and needs hosts")
        assert said.count("joined") == 1
        assert "run kubeadm reset --cri-socket unix:///run/cri-dockerd.sock on it" in said
        asked = ("--data", "chaos_undo=journald", "--limit", node)
        assert deployed.announced(UNDO, *asked) == {node: undone("Journal")}
    finally:
        deployed.exec(node, f"rm {joined}")


def test_some_concerns_alone_are_undone_and_would_be_deployed_again(deployed: Cluster) -> None:
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
    assert not host.file("/etc/systemd/journald.conf.d/90-chaos-engine.conf").exists
    assert host.service("systemd-journald").is_running
    assert "cgroup_memory" not in host.check_output("cat /boot/firmware/cmdline.txt")
    for concern in ("packages", "swap", "docker", "cri_dockerd", "kubernetes"):
        seen.CONCERNS[concern](deployed, node, host)

    again = {name.split(" | ")[1] for name in deployed.announced("deploy.py", *one)[node]}
    assert again == {"Journal", "Logs", "Kernel"}


def test_a_merged_file_keeps_what_it_has_beside_its_content(
    deployed: Cluster, fresh: State
) -> None:
    state = take(deployed, NODE)
    for path in ("/etc/hosts", "/etc/fstab", "/boot/firmware/cmdline.txt"):
        assert state["files"][path] == fresh["files"][path]
        assert state["contents"][path] != fresh["contents"][path]
    assert state["files"]["/etc/docker"] == "link to dotfiles/docker"
    lost = {*fresh["attributes"].items()} - {*state["attributes"].items()}
    assert {name.split()[0] for name, _ in lost} == {"/etc/rsyslog.d/50-default.conf"}


def test_the_preview_lists_every_concern(deployed: Cluster, fresh: State) -> None:
    assert deployed.announced(UNDO, "--limit", NODE) == {NODE: {*undone(*WHOLE), LAST}}


def test_an_undo_that_is_cut_short_goes_on(deployed: Cluster, fresh: State) -> None:
    """Kill the run, and cut the node's power, while packages are removed."""
    deployed.exec(NODE, "echo mine >>/etc/hosts; echo '# mine' >>/etc/crictl.yaml")
    deployed.exec(NODE, f"sed -i '1a [ -e {CUT} ] || {{ touch {CUT}; sleep 600; }}' {PRERM}")
    command = [str(LAB), "--name", deployed.name, "run", "--", "pyinfra", "inventory.py"]
    running = subprocess.Popen(
        [*command, UNDO, "-y", "--limit", NODE],
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        removing = f"[ ! -e {CUT} ] || echo now"
        wait_for("packages that go", lambda: deployed.exec(NODE, removing), 120)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    deployed.power(NODE, "cycle")
    left = concerns(deployed, NODE)
    assert "kubernetes" in left
    assert "haproxy" not in left

    # one of the packages is in no archive
    manifest = "/var/lib/chaos-engine/manifest"
    deployed.exec(NODE, f"printf 'packages\\tremoved\\t1 manual -\\tlost\\t.\\n' >>{manifest}")
    announced = deployed.announced(UNDO, "--limit", NODE)[NODE]
    assert LAST in announced
    assert announced < {*undone(*WHOLE), LAST}
    run = deployed.pyinfra("-y", UNDO, "--limit", NODE, ok=False)
    assert run.status != 0
    assert (
        "no archive offers these packages, which a deploy had removed: lost 1. Everything else"
        in run.text
    )
    assert concerns(deployed, NODE) <= {"packages", "-"}

    deployed.exec(NODE, f"sed -i '/^packages/d' {manifest}")
    assert deployed.changed(UNDO, "--limit", NODE) == {NODE: {LAST}}
    assert concerns(deployed, NODE) == set()


def test_a_second_undo_changes_nothing(deployed: Cluster, fresh: State) -> None:
    assert deployed.announced(UNDO, "--limit", NODE) == {}
    assert deployed.changed(UNDO, "--limit", NODE) == {}


def test_the_node_is_what_it_was(deployed: Cluster, fresh: State) -> None:
    aside = "/var/lib/chaos-engine/aside/etc/crictl.yaml"
    assert "# mine" in deployed.exec(NODE, f"cat {aside}")
    assert deployed.exec(NODE, "tail -n 1 /etc/hosts") == "mine"
    assert deployed.exec(NODE, "ls -A /var/lib/chaos-engine") == "aside"
    deployed.exec(NODE, f"rm -r /var/lib/chaos-engine {CUT}")
    # the very same file, which sed -i would replace
    deployed.exec(NODE, "head -n -1 /etc/hosts >/run/hosts; cat /run/hosts >/etc/hosts")
    deployed.power(NODE, "cycle")
    left = differences(fresh, settled(deployed))
    assert [line for line in left if not any(re.match(reason, line) for reason in BUT)] == []
    assert [reason for reason in BUT if not any(re.match(reason, line) for line in left)] == []
    assert not deployed.host(NODE).interface("lb-hairpin").exists


@pytest.mark.parametrize("concern", seen.CONCERNS)
def test_a_deploy_after_it_does_all_again(again: Cluster, concern: str) -> None:
    for node in again.workers:
        seen.CONCERNS[concern](again, node, again.host(node))


def test_then_nothing_is_left_to_do(again: Cluster) -> None:
    assert again.announced("deploy.py") == {}
