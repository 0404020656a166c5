"""Check that a local user without root can hold, read or plant nothing on a deployed node."""

from __future__ import annotations

import shlex
import time

import pytest

from tests.cluster.operations import HOSTS, JOURNAL
from tests.cluster.virtual_cluster import Cluster

NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups"
RUN, STATE = "/run/chaos-engine", "/var/lib/chaos-engine"

ATTEMPTS = {
    "share the lock": f"flock -sn {RUN}/lock true",
    "hold the lock": f"flock -n {RUN}/lock true",
    "hold the lock's folder": f"flock -n {RUN} true",
    "hold the log share's lock": f"flock -n {RUN}/var-log.lock true",
    "list what is in RAM": f"ls {RUN}",
    "put a file there": f"touch {RUN}/docker.service",
    "replace that folder": f"mv {RUN} /tmp/taken",
    "read what a service was started with": f"cat {RUN}/docker.service",
    "list what the node remembers": f"ls {STATE}",
    "read the manifest": f"cat {STATE}/manifest",
    "put a file there, to be removed by root": f"echo /etc/passwd >{STATE}/staged",
    "read an original": f"cat {STATE}/originals/etc/fstab",
    "read etcd's key": "cat /etc/kubernetes/client.key",
    "read the proxy's own configuration": f"cat {STATE}/haproxy/haproxy.cfg",
    "list the proxy's sockets": f"ls {RUN}/haproxy/socket",
    "hold dpkg's lock": "flock -n /var/lib/dpkg/lock-frontend true",
    "put a file on the log share": "touch /var/log/planted",
    "put a link in the proxy's folder there": "ln -s /etc/shadow /var/log/haproxy/planted",
    "be there before a staged file is": "touch /etc/docker/.daemon.json.chaos",
    "change a script that root runs": "echo >>/usr/local/sbin/var-log-mount",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_a_local_user_tries_is_refused(deployed: Cluster, attempt: str) -> None:
    command = f"timeout 5 {NOBODY} sh -c {shlex.quote(ATTEMPTS[attempt])} 2>&1; echo $?"
    said, _, status = deployed.exec("pi5", command).rpartition("\n")
    # refused at once, and because it may not
    assert status not in ("0", "124"), said
    assert "ermission denied" in said or "No such file" in said, said


def test_a_deploy_neither_waits_for_nor_follows_what_was_planted(deployed: Cluster) -> None:
    """Plant it in every folder that all may write, under each name that a deploy uses."""
    marker = "/root/planted-marker"
    state = f"cat {marker}; stat -c '%y %z %a %u' {marker}"
    before = deployed.exec("pi1", f"echo untouched >{marker}; {state}")
    plant = (
        "for folder in /tmp /var/tmp /dev/shm /run/lock; do cd $folder || continue; "
        "for name in chaos-engine chaos-engine-key.AAAAAA stage.AAAAAA lock staged manifest "
        "haproxy.cfg check.log var-log; do mkfifo $name.pipe; ln -sf /root/planted-marker $name; "
        "done; done"
    )
    names = deployed.exec("pi1", f"{NOBODY} sh -c {shlex.quote(plant)} 2>/dev/null; echo done")
    assert names == "done"
    try:
        deployed.exec("pi1", "sed -i /etcd1/d /etc/hosts")
        deployed.exec("pi1", "rm /etc/systemd/journald.conf.d/90-chaos-engine.conf")
        began = time.monotonic()
        changed = deployed.changed("deploy.py", "--limit", "pi1")
        took = time.monotonic() - began
    finally:
        owned = "find /tmp /var/tmp /dev/shm /run/lock -xdev -user 65534 -delete"
        after = deployed.exec("pi1", f"{owned}; {state}; rm -f {marker}")
    assert after == before
    assert {name.rpartition(" | ")[2] for name in changed["pi1"]} == {HOSTS, JOURNAL}
    assert took < 60


def test_nothing_that_a_deploy_leaves_can_be_written_by_others(deployed: Cluster) -> None:
    for node in deployed.workers:
        noted = f"awk -F '\\t' '$2 == \"file\" || $2 == \"folder\" {{ print $4 }}' {STATE}/manifest"
        found = deployed.exec(
            node,
            f"{{ {noted}; echo {STATE}; }} | sort -u | while read -r path; do "
            f'[ ! -e "$path" ] || find "$path" -xdev ! -type l -perm /022 -print; done',
        )
        assert found == "", node


def test_what_root_keeps_for_itself_is_out_of_reach(deployed: Cluster) -> None:
    for node in deployed.workers:
        modes = deployed.exec(node, f"stat -c '%a %U %n' {RUN} {RUN}/lock {STATE} {STATE}/manifest")
        assert modes.splitlines() == [
            f"700 root {RUN}", f"600 root {RUN}/lock",
            f"700 root {STATE}", f"600 root {STATE}/manifest",
        ]  # fmt: skip
