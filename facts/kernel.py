"""Read the kernel's command line of this boot, and the files that set it for the next boot."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.health import Check
from chaos_engine.facts.mounts import MOUNTS, Mount, mount_of, mounted_at, mounts_in
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.systemd_files import texts_of
from chaos_engine.facts.text import decoded, grouped
from chaos_engine.templates import shell_script

RECORD = "/var/lib/chaos-engine/reboot"
"""A file that lists reboots by earlier runs. Each line has the cause of a reboot, and the ID of the
boot before this reboot."""

BACKUP_SUFFIX = ".chaos-engine.bak"
"""The suffix of a boot file's backup. The backup is in the boot file's folder. So if a node does
not boot, the user can put its card into another computer and restore the boot file there."""

GRUB_DROP_IN = "/etc/default/grub.d/99-chaos-engine.cfg"

# A word of the kernel's command line (lib/cmdline.c, next_arg). White space ends a word, but not
# within double quotes. A double quote without a second one lasts until the end of the line
_WORD = re.compile(r'(?:[^ \t\r\n\v\f"]|"[^"]*(?:"|$))+')


@dataclass(frozen=True)
class BootFile(Value):
    """A file with words of the kernel's command line for the next boot.

    + text: the exact content; bytes that are not UTF-8 are escaped as by ``os.fsdecode``
    + free: free bytes on the file's file system
    + kept: whether a backup of the file's original is in the same folder (`BACKUP_SUFFIX`)
    """

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
    """The kernel's command line of this boot, and the files that set it for the next boot.

    + words: the words of the running kernel, including the words that the firmware adds
    + controllers: the cgroup controllers that the kernel offers
    + cgroup: the version of the control groups
    + memory: whether the kernel offers the memory controller
    + boot_id: the ID of this boot
    + file: the file that the firmware reads at the next boot, ``None`` if there is none
    + pending: the file for a new kernel that Ubuntu tries at the next boot (piboot-try). If the
      new kernel boots, this file replaces `file`
    + rejected: the files that are at the usual places of `file`, but have no ``root=``. Empty if
      `file` is not ``None``
    + extra: a file with more words. raspi-firmware adds these words when it rewrites `file`
    + grub: whether GRUB sets the command line
    + drop_in: this package's drop-in for GRUB
    + rebooted: the reboots by earlier runs (`RECORD`). A key is the cause of a reboot, and the
      value is the ID of the boot before the reboot
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


_EXTRA = "/etc/default/raspi-extra-cmdline"
_NAMES = f"backup_suffix={BACKUP_SUFFIX} drop_in={GRUB_DROP_IN} extra={_EXTRA}"
SCRIPT = f"{_NAMES}\n{shell_script('kernel')}"

CMDLINE = "/proc/cmdline"
_RELEASE = "/proc/sys/kernel/osrelease"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
_CONTROLLERS = "/sys/fs/cgroup/cgroup.controllers"
_CONTROLLERS_V1 = "/proc/cgroups"
_FIRMWARE_HOOK = "/etc/kernel/postinst.d/z50-raspi-firmware"
_CGROUPS: dict[str, Literal["v2", "v1"]] = {"cgroup2": "v2", "tmpfs": "v1"}


