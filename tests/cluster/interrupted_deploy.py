"""One first deploy with many interruptions, and what has to be true on the way and at its end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from tests.cluster.interruption import Killed, Point, Victim
from tests.cluster.node_state import LEFT
from tests.cluster.operations import REBOOT
from tests.cluster.virtual_cluster import Cluster
from tests.cluster.watched import Judge, Watch

WORDS = ["cgroup_enable=cpuset", "cgroup_memory=1", "cgroup_enable=memory"]

KNOWN = [
    # made anew with each fresh node; Docker 20.10's key of its own, too
    "contents /etc/(machine-id|lab-apiserver/server[.](crt|key)|docker/key[.]json):",
    # the day on which packages have made their users, which are in /etc/passwd too
    "contents /etc/shadow-?:",
    # snapd's own, the second only after an orderly end of it
    "contents /var/lib/snapd/state.json:",
    "(contents|files) /var/lib/snapd/maintenance.json:",
    # its timer starts it twice a minute
    "active var-log-check.service: loaded (inactive dead -> .* start|.* start -> .* dead)$",
    # the link's random MAC address, all else being the same
    r"links lb-hairpin: (.*link/ether )\S{17}( .*) -> \1\S{17}\2$",
]
"""Differences from an undisturbed deploy that are known and justified."""

STALE = r"""
python3 - <<'END'
import glob, os, subprocess, time
READ = {
    "docker.service": ["/etc/docker/daemon.json"],
    "rsyslog.service": ["/etc/rsyslog.conf", "/etc/rsyslog.d/*.conf"],
    "systemd-journald.service": ["/etc/systemd/journald.conf.d/*"],
    "cri-docker.service": ["/usr/local/bin/cri-dockerd"],
    "docker_haproxy.service": ["/usr/sbin/haproxy_start.sh"],
}
zero = time.time() - time.monotonic()
for unit, patterns in READ.items():
    patterns += [f"/etc/systemd/system/{unit}.d/*.conf", f"/etc/systemd/system/{unit}"]
    show = ["systemctl", "show", "-p", "ActiveState,ExecMainStartTimestampMonotonic", unit]
    said = dict(line.split("=") for line in subprocess.check_output(show, text=True).split())
    if said["ActiveState"] != "active":
        continue
    started = zero + int(said["ExecMainStartTimestampMonotonic"]) / 1e6
    for path in (one for pattern in patterns for one in glob.glob(pattern)):
        if os.stat(path).st_ctime > started:
            print(f"{unit} started before {path} was written")
END
"""
"""Names services that started before a file that they read then was written."""


def valid_cmdline(original: str) -> Judge:
    """What judges a cmdline.txt: its one line is the original's words, or those and ours."""
    words = original.split()

    def judge(content: bytes) -> str:
        first, *rest = content.decode().split("\n")
        good = first.split() in (words, [*words, *WORDS]) and rest in ([], [""])
        return "" if good else f"is {content!r}"

    return judge


def valid_json(content: bytes) -> str:
    """What is wrong with Docker's configuration."""
    try:
        return "" if isinstance(json.loads(content), dict) else "is no object"
    except ValueError as error:
        return f"{error}: {content!r}"


def make_fresh(cluster: Cluster, node: str) -> None:
    """Bring a node back to the fresh image; its log share, which outlives that, is emptied."""
    cluster.lab("reset", node)
    storage = next(n["name"] for n in cluster.status["nodes"] if n["role"] == "storage")
    cluster.exec(
        storage,
        f"share=/run/share-{node}; mkdir -p $share; mount -t glusterfs localhost:/{node} $share && "
        "find $share -mindepth 1 -delete && umount $share",
    )


def chain(
    cluster: Cluster, node: str, points: Iterable[Point], in_reboot: Iterable[Point] = ()
) -> None:
    """Take a node that is made fresh through its first deploy, interrupted at each of the points.

    + points: before its reboot
    + in_reboot: when that is due

    All the time cmdline.txt has its one valid line and daemon.json can be read. Before the reboot
    nothing is left over and no service runs with an old configuration; at the end a preview is
    empty.
    """
    make_fresh(cluster, node)
    original = cluster.exec(node, "cat /boot/firmware/cmdline.txt")
    watched: dict[str, Judge] = {
        "/boot/firmware/cmdline.txt": valid_cmdline(original),
        "/etc/docker/daemon.json": valid_json,
        "/etc/fstab": lambda content: "" if b"/boot" in content else f"is {content!r}",
        "/etc/hosts": lambda content: "" if b"localhost" in content else f"is {content!r}",
    }
    victim = Victim(cluster, node)

    def interrupt(*some: Point) -> None:
        for point in some:
            begin = time.monotonic()
            victim.interrupt(point)
            print(f"{node}: {time.monotonic() - begin:5.1f} s  {point}", flush=True)

    def look() -> None:
        for problems in (cluster.exec(node, LEFT), cluster.exec(node, STALE)):
            assert not problems, problems

    # a script that loses its pyinfra may fail where it writes, and takes back what it did
    with Watch(cluster.name, node, watched, new=["/etc/docker/daemon.json"]) as watch:
        interrupt(*points, Killed(REBOOT, "before"))
        look()
        interrupt(*in_reboot)
        begin = time.monotonic()
        victim.deploy()
        print(f"{node}: {time.monotonic() - begin:5.1f} s  to the end", flush=True)
    assert not watch.problems, watch.problems
    assert watch.seen > 4, watch.seen
    look()
    announced = cluster.announced("deploy.py", "--limit", node)
    assert not announced, announced
