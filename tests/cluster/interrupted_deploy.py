"""Interrupt one first deploy many times, and check the node on the way and at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from tests.cluster.interruption import Killed, Point, Victim
from tests.cluster.node_state import LEFTOVERS
from tests.cluster.operations import REBOOT
from tests.cluster.virtual_cluster import Cluster
from tests.cluster.watched import ContentCheck, Watch

WORDS = ["cgroup_enable=cpuset", "cgroup_memory=1", "cgroup_enable=memory"]

KNOWN = [
    # Made anew on each fresh node, Docker 20.10's own key too
    "contents /etc/(machine-id|lab-apiserver/server[.](crt|key)|docker/key[.]json):",
    # Has the day on which packages made their users, which are in /etc/passwd too
    "contents /etc/shadow-?:",
    # snapd's own. It writes the second one only when it is stopped in good order
    "contents /var/lib/snapd/state.json:",
    "(contents|files) /var/lib/snapd/maintenance.json:",
    # Its timer starts it twice a minute
    "active var-log-check.service: loaded (inactive dead -> .* start|.* start -> .* dead)$",
    # New packages come without changelogs, a package that the next run repairs comes with them
    "(contents|files) /usr/share/doc/[^/]+/changelog[^/]*: absent -> ",
    # Only the link's random MAC address differs
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
"""Lists services that started before a file that they read at their start was written."""


def valid_cmdline(original: str) -> ContentCheck:
    """Return a check of cmdline.txt: one line with the words of the original, or those and ours."""
    words = original.split()

    def check(content: bytes) -> str:
        first, *rest = content.decode().split("\n")
        good = first.split() in (words, [*words, *WORDS]) and rest in ([], [""])
        return "" if good else f"is {content!r}"

    return check


def valid_json(content: bytes) -> str:
    """Say what is wrong with Docker's configuration, "" if nothing is."""
    try:
        return "" if isinstance(json.loads(content), dict) else "is no object"
    except ValueError as error:
        return f"{error}: {content!r}"


def make_fresh(cluster: Cluster, node: str) -> None:
    """Bring a node back to the fresh image, and empty its log share, which is elsewhere."""
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
    """Deploy a fresh node for the first time, and interrupt that at each of the points.

    + points: interruptions before the reboot
    + in_reboot: interruptions when the reboot is next

    All the time cmdline.txt has one valid line, and daemon.json can be read. Before the reboot
    nothing is left over, and no service runs with an old configuration. At the end a preview is
    empty.
    """
    make_fresh(cluster, node)
    original = cluster.exec(node, "cat /boot/firmware/cmdline.txt")
    watched: dict[str, ContentCheck] = {
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
        for problems in (cluster.exec(node, LEFTOVERS), cluster.exec(node, STALE)):
            assert not problems, problems

    # A script whose pyinfra is gone may fail when it prints, and undoes what it did
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