class KernelRelease(ComposedFact[str]):
    """The version of the running kernel, as ``uname -r`` prints it.

    **Example:** ``host.get_fact(KernelRelease) == "6.12.34+rpt-rpi-v8"``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (Read.of(Texts, patterns=(_RELEASE,)),)

    @override
    def compose(self, found: dict[str, bytes | None]) -> str:
        return texts_of(found)[_RELEASE].strip()


@dataclass(frozen=True)
class BootFilesState(Value):
    """The files that `BootFiles` finds.

    + files: pairs of a kind and a file, in the order of precedence. The kind "place" is a file at a
      usual place of the command line. The kinds "pending", "extra" and "drop_in" are the fields of
      `Cmdline` with these names. `BootFiles` does not read the fields `filesystem` and
      `read_only` of a file. `KernelCmdline` fills in these two fields
    + grub: whether GRUB sets the command line
    """

    files: tuple[tuple[str, BootFile], ...]
    grub: bool


class BootFiles(NodeFact[BootFilesState]):
    """The files that set the kernel's command line for the next boot. `KernelCmdline` uses them.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.kernel.BootFiles``
    """

    @override
    def command(self) -> str:
        return SCRIPT

    @override
    def parse(self, lines: list[str]) -> BootFilesState:
        """Parse lines ``KEY VALUE``.

        Each file has four lines, with the keys ``file``, ``stat``, ``free`` and ``text``.
        """
        found = grouped(lines, "grub file stat free text")
        files = []
        columns = (found[key] for key in ("file", "stat", "free", "text"))
        for file, stat, free, content in zip(*columns, strict=True):
            role, _, path = file.partition(" ")
            mode, owner, group = stat.split(" ")
            blocks, size = map(int, free.split(" "))
            kept, _, text = content.partition(" ")
            boot_file = BootFile(
                path, decoded(text), mode, owner, group, "", False, blocks * size, kept == "yes"
            )
            files.append((role, boot_file))
        return BootFilesState(tuple(files), bool(found["grub"]))


class KernelCmdline(ComposedFact[Cmdline]):
    """The kernel's command line of this boot, and the files that set it for the next boot.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.kernel.KernelCmdline``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        memory = (_CONTROLLERS_V1, r"^memory\s.*")
        hook = (_FIRMWARE_HOOK, re.escape(posixpath.basename(_EXTRA)))
        texts = (CMDLINE, BOOT_ID, _CONTROLLERS, memory, hook, RECORD, MOUNTS)
        return Read.of(BootFiles), Read.of(Texts, patterns=texts)

    @override
    def compose(self, boot: BootFilesState, found: dict[str, bytes | None]) -> Cmdline:
        mounts = mounts_in(found)
        files: dict[str, list[BootFile]] = {"place": [], "pending": [], "extra": [], "drop_in": []}
        for role, file in boot.files:
            files[role].append(_on_its_mount(file, mounts))
        if found.get(_FIRMWARE_HOOK) and not files["extra"]:
            missing = BootFile(_EXTRA, "", "644", "root", "root", "", False, 1 << 30, False)
            files["extra"].append(missing)
        places = files["place"]
        command_lines = [place for place in places if _has_root(place.text)]
        texts = texts_of(found)
        rebooted = (line.partition(" ") for line in texts.get(RECORD, "").splitlines())
        controllers = tuple(texts.get(_CONTROLLERS, "").split())
        cgroup = cgroup_version(mounts)
        # The row is missing if the kernel lacks version 1 of the memory controller
        memory_v1 = texts.get(_CONTROLLERS_V1, "").split()[3:4] == ["1"]
        return Cmdline(
            words=tuple(split_words(texts[CMDLINE].rstrip("\n"))),
            controllers=controllers,
            cgroup=cgroup,
            memory="memory" in controllers if cgroup == "v2" else memory_v1,
            boot_id=texts[BOOT_ID].strip(),
            file=next(iter(command_lines), None),
            pending=next(iter(files["pending"]), None),
            rejected=() if command_lines else tuple(places),
            extra=next(iter(files["extra"]), None),
            grub=boot.grub,
            drop_in=next(iter(files["drop_in"]), None),
            rebooted={cause: boot for cause, _, boot in rebooted},
        )


def cgroup_version(mounts: Iterable[Mount]) -> Literal["v2", "v1", "none"]:
    """Return the version of the control groups, or "none" if they are not mounted.

    + mounts: the node's mounts
    """
    mount = mounted_at(mounts, "/sys/fs/cgroup")
    return _CGROUPS.get(mount.fstype if mount else "", "none")


def _on_its_mount(file: BootFile, mounts: Iterable[Mount]) -> BootFile:
    """Return a copy of a boot file, with the fields `filesystem` and `read_only` filled in.

    The two values come from the mount that contains the file. If no mount contains the file, the
    function returns the boot file itself, unchanged.
    """
    mount = mount_of(mounts, file.path)
    if mount is None:
        return file
    read_only = "ro" in (*mount.options, *mount.super_options)
    return replace(file, filesystem=mount.fstype, read_only=read_only)


def split_words(text: str) -> list[str]:
    """Split a kernel command line into words, as the kernel does.

    **Example:** ``split_words('quiet dyndbg="file a.c +p"')`` gives two words.
    """
    return _WORD.findall(text)


def _has_root(text: str) -> bool:
    """Tell whether a text has a word ``root=...``, as every kernel command line has."""
    return any(word.startswith("root=") for word in split_words(text))


MEMORY_CONTROLLED = Check(
    "kernel",
    "grep -qw memory /sys/fs/cgroup/cgroup.controllers",
    "the memory cgroup is off; reboot the node, or use a kernel that can turn it on",
)
