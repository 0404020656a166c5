"""Define three classes: a wanted file, a wanted systemd unit, and a plan of changes to a node."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from chaos_engine.facts.files import FileState
from chaos_engine.facts.systemd import RECORDS, checksum
from chaos_engine.facts.unit_traces import UNITS
from chaos_engine.operations.engine.arguments import AbsolutePath, Mode, Owner, UnitName
from chaos_engine.operations.engine.repairs import Repair
from chaos_engine.operations.engine.shell import quote


def beside(path: str, suffix: str) -> str:
    """Return the path of a hidden file in the folder of another file.

    **Example:** ``beside("/etc/hosts", "chaos")`` gives ``/etc/.hosts.chaos``.
    """
    head, tail = posixpath.split(path)
    return posixpath.join(head, f".{tail}.{suffix}")


@lru_cache(maxsize=256)
def _sha256(data: bytes) -> str:
    """Return the SHA-256 of data, in hex.

    The results are cached, because many hosts get the same files.
    """
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class File:
    """A file that shall be on the node.

    + path: absolute path
    + content: text or bytes. The ``repr`` leaves it out, so that no log can show it
    + mode: octal without leading zeros; ``None`` on a file system without modes (vfat)
    + owner, group: names; ignored if `mode` is ``None``
    + secret: whether the content must never be shown, for example in a diff
    + merged: whether only a part of the content comes from this package, and the rest from the
      node. An undo removes only this package's part from a merged file. A merged file that already
      exists keeps its mode, owner, ACL and extended attributes
    """

    path: AbsolutePath
    content: str | bytes = field(repr=False)
    mode: Mode | None = "644"
    owner: Owner = "root"
    group: Owner = "root"
    secret: bool = False
    merged: bool = False

    @property
    def data(self) -> bytes:
        """Return the content as bytes."""
        return self.content.encode() if isinstance(self.content, str) else self.content

    @property
    def sha256(self) -> str:
        """Return the content's SHA-256 checksum, in hex."""
        return _sha256(self.data)

    @property
    def shown(self) -> bool:
        """Tell whether the content may be shown in a diff."""
        return not self.secret and len(self.data) <= 1 << 20 and b"\0" not in self.data

    @property
    def staged(self) -> str:
        """Return the path of a temporary file with the new content.

        At the end, a rename moves the temporary file to `path`.
        """
        return beside(self.path, "chaos")

    def matches(self, state: FileState | None) -> bool:
        """Tell whether the node has exactly this file. A merged file may have any mode and owner.

        + state: the state of the path on the node, ``None`` if nothing is there
        """
        if state is None or (state.kind, state.sha256) != ("file", self.sha256):
            return False
        if self.mode is None or self.merged:
            return True
        return (state.mode, state.owner, state.group) == (self.mode, self.owner, self.group)


@dataclass(frozen=True)
class Unit:
    """A systemd unit, the files that it reads, and the state that it shall have.

    + name: the unit's name with its suffix, such as ``docker.service``
    + reads: paths of the files that the unit reads when it starts, or patterns such as
      ``/folder/*.conf``. At each start, a drop-in records the checksum of these files. If a
      later run finds another checksum, it restarts the unit
    + enabled: whether the unit shall start at boot; ``None`` changes nothing
    + running: whether the unit shall run now; ``None`` changes nothing
    + required: what happens if the unit does not start. If true, the old files are restored, and
      the operation fails. If false, the new files stay, and the last lines of the unit's journal
      are printed
    + ready: shell command that runs after the start. If it fails, the start counts as failed. The
      command has to end by itself
    """

    name: UnitName
    reads: tuple[AbsolutePath, ...] = ()
    enabled: bool | None = True
    running: bool | None = True
    required: bool = True
    ready: str = ""

    @property
    def record(self) -> File:
        """Return the drop-in that records the checksum of the files in `reads`.

        The drop-in works at each start of the unit.
        """
        command = checksum(self.reads).get_raw_value().replace("%", "%%").replace("$", "$$")
        escaped = f"umask 077; mkdir -p {RECORDS}; {command} > {quote(f'{RECORDS}/{self.name}')}"
        escaped = escaped.replace("\\", "\\\\").replace('"', '\\"')
        return File(
            f"/etc/systemd/system/{self.name}.d/50-chaos-engine.conf",
            "# Which configuration the running service has read; written by chaos-engine\n"
            f'[Service]\nExecStartPre=-+/bin/sh -c "{escaped}"\n',
        )


@dataclass(frozen=True)
class Plan:
    """What has to be done on a node. ``bool(plan)`` is false if the plan is empty.

    + write: the files to write
    + remove: the paths to remove
    + daemon_reload: whether to call ``systemctl daemon-reload``
    + stop, start, restart, unmask, enable, reenable, disable: the units for each systemctl command
    + why: the reasons, in plain words
    + repairs: a `Repair` for each thing that the plan changes, such as a file or a unit
    """

    write: tuple[File, ...] = ()
    remove: tuple[str, ...] = ()
    daemon_reload: bool = False
    stop: tuple[Unit, ...] = ()
    start: tuple[Unit, ...] = ()
    restart: tuple[Unit, ...] = ()
    unmask: tuple[Unit, ...] = ()
    enable: tuple[Unit, ...] = ()
    reenable: tuple[Unit, ...] = ()
    disable: tuple[Unit, ...] = ()
    why: tuple[str, ...] = field(default=(), compare=False)
    repairs: tuple[Repair, ...] = field(default=(), compare=False)

    def __bool__(self) -> bool:
        return self != Plan()

    def explained_by(self, repairs: Iterable[Repair]) -> Plan:
        """Return the plan for an operation that gives its own reasons.

        + repairs: the repairs of the whole operation. They replace the repairs of files and units

        The returned plan has no reasons, because the operation has given them by `because`.
        """
        return replace(self, why=(), repairs=tuple(repairs))


def unit_files(files: Iterable[File]) -> tuple[File, ...]:
    """Return the unit files among these files. Drop-ins do not count."""
    return tuple(file for file in files if posixpath.dirname(file.path) == UNITS)


def wanted_links(file: File) -> dict[str, str]:
    """Return the links that ``systemctl enable`` makes for a unit file.

    The result maps the path of each link to the link's target.
    """
    lines = (line.partition("=") for line in file.data.decode().splitlines())
    targets = [name for key, _, value in lines if key == "WantedBy" for name in value.split()]
    name = posixpath.basename(file.path)
    return {f"{UNITS}/{target}.wants/{name}": file.path for target in targets}
