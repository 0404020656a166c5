"""Read the node's system, its names and addresses, and whether it is in order."""

from __future__ import annotations

import time
from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value, YesOrNo

RESOLVE_SECONDS = 5
"""How long the lookup of the node's own name may take."""

# `getent ahosts` looks the name up as sudo does: for IPv4 and IPv6 at once. `getent hosts` would
# ask the DNS for an IPv6 address even if /etc/hosts has an IPv4 address
_COMMAND = f"""\
say() {{ printf '%s=%s\\n' "$1" "$2"; }}
say uid "$(id -u)"
if test -d /run/systemd/system; then say systemd yes; fi
if test -r /etc/os-release; then
  ( . /etc/os-release; say system "$ID"; say version "$VERSION_ID"; say like "$ID_LIKE" )
fi
if command -v apt-get >/dev/null; then say apt yes; fi
say architecture "$(dpkg --print-architecture 2>/dev/null || uname -m)"
say cgroup "$(findmnt -nro FSTYPE -M /sys/fs/cgroup | tail -n 1)"
say half_done "$(dpkg-query -W -f '${{db:Status-Abbrev}}=${{Package}}\\n' 2>/dev/null |
  awk '!/^.[cin] / {{ gsub(" ", ""); printf "%s ", $0 }}')"
say root "$(awk '$2 == "/" {{ options = $4 }} END {{ print options }}' /proc/mounts)"
set -f
for word in $(cat /proc/cmdline); do
  case $word in boot=overlay | overlayroot=?*) say overlay "$word"; break ;; esac
done
set +f
set -- $(stat -fc '%a %S' /)
say free_mib $(($1 * $2 / 1048576))
name=$(uname -n)
say hostname "$name"
start=$(date +%s%N)
timeout {RESOLVE_SECONDS} getent ahosts "$name" >/dev/null && say resolves yes
end=$(date +%s%N)
say resolve_ms $(((end - start) / 1000000))
say clock "${{end%?????????}}"
say machine_id "$(cat /etc/machine-id 2>/dev/null)"
say boot_id "$(cat /proc/sys/kernel/random/boot_id)"
say addresses "$(ip -4 -o address show scope global 2>/dev/null |
  awk '{{ sub("/.*", "", $4); printf "%s ", $4 }}')"
"""


@dataclass(frozen=True)
class NodeState(Value):
    """A node's system, its names and addresses.

    + root: whether pyinfra runs as root on it
    + systemd, apt: whether systemd is its init, and whether it has apt
    + system, version, like: from os-release(5), "ubuntu", "24.04", "debian"
    + architecture: of its packages, as dpkg names it
    + cgroup: file system type of ``/sys/fs/cgroup``; "cgroup2" is version 2
    + half_done: packages whose installation was interrupted, such as "iF=docker.io" (dpkg-query(1))
    + read_only: whether its root file system is mounted read-only
    + overlay: the word of the kernel's command line that keeps all changes of files in RAM, so that
      a reboot loses them; "" if there is none
    + free_mib: free space of its root file system in MiB
    + hostname: its name
    + resolves, resolve_ms: whether its name has an address, and how long that lookup took
    + machine_id, boot_id: of its installation, and of its present boot
    + addresses: its IPv4 addresses that other machines can reach
    + skew: how many seconds its clock is ahead of this computer's
    """

    root: bool
    systemd: bool
    apt: bool
    system: str
    version: str
    like: str
    architecture: str
    cgroup: str
    half_done: tuple[str, ...]
    read_only: bool
    overlay: str
    free_mib: int
    hostname: str
    resolves: bool
    resolve_ms: int
    machine_id: str
    boot_id: str
    addresses: tuple[str, ...]
    skew: int


NOT_ROOT = "pyinfra does not run as root there; set _sudo = True in group_data/all.py"
"""The message that refuses a node on which pyinfra does not run as root."""


class AsRoot(YesOrNo):
    """Whether pyinfra runs as root on the node: root owns the first process.

    **Example:** ``host.get_fact(AsRoot)``
    """

    @override
    def command(self) -> str:
        return "if [ -O /proc/1 ]; then echo yes; else echo no; fi"


class Node(NodeFact[NodeState]):
    """The node's system, its names and addresses, and whether it is in order.

    **Example:** ``host.get_fact(Node).architecture``
    """

    @override
    def command(self) -> str:
        return _COMMAND

    @override
    def parse(self, lines: list[str]) -> NodeState:
        return parse_node(lines, time.time())


def parse_node(lines: list[str], now: float) -> NodeState:
    """Read ``key=value`` lines of the fact's command.

    + now: this computer's time, in seconds since 1970
    """
    values = dict(line.split("=", 1) for line in lines if line)
    get = values.get
    return NodeState(
        root=values["uid"] == "0",
        systemd=get("systemd") == "yes",
        apt=get("apt") == "yes",
        system=get("system", ""),
        version=get("version", ""),
        like=get("like", ""),
        architecture=values["architecture"],
        cgroup=values["cgroup"],
        half_done=tuple(get("half_done", "").split()),
        read_only="ro" in get("root", "").split(","),
        overlay=get("overlay", ""),
        free_mib=int(values["free_mib"]),
        hostname=values["hostname"],
        resolves=get("resolves") == "yes",
        resolve_ms=int(values["resolve_ms"]),
        machine_id=get("machine_id", ""),
        boot_id=values["boot_id"],
        addresses=tuple(get("addresses", "").split()),
        skew=round(int(values["clock"]) - now),
    )
