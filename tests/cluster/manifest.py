"""List every file of a node, to see what was written. Leave out what logins and timers write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.virtual_cluster import Cluster

_FIND = (
    "find / /run /tmp /boot/firmware /dev/shm /var/log -xdev "
    "\\( -path /proc -o -path /sys -o -path '/var/lib/docker/*' -o -path '/var/lib/containerd/*' "
    "\\) -prune -o "
    "-printf '%p\\t%y %m %u:%g %s %T@ %C@ %l\\n' | sort -u"
)

_UNRELATED = re.compile(
    # A login: its session, its user's manager and runtime folder, its greeting, sudo's first use,
    # and private folders of the services that this wakes
    r"/run(/systemd(/(?!system|generator).*)?|/user(/.*)?|/motd\.dynamic(\.new)?|/utmp|/sudo(/.*)?)?"
    r"|/home/ubuntu(/\.sudo_as_admin_successful)?|/var/lib/(lastlog|wtmpdb|sudo)(/.*)?"
    r"|(/var)?/tmp(/systemd-private-[^/]+-systemd-(logind|timedated)\.service-[^/]+(/tmp)?)?"
    # The logs of that, with their folders
    r"|/(run|var)/log(/(journal(/.*)?|(auth|user|daemon|kern)\.log|syslog|wtmp|btmp|lastlog))?"
    # Timers of the distribution, snapd, which the greeting wakes, and the log share's timer
    r"|/var/lib/(systemd|snapd|apt/periodic)(/.*)?|/var/lib/apt(/daily_lock)?"
    r"|/var/backups(/.*)?"  # dpkg-db-backup.timer, at midnight
    r"|/var/log/\.var-log-mount\.\w+|/run/chaos-engine(/var-log.*)?"
    # dockerd removes a network namespace up to a minute after its container
    r"|/run/docker/netns(/[0-9a-f]{12})?"
)


def take(cluster: Cluster, node: str) -> dict[str, str]:
    """Return kind, mode, owner, size and times of each path of a node, /run and /tmp too.

    The time of the last change of the inode, which nobody can set, tells each write.
    """
    lines = cluster.exec(node, _FIND).splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


@contextmanager
def nothing_written(cluster: Cluster) -> Iterator[None]:
    """Check that the body writes nothing on any worker."""
    before = {node: take(cluster, node) for node in cluster.workers}
    yield
    for node in cluster.workers:
        paths = written(before[node], take(cluster, node))
        assert not paths, f"{node}: {paths}"


def written(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the paths that were made, changed or removed, but for unrelated ones."""
    paths = sorted(before.keys() | after.keys())
    return [
        path
        for path in paths
        if before.get(path) != after.get(path) and not _UNRELATED.fullmatch(path)
    ]
