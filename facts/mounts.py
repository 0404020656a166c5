"""Read what is mounted at a path of the node, and whether its file system answers."""

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
"""How long a file system may take to answer before it counts as hanging. A Gluster client changes
from a silent server to another one in less time (``ping-timeout``), so it does not count as hanging
meanwhile. An NFS client has only one server."""

_LIST = "/proc/self/mountinfo"

_PLACES = r"/|/(?:boot|etc|usr)(?:/\S*)?|/var/log|/sys/fs/cgroup"


def _at(places: str) -> tuple[str, str]:
    """Return the pattern of `Texts` for the mounts at some places, a regular expression."""
    return _LIST, rf"^(?:\S+ ){{4}}(?:{places}) .*\n"


MOUNTS = _at(_PLACES)
"""A pattern of `Texts`: the mounts of the system's own places. Users may have mounted a lot
elsewhere, with long names."""

Answer = Literal["answers", "fails", "hangs"]


@dataclass(frozen=True)
class Mount(Value):
    """One line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).

    + target: where it is mounted
    + root: the folder of its file system that is mounted there
    + source: device or share, "none" if there is none
    + fstype: file system type, "fuse.glusterfs"
    + options: of this mount; super_options: of its file system
    + device: "major:minor"
    + number, parent: ids of this mount, and of the mount that its target is on
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

    + path: absolute path, without white space and backslashes

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
    """Whether the file system at a path answers within `ANSWER_SECONDS`.

    "answers" if it does, "hangs" if it does not, or "fails" if it answers with an error, such as
    for a missing path.

    + path: absolute path

    **Example:** ``host.get_fact(Answers, path="/var/log")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        # A process that waits for a dead share cannot be killed. So `timeout` kills a shell that
        # has started `find`, and `find` does not keep this command's output open. `find` reads the
        # folder, because a Gluster volume that has lost its quorum still answers statfs(2). It
        # reads only the first names, because others may fill the folder. It follows no link
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
    """Return the mounts in an answer to a read of `MOUNTS`. Their names need not be UTF-8."""
    return parse_mounts((texts[_LIST] or b"").decode(errors="backslashreplace"))


def mount_of(mounts: Iterable[Mount], path: str) -> Mount | None:
    """Return the mount that a path is on, ``None`` if none of these."""
    above = [m for m in mounts if path == m.target or path.startswith(f"{m.target.rstrip('/')}/")]
    longest = max((mount.target for mount in above), key=len, default="")
    return mounted_at(above, longest)


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Read the text of ``/proc/self/mountinfo``.

    Between the options and a hyphen there may be optional fields. Space, tab, newline, backslash
    and ``#`` in a name are written as ``\\ooo``, in octal digits.
    """
    mounts = []
    # splitlines would also split at other characters than the line feed. Names may have these: the
    # kernel does not escape them, and a local user may choose names
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
    """Return the mount that is visible at `path`, or ``None``. Of several it is the topmost."""
    at_path = [mount for mount in mounts if mount.target == path]
    covered = {mount.parent for mount in at_path}
    return next((mount for mount in reversed(at_path) if mount.number not in covered), None)
