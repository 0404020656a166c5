"""The kernel's command line: as it was given at boot, and as the files for the next boot say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import override

from chaos_engine.facts.health import Check
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import decoded

RECORD = "/var/lib/chaos-engine/reboot"
"""Where a reboot is noted before it is made: what for, and the boot that it ended."""

BACKUP_SUFFIX = ".chaos-engine.bak"
"""The original beside a boot file, so that a card can be fixed on another computer."""

GRUB_DROP_IN = "/etc/default/grub.d/99-chaos-engine.cfg"

# As the kernel splits it: white space separates, a double quote protects it to the next one or
# to the end (lib/cmdline.c, next_arg).
_WORD = re.compile(r'(?:[^ \t\r\n\v\f"]|"[^"]*(?:"|$))+')


@dataclass(frozen=True)
class BootFile(Value):
    """A file that words for the next boot come from. `text` is exact, bytes that are not UTF-8
    are escaped as by ``os.fsdecode``; `free` are the bytes left on its file system; `kept` says
    whether its original is beside it."""

    path: str
    text: str
    mode: str
    owner: str
    group: str
    filesystem: str
    read_only: bool
    free: int
    kept: bool


@dataclass(frozen=True)
class Cmdline(Value):
    """What is known of a node's kernel command line.

    + words: of the running kernel, firmware's own included
    + file: the file that the firmware reads at the next boot, ``None`` where there is none
    + pending: the one that takes its place if an untested kernel proves good (piboot-try)
    + rejected: files at the known places that are no command line: they have no ``root=``
    + extra: the words that raspi-firmware adds whenever it writes the file anew
    + grub: whether GRUB makes the command line; `drop_in` is this package's file for it
    + cgroup: the version of the control groups
    + memory: whether the memory controller is there
    + rebooted: what reboots were made for, with the boot that each ended
    """

    words: tuple[str, ...]
    controllers: tuple[str, ...]
    cgroup: Literal["v2", "v1", "none"]
    memory: bool
    boot_id: str
    file: BootFile | None = None
    pending: BootFile | None = None
    rejected: tuple[BootFile, ...] = ()
    extra: BootFile | None = None
    grub: bool = False
    drop_in: BootFile | None = None
    rebooted: dict[str, str] = field(default_factory=dict)


# The places, in the order in which they are believed:
# - Ubuntu 25.10 and later: /boot/firmware/current, the firmware being told so by os_prefix in
#   config.txt; new/ becomes current/ once it has booted, unless its state is "bad" (Ubuntu's
#   documentation for boards, "A/B boot on Ubuntu for Raspberry Pi")
# - Ubuntu before that, Raspberry Pi OS 12 and later, Debian: /boot/firmware
# - Raspberry Pi OS before that: /boot, where later ones have a notice only
#
# Of config.txt (raspberrypi.com/documentation/computers/config_txt.html, "Conditional filters") a
# line is property=value without blanks, the last one counts, and a [filter] holds until the next
# one; [all] takes all filters back. What stands below another filter, or in a file that it
# includes, is not read here: the known places below are looked at after what it names.
_SCRIPT = r"""
shown=
show() { # ROLE PATH, each file once
  [ -e "$2" ] && p=$(readlink -f -- "$2") && [ -f "$p" ] || return 0
  case $shown in *" $1 $p "*) return 0 ;; esac
  shown="$shown $1 $p "
  kept=no; [ ! -e "$p@BAK@" ] || kept=yes
  t=$(stat -c '%a %U %G' -- "$p") &&
  m=$(findmnt -nro FSTYPE,OPTIONS -T "$p" | tail -n 1) &&
  s=$(stat -f -c '%a %S' -- "$p") &&
  b=$(base64 -w0 -- "$p") || exit 1
  printf 'file %s %s %s %s %s %s\n' "$1" "$t" "$m" "$s" "$kept" "$p"
  printf 'text %s\n' "$b"
}
setting() { # KEY BOOT: its last value in config.txt that holds for every model
  [ -e "$2/config.txt" ] || return 0
  awk -F= -v "key=$1" '
    BEGIN { all = 1 }
    { sub(/\r$/, "") }
    /^\[/ { all = $0 == "[all]" }
    all && $1 == key { value = substr($0, length(key) + 2) }
    END { print value }
  ' "$2/config.txt" 2>/dev/null
}
echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
echo "cmdline $(base64 -w0 </proc/cmdline)"
echo "cgroup $(findmnt -nro FSTYPE -M /sys/fs/cgroup | tail -n 1)"
echo "controllers $(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null)"
echo "memory_v1 $(awk '$1 == "memory" { print $4 }' /proc/cgroups 2>/dev/null)"
for boot in /boot/firmware /boot; do
  name=$(setting cmdline $boot)
  show place "$boot/$(setting os_prefix $boot)${name:-cmdline.txt}"
  show place $boot/current/cmdline.txt
  show place $boot/cmdline.txt
done
case $(cat /boot/firmware/new/state 2>/dev/null) in
  unknown|trying) show pending /boot/firmware/new/cmdline.txt ;;
