"""Take the state of a node by plain commands, to compare it before and after, or between nodes.

Files with mode, owner, content, ACL and extended attributes, units, packages, mounts, network,
networks and containers of Docker, swap and the kernel's command line. Left out is what changes by
itself (logs, caches, times, seeds), and the manifest, whose lines depend on the order of the runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tests.cluster.virtual_cluster import Cluster

State = Mapping[str, Mapping[str, str]]
"""What was seen, by section and name: ``state["files"]["/etc/hosts"]``."""

_VOLATILE = (
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/tmp",
    "/var/tmp",
    "/var/log",
    "/var/cache",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/systemd",
    "/var/lib/private",
    "/var/lib/chaos-engine/reboot",
    "/var/lib/chaos-engine/manifest",
    # Docker's data, which is on another file system unless the node has a card
    "'/var/lib/docker/*'",
    "'/var/lib/containerd/*'",
)

_SCRIPT = f"""
set -eu
section() {{ printf '\\n== %s\\n' "$1"; }}
section files
find / /boot/firmware -xdev \\
  \\( {" -o ".join(f"-path {path}" for path in _VOLATILE)} \\) -prune -o \\
  \\( -type f -printf '%p\\tfile %m %u:%g\\n' -o -type l -printf '%p\\tlink to %l\\n' \\
  -o -type d -printf '%p\\tfolder %m %u:%g\\n' -o -printf '%p\\t%y %m %u:%g\\n' \\)
section contents
find / /boot/firmware -xdev \\
  \\( {" -o ".join(f"-path {path}" for path in _VOLATILE)} \\) -prune -o \\
  -type f -print0 | xargs -0 -r sha256sum -- 2>/dev/null | sed -E 's/^(.{{64}}) .(.*)/\\2\\t\\1/'
section attributes
python3 - <<'END'
import os
for top in ("/etc", "/usr/local", "/usr/sbin", "/boot/firmware"):
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            for one in sorted(os.listxattr(path, follow_symlinks=False)):
                print(path, one + "\\t" + os.getxattr(path, one, follow_symlinks=False).hex())
END
section enabled
systemctl list-unit-files --no-legend --plain | awk '{{ print $1 "\\t" $2 }}'
section active
systemctl list-units --all --no-legend --plain --type service,socket,timer,mount,swap \\
  | awk '$2 != "not-found" {{ print $1 "\\t" $2 " " $3 ($1 ~ /[.]timer$/ ? "" : " " $4) }}'
section packages
dpkg-query -W -f '${{Package}}\\t${{Version}} ${{db:Status-Abbrev}}\\n'
section held
apt-mark showhold | sed 's/$/\\theld/'
section manual
apt-mark showmanual | sed 's/$/\\tmanual/'
section mounts
findmnt -rno TARGET,SOURCE,FSTYPE | sed 's:/dev/loop[0-9]*:/dev/loop:' \\
  | awk '{{ print $1 "\\t" $2 " " $3 }}'
section links
ip -d -o link show | sed -E 's/^[0-9]+: ([^:@]+)[^:]*:/\\1\\t/'
section addresses
ip -o -4 address show scope global | awk '{{ print $2 " " $4 "\\tthere" }}'
section routes
ip -4 route show | sed 's/ *$/\\tthere/'
section sysctls
for key in net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables \\
  net/bridge/bridge-nf-call-ip6tables \\
  $(cd /proc/sys; echo net/ipv4/conf/*/arp_ignore net/ipv4/conf/*/arp_announce); do
  if [ -e /proc/sys/$key ]; then printf '%s\\t%s\\n' $key "$(cat /proc/sys/$key)"; fi
done
section docker
if command -v docker >/dev/null && systemctl -q is-active docker; then
  docker info --format \\
    'info{{{{"\\t"}}}}{{{{.Driver}}}} {{{{.CgroupDriver}}}} {{{{.LoggingDriver}}}}'
  docker network ls --format 'network {{{{.Name}}}}{{{{"\\t"}}}}{{{{.Driver}}}}'
  docker ps -a --format 'container {{{{.Names}}}}{{{{"\\t"}}}}{{{{.Image}}}} {{{{.State}}}}'
  docker image ls --format 'image {{{{.Repository}}}}:{{{{.Tag}}}}{{{{"\\t"}}}}there'
