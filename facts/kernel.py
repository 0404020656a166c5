"""Read the kernel's command line: that of this boot, and that in the files for the next one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import override

from chaos_engine.facts.health import Check
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import decoded
from chaos_engine.templates import shell_script

RECORD = "/var/lib/chaos-engine/reboot"
"""The note of a reboot: its causes, and the ID of the boot that it ended."""

BACKUP_SUFFIX = ".chaos-engine.bak"
"""The end of an original's name beside its boot file: a card can be fixed on another computer."""

GRUB_DROP_IN = "/etc/default/grub.d/99-chaos-engine.cfg"

# As the kernel splits it: white space separates, a double quote protects it to the next one or
# to the end (lib/cmdline.c, next_arg).
_WORD = re.compile(r'(?:[^ \t\r\n\v\f"]|"[^"]*(?:"|$))+')


@dataclass(frozen=True)
class BootFile(Value):
    """A file with words for the next boot.

    + text: its exact content; bytes that are not UTF-8 are escaped as by ``os.fsdecode``
    + free: bytes that are free on its file system
    + kept: whether its original is beside it
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


_NAMES = f"backup_suffix={BACKUP_SUFFIX} drop_in={GRUB_DROP_IN} record={RECORD}"
SCRIPT = f"{_NAMES}\n{shell_script('kernel')}"


class KernelCmdline(NodeFact[Cmdline]):
    """The kernel's command line of this boot and of the next, and whether it is needed.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.kernel.KernelCmdline``
    """

    @override
    def command(self) -> str:
        return SCRIPT

    @override
    def parse(self, lines: list[str]) -> Cmdline:
        return parse_cmdline(lines)


def split_words(text: str) -> list[str]:
    """Split a command line into words as the kernel does.

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
    """Tell whether a text names a root file system, as every real command line does."""
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
