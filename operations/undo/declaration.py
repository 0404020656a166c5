"""Declare what is particular about undoing a concern, and remove its part from merged files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from chaos_engine.facts.observe import NodeError

TakeOut = Callable[[bytes, bytes, bytes], "bytes | None"]
"""A function that removes this package's part from a merged file.

It takes three contents of the file: the present one, the one before the first change (empty if
there was no file), and the one that this package wrote last. It returns the new content, or
``None`` if the file shall be removed.
"""


@dataclass(frozen=True)
class Undo:
    """What is particular about undoing a concern. The node's manifest has all else.

    + needed_when_joined: whether a joined node needs the concern to work or to boot. Undo then
      refuses a joined node
    + note: what stays on the node, or what its owner has to do; printed as a warning
    + take_out: the functions that remove the concern's part from merged files, by the file's path
      or a pattern for it (fnmatch(3))
    + first: shell commands that run before everything else
    + stopped: shell commands that run after the concern's own units were stopped
    + last: shell commands that run at the end
    + removed: shell commands that run after a path was removed, by the path
    + purged: shell commands that run before a package is purged, by the package's name

    **Example:** ``UNDO = Undo(needed_when_joined=True, take_out={"/etc/hosts": without_names})``
    """

    needed_when_joined: bool = False
    note: str = ""
    take_out: Mapping[str, TakeOut] = field(default_factory=dict)
    first: str = ""
    stopped: str = ""
    last: str = ""
    removed: Mapping[str, str] = field(default_factory=dict)
    purged: Mapping[str, str] = field(default_factory=dict)


def take_out(
    path: str, current: bytes, original: bytes | None, written: bytes, known: Mapping[str, TakeOut]
) -> bytes | None:
    """Return a merged file without this package's part: a pure function.

    + current: its content now
    + original: its content before the first change, ``None`` if there was no file
    + written: its content as this package wrote it last
    + known: the functions that remove the part, by path or pattern

    What others have changed since `written` stays. Returns ``None`` if the file shall be removed:
    there was no file before, and nothing of others is in it. Raises `NodeError` if no function is
    known for the path.
    """
    if current == written:
        return original
    found = next((how for pattern, how in known.items() if fnmatchcase(path, pattern)), None)
    if found is None:
        raise NodeError(
            f"{path}: this package has merged lines into the file, but no concern declares how to "
            "remove them; restore it by hand"
        )
    rest = found(current, original or b"", written)
    # the line feed at the file's end may be from this package
    if rest is None or (original is not None and rest.rstrip(b"\n") == original.rstrip(b"\n")):
        return original
    return rest