fi
section kernel
sed 1d /proc/swaps | awk '{{ print "swap " $1 "\\t" $2 }}'
printf 'cmdline\\t%s\\n' "$(cat /proc/cmdline)"
printf 'controllers\\t%s\\n' "$(cat /sys/fs/cgroup/cgroup.controllers)"
"""

# Names that differ each time
_PASSING = {
    "active": re.compile(
        r"(session-|user@|user-runtime-dir@|run-user|run-[a-z0-9]+\.|docker-[0-9a-f]|netns|"
        r"var-lib-docker|run-docker|systemd-(tmpfiles-clean|hostnamed|timedated|localed))"
    ),
    "enabled": re.compile(r"(docker-[0-9a-f]+|session-.*|run-.*)[.]scope"),
    "mounts": re.compile(r"/(run/user|run/docker|var/lib/docker|run/credentials|proc|sys)"),
    "links": re.compile(r"(veth|docker0|br-)"),
    "addresses": re.compile(r"(veth|docker0|br-)"),
    "routes": re.compile(r".*(veth|docker0|br-)"),
    "sysctls": re.compile(r".*(veth|docker0|br-)"),
}

LEFTOVERS = r"""
find / /run /boot/firmware -xdev \
  \( -path /proc -o -path /sys -o -path /var/lib/docker \) -prune -o \
  \( -name '*.chaos' -o -name '*.chaos-old' -o -path '*/chaos-engine/stage.*' \
  -o -path '/run/chaos-engine-key.*' -o -path '/var/lib/chaos-engine/*.new' \
  -o -path '/var/lib/chaos-engine/packages/new.*' -o -name '*.dpkg-new' -o -name '*.dpkg-tmp' \) \
  -print
"""
"""Lists temporary files of transactions, of originals and of dpkg."""

_AFTER_UNDO = (
    # Groups and users of packages stay with Debian; the files with a hyphen are their backups
    r"contents /etc/(group|gshadow|passwd|shadow|subgid|subuid)-?:",
    # Docker's and containerd's data stay, and so do their folders
    r"(files|contents) /var/lib/(docker|containerd|cri-dockerd)(/|:)",
    # What other programs keep of their own: snapd, sudo (a mark of its first use)
    r"(files|contents) /var/lib/snapd/",
    r"(files|contents) /home/ubuntu/\.sudo_as_admin_successful:",
    # Debian's modemmanager makes this when it is removed, and keeps it when it is installed again
    r"files /etc/systemd/system/ModemManager:",
    # docker.io removes this empty folder of AppArmor's when it is purged
    r"files /etc/apparmor\.d/disable:",
)

AFTER_UNDO = {
    "bookworm": (
        *_AFTER_UNDO,
        # Docker 20.10 makes these when it starts, and its package leaves them; also behind a link
        r"(files|contents) /etc/(dotfiles/)?docker(/key\.json)?:",
    ),
    "trixie": (
        *_AFTER_UNDO,
        # They work at the very first boot only
        r"active (ldconfig|systemd-(journal-catalog-update|sysusers|update-done))\.service: ",
    ),
    "forky": (
        *_AFTER_UNDO,
        # They work at the very first boot only
        r"active (ldconfig|systemd-(journal-catalog-update|sysusers|update-done))\.service: ",
    ),
}
"""Known differences from a fresh node after an undo, each with its reason, by Debian's release."""


def take(cluster: Cluster, node: str) -> State:
    """Return the state of a running node of the cluster."""
    return parse(cluster.exec(node, _SCRIPT))


def parse(text: str) -> State:
    """Parse the script's output: sections that begin with ``== NAME``, lines of name, tab, value.

    Names that differ each time are left out.
    """
    state: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    passing: re.Pattern[str] | None = None
    for line in text.splitlines():
        if line.startswith("== "):
            section = state.setdefault(line[3:], {})
            passing = _PASSING.get(line[3:])
        elif line:
            name, _, value = line.partition("\t")
            if passing is None or not passing.match(name):
                section[name] = value.strip()
    return state


def differences(before: State, after: State, but: Iterable[str] = ()) -> list[str]:
    """Return a line for each difference: ``section name: before -> after``.

    + but: regular expressions of lines to leave out. Each is a known difference, justified where it
      is listed
    """
    known = [re.compile(pattern) for pattern in but]
    lines = []
    for section in sorted({*before, *after}):
        old, new = before.get(section, {}), after.get(section, {})
        for name in sorted({*old, *new}):
            was, now = old.get(name, "absent"), new.get(name, "absent")
            line = f"{section} {name}: {was} -> {now}"
            if was != now and not any(pattern.match(line) for pattern in known):
                lines.append(line)
    return lines
