"""Remove packages, and keep apt from installing them again."""

from __future__ import annotations

import re
from collections.abc import Iterable

from chaos_engine.facts.cloud_init import CloudInit, CloudInitState
from chaos_engine.facts.observe import NodeError, Read, observe, warn
from chaos_engine.facts.packages import OPTIONS, Removal, RemovalPlan
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.apt import APT
from chaos_engine.operations.engine.arguments import PackageName
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.repairs import of_removed
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File
from chaos_engine.operations.undo import Undo
from chaos_engine.templates import render, shell_script

PIN = "/etc/apt/preferences.d/chaos-engine-removed"

NEEDED = re.compile(
    "openssh-.*|dropbear.*|sudo|sudo-rs|doas"
    "|netplan.*|libnetplan.*|network-manager|ifupdown.*|dhcpcd.*|isc-dhcp-client|wpasupplicant"
    "|iproute2|iptables|nftables|systemd.*|libsystemd.*|libpam-.*|udev|dbus.*|init"
    "|linux-(image|modules|raspi|generic|firmware).*|flash-kernel.*|piboot-try|raspi-firmware"
    "|raspberrypi-.*|rpi-([^c]|c[^l]).*"
    "|u-boot.*|grub.*|shim-signed|initramfs-tools.*|dracut.*|kmod|e2fsprogs"
    "|docker.*|containerd.*|runc|kube.*|kubernetes-cni|cri-.*|glusterfs-.*|rsyslog"
    "|python3|python3-minimal|apt|dpkg|ca-certificates|gnupg|gpgv"
)
"""A regular expression for the packages that a work node needs: to boot, to be reached, and to do
its work. It means the same to Python and to grep -E. rpi-cloud-init-mods of Raspberry Pi OS does
not match. That package only sets up cloud-init, and may be removed together with cloud-init."""

NEVER_PINNED = frozenset({"apparmor", "lvm2"})
"""Packages that may be removed, but that apt may install again. Docker recommends apparmor. A
user who later creates a volume group needs lvm2 at once."""

COMPANIONS = {"cloud-init": ("cloud-init-base",)}
"""A key is a package, a value has the packages to remove together with it. Since Ubuntu 25.04,
cloud-init is an empty package that depends on cloud-init-base
(documentation.ubuntu.com/public-cloud, "Cloud-init metapackages")."""


@converge(
    reads=lambda names, mdns=False: [
        *files.reads(*_pin(names)),
        Read.of(RemovalPlan, names=_with_companions(names)),
        Read.of(CloudInit),
    ]
)
def remove_packages(names: Iterable[PackageName], mdns: bool = False) -> Commands:
    """Remove packages in one step, and pin them so that apt does not install them again.

    + names: binary package names. A package need not be installed
    + mdns: whether the node is reached by a ``.local`` name. avahi-daemon answers for such names,
      so `NodeError` is raised if avahi-daemon would be removed

    Packages that depend on the removed packages are removed too. Configuration files stay. lvm2
    stays on a node that has logical volumes. The node notes the version and the apt marks of each
    package, so that undo can install it again. If no archive offers a package any more, the node
    also keeps the package's files.

    apt simulates the removal first. Raises `NodeError` if apt cannot remove the packages, or if the
    node would lose a package that it needs (`NEEDED`).

    **Example:** ``remove_packages(name="Remove packages", names=["snapd", "plymouth"])``
    """
    names = tuple(names)
    found = observe(RemovalPlan, names=_with_companions(names))
    check_removal(found, observe(CloudInit), mdns)
    for message in warnings(found):
        warn(message)
    because(*listed("remove", found.removes if found.installed else ()))
    yield from files.transaction(
        files.decide(*_pin(names)),
        apply=compose(found.installed, found.removes) if found.installed else "",
        noop="none of these packages is installed",
        force=bool(found.installed),
        repairs=[of_removed(name) for name in found.installed],
    )


