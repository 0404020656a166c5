"""Files as they are on the node: type, mode, owner and checksum, never their content unless
asked for."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, SeveralFact, Value, YesOrNo
from chaos_engine.facts.text import several

Kind = Literal["file", "directory", "link", "other"]
_KINDS: dict[str, Kind] = {"f": "file", "d": "directory", "l": "link"}


@dataclass(frozen=True)
class FileState(Value):
    """One path: `mode` without leading zeros ("644"), `sha256` of a regular file's content."""

    kind: Kind
    mode: str
    owner: str
    group: str
    size: int
    sha256: str | None = None


class Files(SeveralFact[FileState]):
    """State of each path that exists; a path that does not is missing from the dictionary.

    + paths: absolute paths, without newlines

    **Example:** ``host.get_fact(Files, paths=("/etc/docker/daemon.json",))``
    """

    argument = "paths"

    @override
    def command(self, paths: tuple[str, ...] | str) -> StringCommand:
        paths = several(paths)
        quoted = [QuoteString(path) for path in paths]
        # No status of its own: a path that is not there is an answer. sha256sum gets none such:
        # that of uutils 0.0.30 ends at the first
        return StringCommand(
            "find",
            *quoted,
            "-maxdepth 0 -printf '%y %m %u %g %s %p\\n' -type f -exec sha256sum -- {} +",
            "2>/dev/null; true",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, FileState]:
        return parse_files(lines)


def parse_files(lines: list[str]) -> dict[str, FileState]:
    """Read ``find -printf '%y %m %u %g %s %p'`` lines, and ``sha256sum`` lines among them."""
    found: dict[str, FileState] = {}
    sums: dict[str, str] = {}
    for line in lines:
        if len(line) > 66 and line[64:66] in ("  ", " *"):
            sums[line[66:]] = line[:64]
            continue
        kind, mode, owner, group, size, path = line.split(" ", 5)
        found[path] = FileState(_KINDS.get(kind, "other"), mode, owner, group, int(size))
    for path, state in found.items():
        if state.kind == "file" and path in sums:
            found[path] = FileState(
                state.kind, state.mode, state.owner, state.group, state.size, sums[path]
            )
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

    + path: absolute path

    **Example:** ``host.get_fact(Content, path="/etc/fstab")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        quoted = QuoteString(path)
        return StringCommand("! test -e", quoted, "|| { echo content; base64 --", quoted, "; }")

    @override
    def parse(self, lines: list[str]) -> bytes | None:
        if lines[0] != "content":
            raise ValueError(lines[0])
        return base64.b64decode("".join(lines[1:]), validate=True)
