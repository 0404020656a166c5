"""Read which file system holds Docker's data, and how this file system is mounted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts import fstab
from chaos_engine.facts.files import Texts
from chaos_engine.facts.fstab import PATH as FSTAB
from chaos_engine.facts.manifest import MANIFEST
from chaos_engine.facts.mounts import (
    DISKS,
    Mount,
    mount_of,
    mounted_at,
    mounts_in,
    parse_mounts,
)
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.systemd_files import texts_of
from chaos_engine.facts.text import grouped

DATA_ROOT = "/var/lib/docker"
"""Docker's data folder, unless Docker's configuration names another folder."""

COMMIT_SECONDS = 5
"""The default number of seconds between two commits of ext4's journal (ext4(5))."""

_EXT4 = "/proc/fs/ext4/"
_DEVICES = "/proc/partitions"
_NOTED = (MANIFEST, r"^container_logs\tmount\t.*\n?")


@dataclass(frozen=True)
class DataDisk(Value):
    """The file system that holds a folder.

    + path: the folder, with all symbolic links resolved. It may not exist yet
    + mount: the mount that contains `path`
    + commit: seconds between two commits of the journal; ``None`` if the file system has no
      journal, or is not ext4
    + fstab: the exact text of ``/etc/fstab``. Bytes that are not UTF-8 are escaped as by
      ``os.fsdecode``
    """

    path: str
    mount: Mount
    commit: int | None
    fstab: str

    @property
    def options(self) -> tuple[str, ...]:
        """Return the mount options in force, such as ``relatime``, ``lazytime`` and ``commit=5``.

        The value has one option of each family. For example, ``noatime`` and ``relatime`` belong to
        the same family (`chaos_engine.operations.fstab`).
        """
        atime = next((o for o in self.mount.options if o in ("noatime", "relatime")), "strictatime")
        lazy = "lazytime" if "lazytime" in self.mount.super_options else "nolazytime"
        return (atime, lazy, *([] if self.commit is None else [f"commit={self.commit}"]))


class _Place(NodeFact[tuple[str, Mount]]):
    """A folder's path, with all symbolic links resolved, and the mount that contains the folder."""

    @override
    def command(self, path: str) -> StringCommand:
        # The list of mounts is long, because each container adds some. So only the mounts that
        # contain the path are printed. The kernel escapes blanks and backslashes in mount points
        return StringCommand(
            "path=$(readlink -m --",
            QuoteString(path),
            """) && printf 'path %s\\n' "$path" && path=$path awk '
  BEGIN {
    path = ENVIRON["path"] "/"
    gsub(/\\\\/, "\\\\134", path); gsub(/ /, "\\\\040", path); gsub(/\\t/, "\\\\011", path)
  }
  index(path, ($5 == "/" ? "" : $5) "/") == 1 { print "mount", $0 }' /proc/self/mountinfo""",
        )

    @override
    def parse(self, lines: list[str]) -> tuple[str, Mount]:
        found = grouped(lines, "path mount")
        (path,) = found["path"]
        mount = mount_of(parse_mounts("\n".join(found["mount"])), path)
        if mount is None:
            raise ValueError(f"no mount contains {path}")
        return path, mount


class DockerDisk(ComposedFact[DataDisk]):
    """The file system that holds Docker's data folder.

    + path: absolute path of the folder. The folder need not exist yet

    **Example:** ``host.get_fact(DockerDisk, path="/var/lib/docker")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        return super().command(path=path)

    @override
    def reads(self, path: str) -> tuple[Read, ...]:
        patterns = (FSTAB, _DEVICES, f"{_EXT4}*/options")
        return (Read.of(_Place, path=path), Read.of(Texts, patterns=patterns))

    @override
    def compose(
        self, place: tuple[str, Mount], found: dict[str, bytes | None], path: str
    ) -> DataDisk:
        texts = texts_of(found)
        at, mount = place
        return DataDisk(at, mount, commit_seconds(mount, texts), texts.get(FSTAB, ""))


def commit_seconds(mount: Mount, texts: Mapping[str, str]) -> int | None:
    """Return the number of seconds between two commits of a file system's journal.

    + mount: the file system's mount
    + texts: the text of ``/proc/partitions`` and of each file ``/proc/fs/ext4/*/options``, by path

    Returns ``None`` if there is no journal, or if the file system is not ext4. A file system has no
    journal if its file ``options`` has no ``data=`` (fs/ext4/super.c, ext4_show_options and
    ext4_load_and_init_journal).
    """
    if mount.fstype != "ext4":
        return None
    rows = (line.split() for line in texts.get(_DEVICES, "").split("\n"))
    names = {":".join(row[:2]): row[3] for row in rows if len(row) == 4}
    name = names.get(mount.device)
    if name is not None and (text := texts.get(f"{_EXT4}{name}/options")) is not None:
        options = text.split("\n")
        if not any(option.startswith("data=") for option in options):
            return None
    else:
        options = [*mount.super_options]
    given = (option.partition("=")[2] for option in options if option.startswith("commit="))
    return int(next(given, COMMIT_SECONDS))


class LostOptions(ComposedFact[tuple[str, ...]]):
    """The mount options of ``/etc/fstab`` that are not in force, such as ``noatime of /``.

    The fact looks only at the mounts whose options a run has changed, and only at options that
    `chaos_engine.operations.container_logs` sets.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.container_logs.LostOptions``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (Read.of(Texts, patterns=(FSTAB, DISKS, _NOTED)),)

    @override
    def compose(self, found: dict[str, bytes | None]) -> tuple[str, ...]:
        texts = texts_of(found)
        targets = noted_targets(texts.get(MANIFEST, ""))
        return tuple(lost_options(texts.get(FSTAB, ""), mounts_in(found), targets))


def noted_targets(lines: str) -> tuple[str, ...]:
    """Return the mount points whose mount options a run has changed, without duplicates.

    + lines: the concern's lines of the kind ``mount`` in the node's manifest. A line that was cut
      short does not count
    """
    fields = (line.split("\t") for line in lines.split("\n"))
    names = (one[3] for one in fields if len(one) == 5 and one[4] == ".")
    return tuple(dict.fromkeys(name.partition(" ")[2] for name in names))


def lost_options(text: str, mounts: Iterable[Mount], targets: Iterable[str]) -> Iterator[str]:
    """Yield each option of fstab with which a file system is not mounted. This is a pure function.

    + text: the text of ``/etc/fstab``
    + mounts: the present mounts
    + targets: the mount points to look at. A mount point without an entry in fstab is left out

    **Example:** ``"commit=600 of /mnt/ssd"``
    """
    mounts = tuple(mounts)
    for target in targets:
        mount = mounted_at(mounts, target)
        found = (*mount.options, *mount.super_options) if mount else ()
        for entry in fstab.mounted_at(text, target)[:1]:
            for option in fstab.options(text.split("\n")[entry.number - 1]).split(","):
                # The kernel does not show the default of commit=
                default = option == f"commit={COMMIT_SECONDS}"
                ours = re.fullmatch("noatime|lazytime|commit=.*", option)
                if ours and not default and option not in found:
                    yield f"{option} of {target}"


NOT_AS_IN_FSTAB = (
    "the file system of Docker's data is not mounted with the options of /etc/fstab; deploy again, "
    "or reboot the node (findmnt shows the options)"
)
