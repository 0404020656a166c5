"""Files as they are on the node: type, mode, owner and checksum, never their content unless
asked for."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, SeveralFact, Value, YesOrNo
from chaos_engine.facts.text import several

Kind = Literal["file", "directory", "link", "other"]
_KINDS: dict[str, Kind] = {"f": "file", "d": "directory", "l": "link"}

Fixed = Literal["", "immutable", "append-only", "unwritable", "mounted"]
"""What keeps root from replacing a path by a rename: a flag of chattr(1), one that cannot be told
from a file system that is mounted read-only, or something that is mounted on it."""

LOOK = r"""
find "$@" -maxdepth 0 \( -writable -printf w -o -printf - \) -printf "%y%Y %m %u %g %s %p\n" \
  \( -type f -exec sha256sum -- {} + , \( -type f -o -type d \) -exec lsattr -d -- {} + \) \
  2>/dev/null
awk "BEGIN {
  while (--ARGC) asked[ARGV[ARGC]]
  while ((getline < \"/proc/self/mountinfo\") > 0) if (\$5 in asked) print \"mounted\", \$5
}" "$@"
"""
"""Shell commands that look at the paths in ``"$@"``, for `parse_files`. A path that is not there
has no line. They have no single quotes, so that they can stand in them.

access(2), which ``-writable`` asks, says no to root too of what is immutable, or on a file system
that is mounted read-only. It says yes of what is append-only; lsattr (e2fsprogs) need not be there.
"""

_STATE = re.compile(r"([w-])(.)(.) (\d+) (\S+) (\S+) (\d+) (.*)", re.DOTALL)
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.*)", re.DOTALL)
_FLAGS = re.compile(r"([-A-Za-z]{12,}) (/.*)", re.DOTALL)


@dataclass(frozen=True)
class FileState(Value):
    """One path.

    + kind: what it is itself; `leads_to` is what a link leads to, ``None`` if nothing is there
    + mode: without leading zeros, "644"
    + sha256: of a regular file's content
    + fixed: what keeps root from replacing it, "" if nothing does
    """

    kind: Kind
    mode: str
    owner: str
    group: str
    size: int
    sha256: str | None = None
    leads_to: Kind | None = None
    fixed: Fixed = ""


class Files(SeveralFact[FileState]):
    """State of each path that exists; a path that does not is missing from the dictionary.

    + paths: absolute paths, without newlines

    **Example:** ``host.get_fact(Files, paths=("/etc/docker/daemon.json",))``
    """

    argument = "paths"

    @override
    def command(self, paths: tuple[str, ...] | str) -> StringCommand:
        quoted = [QuoteString(path) for path in several(paths)]
        # No status of its own: a path that is not there is an answer. sha256sum gets none such:
        # that of uutils 0.0.30 ends at the first
        return StringCommand("set --", *quoted, f"{LOOK}true")

    @override
    def parse(self, lines: list[str]) -> dict[str, FileState]:
        return parse_files(lines)


def parse_files(lines: Iterable[str]) -> dict[str, FileState]:
    """Read what `LOOK` prints: lines of find, and among them those of sha256sum, lsattr and awk.

    Raises ``ValueError`` for a line that is none of these.
    """
    found: dict[str, FileState] = {}
    sums: dict[str, str] = {}
    flags: dict[str, Fixed] = {}
    mounted: set[str] = set()
    for line in lines:
        if match := _STATE.fullmatch(line):
            writable, kind, target, mode, owner, group, size, path = match.groups()
            leads_to = _KINDS.get(target, None if target in "NL?" else "other")
            state = FileState(_KINDS.get(kind, "other"), mode, owner, group, int(size))
            if state.kind == "link":  # whether it may be written is told of what it leads to
                state = replace(state, leads_to=leads_to)
            if writable == "-" and (state.kind != "link" or leads_to == "directory"):
                state = replace(state, fixed="unwritable")
            found[path] = state
        elif match := _SUM.fullmatch(line):
            sums[match[2]] = match[1]
        elif line.startswith("mounted "):
            mounted.add(line[8:])
        elif match := _FLAGS.fullmatch(line):
            if "i" in match[1] or "a" in match[1]:
                flags[match[2]] = "immutable" if "i" in match[1] else "append-only"
        else:
            raise ValueError(line)
    for path, state in found.items():
        sha256 = sums.get(path) if state.kind == "file" else None
        fixed = flags.get(path, state.fixed)
        if path in mounted and state.kind != "directory":  # in a folder that is, files can be
            fixed = "mounted"
        found[path] = replace(state, sha256=sha256, fixed=fixed)
    return found


class Present(YesOrNo):
    """Whether there is something at a path; a link that leads nowhere is nothing.

    `Files` has the node compute checksums, which for a program takes a while on a small machine.

    + path: absolute path

    **Example:** ``host.get_fact(Present, path="/usr/bin/docker")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        return StringCommand("if test -e", QuoteString(path), "; then echo yes; else echo no; fi")


class Content(NodeFact[bytes | None]):
    """A file's bytes, or ``None`` if there is no such file. Exact: it travels as base64.

    What is no regular file is none: reading of a FIFO would not end.

    + path: absolute path

    **Example:** ``host.get_fact(Content, path="/etc/fstab")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        quoted = QuoteString(path)
        return StringCommand("! test -f", quoted, "|| { echo content; base64 --", quoted, "; }")

    @override
    def parse(self, lines: list[str]) -> bytes | None:
        if lines[0] != "content":
            raise ValueError(lines[0])
        return base64.b64decode("".join(lines[1:]), validate=True)
