"""Look at a node that was taken over from this project's predecessor, by plain commands.

Nothing of the predecessor works any more, and all files that were replaced are kept.
"""

from __future__ import annotations

from tests.cluster.virtual_cluster import Cluster

ORIGINALS = "/var/lib/chaos-engine/originals"

# Each prints what the predecessor has left, if anything
GONE = {
    "units among those of packages": (
        "ls /usr/lib/systemd/system/syslog.service /usr/lib/systemd/system/docker_haproxy.service "
        "2>/dev/null"
    ),
    "links to its units": (
        "find /etc/systemd/system -mindepth 2 -type l "
        "\\( -name syslog.service -o -path '*/syslog.service.wants/*' \\); "
        "for unit in var-log docker_haproxy cri-docker; do "
        "find /etc/systemd/system -mindepth 2 -type l -name $unit.service "
        "! -lname /etc/systemd/system/$unit.service; done"
    ),
    "another syslog.service than rsyslog": (
        "systemctl show -p Id --value syslog.service | grep -vx rsyslog.service"
    ),
    "a second rsyslogd": "pgrep -x rsyslogd | sed 1d",
    "a second mount": "findmnt -rno SOURCE --mountpoint /var/log | sed 1d",
    "units that not all may read": (
        "find /etc/systemd/system /usr/lib/systemd/system -maxdepth 1 -type f ! -perm 644"
    ),
    "the link foobar": "ip -br link show foobar 2>/dev/null",
    "another container": "docker ps -a --format '{{.Names}}' | grep -vx lb-haproxy",
    "a second source of Kubernetes": (
        "grep -ls k8s /etc/apt/sources.list.d/* | grep -vx /etc/apt/sources.list.d/kubernetes.list"
    ),
    "what apt complains of": "apt-get -q update 2>&1 | grep '^[WE]:'",
    "failed units": "systemctl list-units --failed --plain --no-legend",
}

REPLACED = (
    "/etc/hosts",
    "/etc/fstab",
    "/etc/docker/daemon.json",
    "/etc/rsyslog.d/10-all.conf",
    "/etc/systemd/system/var-log.service",
    "/etc/systemd/system/cri-docker.service",
    "/etc/systemd/system/cri-docker.socket",
    "/etc/apt/sources.list.d/pkgs_k8s_io_core_stable_v1_28_deb.list",
    "/usr/lib/systemd/system/syslog.service",
)
PROXYS_REPLACED = (
    "/usr/lib/systemd/system/docker_haproxy.service",
    "/usr/sbin/haproxy_start.sh",
    "/var/log/haproxy/haproxy.cfg",
)


def remains(cluster: Cluster, node: str) -> dict[str, str]:
    """Return what the predecessor has left on a node, by its name in `GONE`."""
    found = {name: cluster.exec(node, f"{command} || true") for name, command in GONE.items()}
    return {name: text for name, text in found.items() if text}


def contents(cluster: Cluster, node: str, paths: tuple[str, ...]) -> dict[str, str]:
    """Return mode, owner and checksum of each file, by path."""
    lines = cluster.exec(
        node,
        f"for path in {' '.join(paths)}; do "
        'echo "$path $(stat -c "%a %U %G" $path) $(sha256sum <$path)"; done',
    ).splitlines()
    return {path: state for path, _, state in (line.partition(" ") for line in lines)}


def kept_originals(cluster: Cluster, node: str, paths: tuple[str, ...]) -> dict[str, str]:
    """Return the same of the originals that are kept of these files."""
    found = contents(cluster, node, tuple(f"{ORIGINALS}{path}" for path in paths))
    return {path.removeprefix(ORIGINALS): state for path, state in found.items()}
