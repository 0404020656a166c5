"""What is mounted on the node, and whether it answers."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import unescaped

ANSWER_SECONDS = 15
"""A file system that has not answered after so many seconds hangs. A Gluster client gives a silent
server up before (``ping-timeout``), so that one that goes over to another server does not count. An
NFS client has no other one."""

Answer = Literal["answers", "fails", "hangs"]


@dataclass(frozen=True)
class Mount(Value):
    """One line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5)).

    + target: where it is mounted; root: which folder of its file system is seen there
    + source: device or share, "none" if there is none
    + fstype: file system type, "fuse.glusterfs"
    + options: of this mount; super_options: of its file system
    + device: "major:minor"
    + number, parent: ids of the mount, and of the one it stands on
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


class Mounts(NodeFact[tuple[Mount, ...]]):
    """All that is mounted at a path, in the order in which it was.

    + path: absolute path, without white space and backslashes

    **Example:** ``host.get_fact(Mounts, path="/var/log")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        # Names on other file systems need not be UTF-8. Users may mount a lot, with long names
        return StringCommand(
            "awk -v", QuoteString(f"at={path}"), "'$5 == at' /proc/self/mountinfo | base64"
        )

    @staticmethod
    @override
    def default() -> tuple[Mount, ...]:
        return ()

    @override
    def parse(self, lines: list[str]) -> tuple[Mount, ...]:
        text = base64.b64decode("".join(lines), validate=True)
        return parse_mounts(text.decode(errors="backslashreplace"))


class Answers(NodeFact[Answer]):
    """Whether the file system at a path answers: "fails" is an error, also that of a missing path.

    + path: absolute path

    **Example:** ``host.get_fact(Answers, path="/var/log")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        # A process that waits for a dead share cannot be killed. So it is the child of a shell,
        # which can, and holds neither this command's output nor its end. The directory is read:
        # statfs(2) is answered also by a Gluster volume that has lost its quorum. No more than its
        # first names, for others may fill it; and no link is followed, for none of them is opened.
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
        words: dict[str, Answer] = {"answers": "answers", "fails": "fails", "hangs": "hangs"}
        return words[lines[0]]


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """Read the text of ``/proc/self/mountinfo``.

    Optional fields, none or several, end with a lone hyphen. Space, tab, newline, backslash and
    ``#`` in a name stand there as ``\\ooo``, octal.
    """
    mounts = []
    # The kernel escapes no other end of a line, and a local user may choose a name of a mount
    for line in filter(None, text.split("\n")):
        fields = line.split(" ")
        number, parent, device, root, target, options, *rest = fields
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
    """The mount that is seen exactly at `path`, the uppermost if there are several."""
    there = [mount for mount in mounts if mount.target == path]
    covered = {mount.parent for mount in there}
    return next((mount for mount in reversed(there) if mount.number not in covered), None)
