"""Read the kernel's command line of this boot, and the files with that of the next boot."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import override

from chaos_engine.facts.health import Check
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import decoded, grouped
from chaos_engine.templates import shell_script

RECORD = "/var/lib/chaos-engine/reboot"
"""A file with the causes of reboots by runs; for each, the ID of the boot that the reboot ended."""

BACKUP_SUFFIX = ".chaos-engine.bak"
"""The end of the name of a boot file's original. The original is in the boot file's folder, so that
the card of a node that does not boot can be fixed on another computer."""

GRUB_DROP_IN = "/etc/default/grub.d/99-chaos-engine.cfg"

# A word, as the kernel splits its command line: white space ends a word, but not in quotes. A
# double quote begins them; the next one, or the end of the line, ends them (lib/cmdline.c,
# next_arg)
_WORD = re.compile(r'(?:[^ \t\r\n\v\f"]|"[^"]*(?:"|$))+')


@dataclass(frozen=True)
class BootFile(Value):
    """A file with words for the next boot.

    + text: its exact content; bytes that are not UTF-8 are escaped as by ``os.fsdecode``
    + free: bytes that are free on its file system
    + kept: whether its original is beside it (`BACKUP_SUFFIX`)
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
    """What is known of a node's kernel command line.

    + words: those of the running kernel, including the ones that the firmware adds
    + controllers: the cgroup controllers that the kernel offers
    + cgroup: the version of the control groups
    + memory: whether the memory controller is there
    + boot_id: the ID of this boot
    + file: the file that the firmware reads at the next boot, ``None`` if there is none
    + pending: the file that replaces `file` if the kernel that Ubuntu tries (piboot-try) boots
    + rejected: files at the known places that are no command line: they have no ``root=``
    + extra: the file of words that raspi-firmware adds whenever it writes `file` anew
    + grub: whether GRUB makes the command line
    + drop_in: this package's file for GRUB
    + rebooted: the causes in `RECORD`; for each, the ID of the boot that the reboot ended
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


_NAMES = f"backup_suffix={BACKUP_SUFFIX} drop_in={GRUB_DROP_IN} record={RECORD}"
SCRIPT = f"{_NAMES}\n{shell_script('kernel')}"


class KernelCmdline(NodeFact[Cmdline]):
    """The kernel's command line of this boot, and the files with that of the next boot.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.kernel.KernelCmdline``
    """

    @override
    def command(self) -> str:
        return SCRIPT

    @override
    def parse(self, lines: list[str]) -> Cmdline:
        """Read the script's ``KEY VALUE`` lines. After each ``file`` line comes its ``text``."""
        words = "boot_id cmdline cgroup controllers memory_v1 extra_missing grub rebooted file text"
        found = grouped(lines, words)
        files: dict[str, list[BootFile]] = {"place": [], "pending": [], "extra": [], "drop_in": []}
        for line, text in zip(found["file"], found["text"], strict=True):
            role, boot_file = _boot_file(line, text)
            files[role].append(boot_file)
        for path in found["extra_missing"]:
            missing = BootFile(path, "", "644", "root", "root", "", False, 1 << 30, False)
            files["extra"].append(missing)
        places = files["place"]
        command_lines = [place for place in places if _has_root(place.text)]
        rebooted = (line.partition(" ") for line in found["rebooted"])
        controllers = tuple(found["controllers"][0].split())
        cgroup = {"cgroup2": "v2", "tmpfs": "v1"}.get(found["cgroup"][0], "none")
        return Cmdline(
            words=tuple(split_words(decoded(found["cmdline"][0]))),
            controllers=controllers,
            cgroup=cgroup,  # type: ignore[arg-type]
            # /proc/cgroups has no row for memory where the kernel lacks version 1 of it
            memory="memory" in controllers if cgroup == "v2" else found["memory_v1"] == ["1"],
            boot_id=found["boot_id"][0],
            file=next(iter(command_lines), None),
            pending=next(iter(files["pending"]), None),
            rejected=() if command_lines else tuple(places),
            extra=next(iter(files["extra"]), None),
            grub=bool(found["grub"]),
            drop_in=next(iter(files["drop_in"]), None),
            rebooted={cause: boot for cause, _, boot in rebooted},
        )


def split_words(text: str) -> list[str]:
    """Split a command line into words as the kernel does.

    **Example:** ``split_words('quiet dyndbg="file a.c +p"')`` gives two words.
    """
    return _WORD.findall(text)


def _has_root(text: str) -> bool:
    """Tell whether a text names a root file system, as every real command line does."""
    return any(word.startswith("root=") for word in split_words(text))


def _boot_file(line: str, text: str) -> tuple[str, BootFile]:
    """Return the role of a boot file, and the file.

    + line: what follows ``file``: its role and properties
    + text: what follows ``text``: its content in base64
    """
    role, mode, owner, group, filesystem, options, blocks, size, kept, path = line.split(" ", 9)
    return role, BootFile(
        path=path,
        text=decoded(text),
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
