"""Read the node's operating system, names, addresses, clock, and state of its root file system."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.apt import UNFINISHED, Installed, PackageState
from chaos_engine.facts.files import Texts
from chaos_engine.facts.hosts import HOSTNAME
from chaos_engine.facts.kernel import BOOT_ID, CMDLINE
from chaos_engine.facts.mounts import MOUNTS, mounted_at, mounts_in
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value, YesOrNo
from chaos_engine.facts.systemd_files import texts_of

RESOLVE_SECONDS = 5
"""The time limit in seconds for the lookup of the node's own name."""

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
"""The possible paths of the file os-release(5). Only the first file that exists is used."""

MACHINE_ID = "/etc/machine-id"

# `getent ahosts` looks the name up as sudo does: for IPv4 and IPv6 at once. `getent hosts` would
# ask the DNS for an IPv6 address even if /etc/hosts has an IPv4 address. The time is read from
# /proc/uptime, which has hundredths of a second
_COMMAND = rf"""
if [ -O /proc/1 ]; then echo root=yes; fi
if [ -d /run/systemd/system ]; then echo systemd=yes; fi
if command -v apt-get >/dev/null; then echo apt=yes; fi
command -v dpkg >/dev/null || echo "machine=$(uname -m)"
stat -f -c 'free=%a %S' /
read -r name <{HOSTNAME}
read -r start _ </proc/uptime
timeout {RESOLVE_SECONDS} getent ahosts "$name" >/dev/null && echo resolves=yes
read -r end _ </proc/uptime
echo "resolve_seconds=$start $end"
date +clock=%s
ip -4 -o address show scope global 2>/dev/null
true
"""

_ADDRESS = re.compile(r"\d+: \S+ +inet ([0-9.]+)")


@dataclass(frozen=True)
class NodeState(Value):
    """A node's operating system, names, addresses, clock, and state of its root file system.

    + root: whether pyinfra runs as root on the node
    + systemd: whether systemd is the node's init
    + apt: whether the node has apt
    + system, version, like: ID, VERSION_ID and ID_LIKE of os-release(5), such as "ubuntu", "24.04"
      and "debian"
    + architecture: dpkg's name of the node's architecture, such as "arm64"; on a node without dpkg,
      the name that ``uname -m`` prints
    + cgroup: file system type of ``/sys/fs/cgroup``; "cgroup2" is version 2
    + half_done: names of packages whose installation was interrupted
    + read_only: whether the root file system is mounted read-only
    + overlay: the kernel's boot option for an overlay in RAM, such as "overlayroot=tmpfs", "" for
      none. With an overlay, a reboot loses all changes of files
    + free_mib: free space of the root file system in MiB
    + hostname: the node's name
    + resolves: whether the node can look up an address of its own name
    + resolve_ms: how many milliseconds that lookup took
    + machine_id: id of the node's installation
    + boot_id: id of the node's current boot
    + addresses: IPv4 addresses that other machines can reach
    + skew: how many seconds the node's clock is ahead of this computer's clock
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


NOT_ROOT = "pyinfra does not run as root on the node; set _sudo = True in group_data/all.py"
"""The error message for a node on which pyinfra does not run as root."""


class AsRoot(YesOrNo):
    """Whether pyinfra runs as root on the node.

    The user root owns process 1. So the command asks whether the current user owns process 1.

    **Example:** ``host.get_fact(AsRoot)``
    """

    @override
    def command(self) -> str:
        return "if [ -O /proc/1 ]; then echo yes; else echo no; fi"


class NodeAnswers(NodeFact[dict[str, str]]):
    """Values that programs on the node print, such as the clock's time, by key.

    The fact `Node` uses these values.

    **Example:** ``host.get_fact(NodeAnswers)["clock"]``
    """

    @override
    def command(self) -> str:
        return _COMMAND

    @override
    def parse(self, lines: list[str]) -> dict[str, str]:
        """Parse ``KEY=VALUE`` lines and the output of ``ip -o``.

        The output of ``ip -o`` has one line for each IPv4 address. The result has two more keys.
        ``addresses`` has the IPv4 addresses with blanks between them. ``skew`` says how many
        seconds the node's clock is ahead of this computer's clock.
        """
        # A line of `ip` may have an equals sign too, in the interface's name
        found = [(line, _ADDRESS.match(line)) for line in lines]
        values = dict(line.split("=", 1) for line, address in found if not address)
        addresses = (address[1] for _, address in found if address)
        skew = str(round(int(values["clock"]) - time.time()))
        return {**values, "addresses": " ".join(addresses), "skew": skew}


class Node(ComposedFact[NodeState]):
    """The node's operating system, names, addresses, clock, and state of its root file system.

    **Example:** ``host.get_fact(Node).architecture``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        texts = (*OS_RELEASE, HOSTNAME, MACHINE_ID, BOOT_ID, CMDLINE, MOUNTS)
        return (
            Read.of(NodeAnswers),
            Read.of(Installed, names=("dpkg", UNFINISHED)),
            Read.of(Texts, patterns=texts),
        )

    @override
    def compose(
        self,
        said: dict[str, str],
        packages: dict[str, PackageState],
        found: dict[str, bytes | None],
    ) -> NodeState:
        texts, mounts = texts_of(found), mounts_in(found)
        system = os_release(texts)
        root, cgroup = (mounted_at(mounts, path) for path in ("/", "/sys/fs/cgroup"))
        blocks, size = map(int, said["free"].split())
        start, end = map(float, said["resolve_seconds"].split())
        # The package `dpkg` has the node's own architecture
        architecture = packages["dpkg"].architecture if "dpkg" in packages else said.get("machine")
        if not architecture:
            raise ValueError("dpkg does not list its own package; look at: dpkg --audit")
        return NodeState(
            root="root" in said,
            systemd="systemd" in said,
            apt="apt" in said,
            system=system.get("ID", ""),
            version=system.get("VERSION_ID", ""),
            like=system.get("ID_LIKE", ""),
            architecture=architecture,
            cgroup=cgroup.fstype if cgroup else "",
            half_done=tuple(name for name, one in packages.items() if not one.complete),
            read_only=root is not None and "ro" in (*root.options, *root.super_options),
            overlay=_overlay(texts[CMDLINE]),
            free_mib=blocks * size >> 20,
            hostname=texts[HOSTNAME].strip(),
            resolves="resolves" in said,
            resolve_ms=round((end - start) * 1000),
            machine_id=texts.get(MACHINE_ID, "").strip(),
            boot_id=texts[BOOT_ID].strip(),
            addresses=tuple(said["addresses"].split()),
            skew=int(said["skew"]),
        )


def os_release(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the values of os-release(5) by name, {} if the node has no such file.

    + texts: the contents of the files `OS_RELEASE`, by path
    """
    return parse_os_release(next((texts[path] for path in OS_RELEASE if path in texts), ""))


def parse_os_release(text: str) -> dict[str, str]:
    """Read the text of an os-release(5) file as a shell would. Return the values by name.

    Skips lines that a shell would not read as an assignment.

    **Example:** ``parse_os_release('ID=debian\\nVERSION_ID="13"')["VERSION_ID"] == "13"``
    """
    values = {}
    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # an open quote
            continue
        name, equals, value = words[0].partition("=") if words else ("", "", "")
        if equals:
            values[name] = value
    return values


def _overlay(cmdline: str) -> str:
    """Return the boot option for an overlay in RAM, such as ``overlayroot=tmpfs``, "" for none.

    + cmdline: the kernel's command line
    """
    for word in cmdline.split():
        if word == "boot=overlay" or re.fullmatch("overlayroot=.+", word):
            return word
    return ""