def check_removal(found: Removal, cloud_init: CloudInitState, mdns: bool = False) -> None:
    """Raise `NodeError` if the packages must not be removed. This is a pure function.

    + found: the simulated removal
    + cloud_init: the state of cloud-init
    + mdns: whether the node is reached by a ``.local`` name
    """
    keep_it = f"take it out of {setting('packages_absent')}"
    if found.error:
        raise NodeError(
            f"apt cannot remove {', '.join(found.installed)}: {found.error} "
            f"Fix apt on the node, or take these packages out of {setting('packages_absent')}"
        )
    if kept := {*found.installed} - {*found.removes}:
        raise NodeError(
            f"apt would leave {', '.join(sorted(kept))} installed; to find the reason, run on the "
            f"node: apt-get -s remove {' '.join(found.installed)}"
        )
    if lost := [name for name in found.removes if NEEDED.fullmatch(name)]:
        raise NodeError(
            f"removing {', '.join(found.installed)} would also remove {', '.join(lost)}, which "
            f"the node needs; run apt-get -s remove NAME for each package in "
            f"{setting('packages_absent')} to find the package that causes the removal, and delete "
            "that package from the setting"
        )
    if mdns and "avahi-daemon" in found.removes:
        raise NodeError(
            "the node is reached by a .local name, which avahi-daemon answers, but avahi-daemon is "
            f"to be removed; connect by address or another name, or keep avahi-daemon: {keep_it}"
        )
    if "snapd" in found.removes and found.snaps:
        raise NodeError(
            f"snapd is to be removed, but snaps are installed: {', '.join(found.snaps)}; remove "
            f"these with snap remove, or keep snapd: {keep_it}"
        )
    if {"cloud-init", "cloud-init-base"} & {*found.removes}:
        if cloud_init.running:
            raise NodeError(
                "cloud-init is still setting the node up; wait for it (cloud-init status --wait) "
                "and run again"
            )
        if not cloud_init.network:
            raise NodeError(
                "cloud-init is to be removed, but nothing else configures the network: there is no "
                "NetworkManager, no dhcpcd, and no file in /etc/netplan, /etc/network or "
                "/etc/systemd/network; write a file into one of these folders, or keep cloud-init: "
                f"{keep_it}"
            )


def warnings(found: Removal) -> list[str]:
    """Return warnings about the removal's unexpected effects. This is a pure function."""
    messages = []
    if found.lvm_in_use:
        messages.append("lvm2 is not removed: the node has logical volumes")
    if more := [name for name in found.removes if name not in found.installed]:
        messages.append(
            f"removing {', '.join(found.installed)} also removes dependent packages: "
            f"{', '.join(more)}"
        )
    return messages


def compose(installed: Iterable[str], removes: Iterable[str]) -> str:
    """Return the shell script that removes packages and checks that they are gone.

    + installed: the packages to remove
    + removes: all packages that apt's simulation removes: those in `installed` and the packages
      that depend on them

    This is a pure function.
    """
    gone, removed = quote(*installed), quote(*removes)
    return f"""{APT}
{shell_script("removed_packages")}
timers=
for timer in apt-daily.timer apt-daily-upgrade.timer; do
  if systemctl is-active -q $timer; then systemctl stop $timer; timers="$timers $timer"; fi
done
trap 'test -z "$timers" || systemctl start $timers' EXIT
record {removed}
settle
# a package that the node needs is marked as manual if a later apt autoremove would remove it
needed=$(apart apt-get -s -y -q --auto-remove remove -- {gone} | awk '$1 == "Remv" {{ print $2 }}' |
  grep -xE {quote(NEEDED.pattern)} || true)
if [ -n "$needed" ]; then
  for name in $needed; do note manual auto "$name"; done; settle
  apart apt-mark manual $needed >/dev/null
fi
apt {OPTIONS} remove -- {gone}
left=$(dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n' {gone} 2>/dev/null |
  awk '$2 != "not-installed" && $2 != "config-files" {{ print $1 }}')
if [ -n "$left" ]; then echo still installed: $left >&2; exit 1; fi
"""


def _pin(names: Iterable[str]) -> tuple[list[File], list[str]]:
    """Return the files to write and the paths to remove so that apt's pin file is as wanted.

    If there are packages to pin, the pin file is written. If there are none, it is removed.
    """
    pinned = [name for name in _with_companions(names) if name not in NEVER_PINNED]
    if not pinned:
        return [], [PIN]
    return [File(PIN, render("packages-removed.j2", names=pinned))], []


def _with_companions(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({more for name in names for more in (name, *COMPANIONS.get(name, ()))}))


UNDO = Undo(first=f"pin={PIN}")
