"""Read which file systems are mounted at a path of the node, and whether they respond."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.text import unescaped

ANSWER_SECONDS = 15
"""The time in seconds after which a file system without a response counts as hanging. A Gluster
client needs less time to change from a silent server to another server (``ping-timeout``). An NFS
client has only one server."""

_LIST = "/proc/self/mountinfo"

_PLACES = r"/|/(?:boot|etc|usr)(?:/\S*)?|/var/log|/sys/fs/cgroup"


def _at(places: str) -> tuple[str, str]:
    """Return a pattern for the fact `Texts`, to read only the mounts at some paths.

    + places: a regular expression that matches these paths
    """
    return _LIST, rf"^(?:\S+ ){{4}}(?:{places}) .*\n"


MOUNTS = _at(_PLACES)
"""A pattern for the fact `Texts`, to read only the mounts at the system's own paths. A node may
have many other mounts, with long names."""

DISKS = (_LIST, r"^(?!.* - overlay ).*\n?")
"""A pattern for the fact `Texts`, to read all mounts but overlays. Docker mounts an overlay for
each container, with long options."""

Answer = Literal["answers", "fails", "hangs"]


@dataclass(frozen=True)
class Mount(Value):
    """One line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).

    + target: the path of the mount point
    + root: the folder of the file system that is mounted at `target`; "/" if the whole file system
      is mounted
    + source: the device or share; "none" if there is none
    + fstype: file system type, such as "fuse.glusterfs"
    + options: options of this mount
    + super_options: options of the file system
    + device: "major:minor"
    + number: id of this mount
    + parent: id of the mount that contains `target`
    """

    target: str
    source: str
    fstype: str
    options: tuple[str, ...]
    super_options: tuple[str, ...]
    root: str
    device: str
    number: int
    parent: int


class Mounts(ComposedFact[tuple[Mount, ...]]):
    """The mounts at a path, in the order in which they were made.

    + path: absolute path without white space or backslashes

    **Example:** ``host.get_fact(Mounts, path="/var/log")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        return super().command(path=path)

    @override
    def reads(self, path: str) -> tuple[Read, ...]:
        pattern = MOUNTS if re.fullmatch(_PLACES, path) else _at(re.escape(path))
        return (Read.of(Texts, patterns=(pattern,)),)

    @override
    def compose(self, texts: dict[str, bytes | None], path: str) -> tuple[Mount, ...]:
        return tuple(mount for mount in mounts_in(texts) if mount.target == path)


class Answers(NodeFact[Answer]):
    """Whether the file system at a path responds within `ANSWER_SECONDS`.

    The value is "answers" if the path can be read, and "fails" if reading it gives an error. It is
    "hangs" if there is no response in time. A path that does not exist gives "fails".

    + path: absolute path

    **Example:** ``host.get_fact(Answers, path="/var/log")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        # A process that waits for a dead share cannot be killed. So `timeout` kills a shell that
        # has started `find`, and `find` does not keep this command's output open. `find` reads the
        # folder, because a Gluster volume that has lost its quorum still answers statfs(2). `find`
        # reads only the first names, because other machines may fill the folder. `find` follows no
        # link
        probe = StringCommand(
            "find", QuoteString(path), "-maxdepth 0 -empty >/dev/null 2>&1; exit $?"
        )
        return StringCommand(
            f"timeout -k 1 {ANSWER_SECONDS} sh -c",
            QuoteString(probe),
            "; case $? in 0) echo answers;; 124|137) echo hangs;; *) echo fails;; esac",
        )

    @override
    def parse(self, lines: list[str]) -> Answer:
        words: dict[str, Answer] = {word: word for word in get_args(Answer)}
        return words[lines[0]]


def mounts_in(texts: Mapping[str, bytes | None]) -> tuple[Mount, ...]:
    """Return the mounts that the fact `Texts` has read.

    + texts: the value of `Texts`, read with the pattern `MOUNTS` or `DISKS`. Bytes that are not
      UTF-8 are escaped in the result
    """
    return parse_mounts((texts[_LIST] or b"").decode(errors="backslashreplace"))


def mount_of(mounts: Iterable[Mount], path: str) -> Mount | None:
    """Return the mount that contains a path, ``None`` if no mount contains the path."""
    above = [m for m in mounts if path == m.target or path.startswith(f"{m.target.rstrip('/')}/")]
    longest = max((mount.target for mount in above), key=len, default="")
    return mounted_at(above, longest)


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Return the mounts in the text of ``/proc/self/mountinfo``.

    A line may have optional fields between the mount options and a hyphen. The kernel writes space,
    tab, newline, backslash and ``#`` in a name as ``\\ooo``, in octal digits.
    """
    mounts = []
    # `splitlines` would split at other characters than the line feed too. The kernel does not
    # escape these characters, and a local user may choose a name that contains them
    for line in filter(None, text.split("\n")):
        number, parent, device, root, target, options, *rest = line.split(" ")
        fstype, source, super_options = [*rest[rest.index("-") + 1 :], "", ""][:3]
        mounts.append(
            Mount(
                target=unescaped(target),
                source=unescaped(source),
                fstype=fstype,
                options=tuple(options.split(",")),
                super_options=tuple(super_options.split(",")),
                root=unescaped(root),
                device=device,
                number=int(number),
                parent=int(parent),
            )
        )
    return tuple(mounts)


def mounted_at(mounts: Iterable[Mount], path: str) -> Mount | None:
    """Return the topmost mount at `path`, ``None`` if nothing is mounted there."""
    at_path = [mount for mount in mounts if mount.target == path]
    covered = {mount.parent for mount in at_path}
    return next((mount for mount in reversed(at_path) if mount.number not in covered), None)