esac
extra=/etc/default/raspi-extra-cmdline
if [ -f $extra ]; then
  show extra $extra
elif grep -qs raspi-extra-cmdline /etc/kernel/postinst.d/z50-raspi-firmware; then
  echo "extra_missing $extra"
fi
if [ -f /etc/default/grub ] && PATH=$PATH:/usr/sbin:/sbin command -v update-grub >/dev/null; then
  echo 'grub yes'
fi
show drop_in @DROP_IN@
sed 's/^/rebooted /' @RECORD@ 2>/dev/null
true
"""

SCRIPT = (
    _SCRIPT.replace("@BAK@", BACKUP_SUFFIX)
    .replace("@DROP_IN@", GRUB_DROP_IN)
    .replace("@RECORD@", RECORD)
)


class KernelCmdline(NodeFact[Cmdline]):
    """The kernel's command line, of this boot and of the next, and what it is needed for.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.kernel.KernelCmdline``
    """

    @override
    def command(self) -> str:
        return SCRIPT

    @override
    def parse(self, lines: list[str]) -> Cmdline:
        return parse_cmdline(lines)


def split_words(text: str) -> list[str]:
    """The words of a command line, as the kernel splits it.

    **Example:** ``split_words('quiet dyndbg="file a.c +p"')`` gives two words.
    """
    return _WORD.findall(text)


def parse_cmdline(lines: list[str]) -> Cmdline:
    """Read the script's ``KEY VALUE`` lines; a ``file`` line is followed by its ``text``."""
    values: dict[str, str] = {}
    found: dict[str, list[BootFile]] = {}
    rebooted = {}
    for number, line in enumerate(lines):
        key, _, value = line.partition(" ")
        if key == "file":
            role, boot_file = _boot_file(value, lines[number + 1])
            found.setdefault(role, []).append(boot_file)
        elif key == "rebooted":
            what, _, boot_id = value.partition(" ")
            rebooted[what] = boot_id
        else:
            values[key] = value
    if "extra_missing" in values:
        path = values["extra_missing"]
        found["extra"] = [BootFile(path, "", "644", "root", "root", "", False, 1 << 30, False)]
    places = found.get("place", [])
    command_lines = [place for place in places if has_root(place.text)]
    controllers = tuple(values["controllers"].split())
    cgroup = {"cgroup2": "v2", "tmpfs": "v1"}.get(values["cgroup"], "none")
    return Cmdline(
        words=tuple(split_words(decoded(values["cmdline"]))),
        controllers=controllers,
        cgroup=cgroup,  # type: ignore[arg-type]
        # /proc/cgroups has no row for memory where the kernel lacks version 1 of it
        memory="memory" in controllers if cgroup == "v2" else values["memory_v1"] == "1",
        boot_id=values["boot_id"],
        file=command_lines[0] if command_lines else None,
        pending=_only(found, "pending"),
        rejected=() if command_lines else tuple(places),
        extra=_only(found, "extra"),
        grub="grub" in values,
        drop_in=_only(found, "drop_in"),
        rebooted=rebooted,
    )


def has_root(text: str) -> bool:
    """Whether a text names a root file system, as every real command line does."""
    return any(word.startswith("root=") for word in split_words(text))


def _only(found: dict[str, list[BootFile]], role: str) -> BootFile | None:
    return found[role][0] if role in found else None


def _boot_file(line: str, text: str) -> tuple[str, BootFile]:
    role, mode, owner, group, filesystem, options, blocks, size, kept, path = line.split(" ", 9)
    key, _, encoded = text.partition(" ")
    if key != "text":
        raise ValueError(text)
    return role, BootFile(
        path=path,
        text=decoded(encoded),
        mode=mode,
        owner=owner,
        group=group,
        filesystem=filesystem,
        read_only="ro" in options.split(","),
        free=int(blocks) * int(size),
        kept=kept == "yes",
    )


MEMORY_CONTROLLED = Check(
    "kernel",
    "grep -qw memory /sys/fs/cgroup/cgroup.controllers",
    "the memory cgroup is off; a reboot is due, or the kernel does not know the words",
)
