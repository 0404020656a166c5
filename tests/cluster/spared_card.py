"""Spare a node's card while a container writes much, and look at the node after a power cut.

The concerns `container_logs` and `quiet` change how the root is mounted, when the kernel writes,
and what timers do. A node of the lab lacks some things that they need: `ADD` and `VM` supply them.
"""

from __future__ import annotations

import json

from chaos_engine.facts.quiet import APT_TIMERS, MAN_TIMER
from tests.cluster.virtual_cluster import Cluster, wait_for

SETTINGS = {
    "container_logs_noatime": "true",
    "container_logs_lazytime": "true",
    "container_logs_commit": "600",
    # hardly later than the kernel's own 35 s
    "container_logs_writeback": "42",
}
"""Settings of `container_logs`, without their prefix."""

# As on a Raspberry Pi's card; the image's fstab has no entry for the root. There is no `discard`:
# after a power cut of the lab ext4 discards blocks although it was not committed that they are free
ENTRY = "/dev/mmcblk0p2\t/\text4\terrors=remount-ro\t0 1"
ADD = f"""
set -eu
cp -a /etc/fstab /root/fstab
printf '%s\\n' '{ENTRY}' >>/etc/fstab
systemctl daemon-reload
mount -o remount /
"""

# The nodes share the kernel of this computer, whose parameters outside of net they cannot set. So
# the node gets files of its own in their place, with the kernel's defaults. They end with its boot
VM = """
for one in expire=3000 writeback=500; do
  name=dirty_${one%=*}_centisecs
  mountpoint -q /proc/sys/vm/$name && continue
  echo ${one#*=} >/run/$name
  mount --bind /run/$name /proc/sys/vm/$name
done
"""

# An image of the node's own programs: there is no registry to pull from. The container writes some
# 2000 lines a second until it is removed. That it was started is on the card only with the next
# synchronisation
CHATTY = """
set -eu
docker image inspect chatty >/dev/null 2>&1 || tar -chf - /bin/sh /bin/sleep \
  $(for one in /bin/sh /bin/sleep; do ldd $one; done | grep -o '/[^ ]*' | sort -u) 2>/dev/null |
  docker import - chatty >/dev/null
docker container inspect chatty >/dev/null 2>&1 || {
  docker run -d --name chatty --restart always chatty /bin/sh -c '
    while :; do
      count=0
      while [ $count -lt 200 ]; do
        echo "a line of a container that writes much"
        count=$((count + 1))
      done
      sleep 0.1
    done' >/dev/null
}
sync -f /
"""
CHATTY_RUNS = "docker container inspect --format '{{.State.Running}}' chatty"

_TRIGGER = "/var/lib/man-db/auto-update"
_LOOK = f"""
printf 'fstab\\t%s\\n' "$(findmnt --fstab --noheadings --output OPTIONS /)"
printf 'mount\\t%s\\n' "$(findmnt --noheadings --output OPTIONS /)"
cd /proc/sys/vm
printf 'vm\\t%s\\n' "$(echo $(cat dirty_expire_centisecs dirty_writeback_centisecs))"
printf 'index of manual pages\\t%s\\n' "$(test -e {_TRIGGER} && echo updated || echo kept)"
for timer in {" ".join((*APT_TIMERS, MAN_TIMER))}; do
  printf '%s\\t%s\\n' $timer "$(echo $(systemctl is-enabled $timer) $(systemctl is-active $timer))"
done
"""


def look(cluster: Cluster, node: str) -> dict[str, str]:
    """Return what the two concerns change besides files, by name."""
    lines = cluster.exec(node, _LOOK).splitlines()
    return dict(line.split("\t", 1) for line in lines)


def ready_kernel(cluster: Cluster, node: str) -> None:
    """Give the node parameters of its own, and set them as at its boot."""
    cluster.exec(node, f"{VM}\nsystemctl restart systemd-sysctl")


def start_chatty(cluster: Cluster, node: str) -> str:
    """Have the container that writes much run, and return Docker's data folder."""
    cluster.exec(node, CHATTY)
    return data_root(cluster, node)


def data_root(cluster: Cluster, node: str) -> str:
    """Wait until Docker answers, and return its data folder."""
    found = ""

    def answers() -> bool:
        nonlocal found
        found = cluster.exec(node, "docker info --format '{{json .DockerRootDir}}'")
        return True

    wait_for("Docker", answers, 90)
    return str(json.loads(found))


def problems_after_boot(cluster: Cluster, node: str, root: str) -> list[str]:
    """Return what is wrong on a node that boots after a power cut.

    + root: Docker's data folder before the cut, in which the container that writes much ran
    """
    problems = []
    now = look(cluster, node)
    for option in ("noatime", "lazytime", "commit=600"):
        if (option in now["fstab"].split(",")) != (option in now["mount"].split(",")):
            problems.append(f"/ is mounted with {now['mount']}, fstab says {now['fstab']}")
            break
    written = cluster.exec(node, "cat /etc/sysctl.d/99-container-logs.conf 2>/dev/null || true")
    set_now = now["vm"] == "3500 700"
    if bool(written) != set_now:
        problems.append(f"the kernel's parameters are {now['vm']}, the file has: {written}")
    try:
        present = data_root(cluster, node)
        known = cluster.exec(node, "docker ps --all --format '{{.Names}}'").split()
        # In another data folder Docker does not see the containers of the old one
        if "chatty" in known or present == root:
            wait_for(
                "the container that ran before",
                lambda: cluster.exec(node, CHATTY_RUNS) == "true",
                60,
            )
    except AssertionError as error:
        problems.append(
            f"{error}\n{cluster.exec(node, 'docker ps -a; docker info 2>&1 | tail -5')}"
        )
    return problems
