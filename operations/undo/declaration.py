"""Declare how a concern is undone, and remove this package's part from merged files.

A merged file has a part that this package has written. The rest of the file is the node's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial

from chaos_engine.facts.manifest import Entry
from chaos_engine.facts.observe import NodeError

TakeOut = Callable[[bytes, bytes, bytes], "bytes | None"]
"""A function that removes this package's part from a merged file.

It takes three contents of the file: the present one, the one before the first change (empty if
there was no file), and the one that this package wrote last. It returns the new content, or
``None`` if the file shall be removed.
"""

TakeOutNoted = Callable[[Sequence[Entry], bytes, bytes, bytes], "bytes | None"]
"""A function like `TakeOut` with one more argument at the front: the manifest's lines about the
concern."""


@dataclass(frozen=True)
class Undo:
    """What undo needs to know about a concern, in addition to the node's manifest.

    + needed_when_joined: whether a node in a cluster cannot work or boot without the concern. If
      so, undo refuses a node that has joined a cluster
    + note: a warning that says what stays on the node, or what the user has to do
    + take_out: functions that remove the concern's part from merged files. A key is a file's path
      or a pattern of paths (fnmatch(3))
    + first: shell commands that run before everything else
    + stopped: shell commands that run after the concern's own units were stopped
    + last: shell commands that run at the end
    + removed: shell commands that run after a path was removed. A key is a path
    + purged: shell commands that run before a package is purged. A key is a package's name
    + take_out_noted: functions like those in `take_out`. They have an additional first argument:
      the manifest's lines about the concern

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
    take_out_noted: Mapping[str, TakeOutNoted] = field(default_factory=dict)

    def parts(self, notes: Sequence[Entry]) -> Mapping[str, TakeOut]:
        """Return all functions that remove the concern's part from merged files.

        A key is the file's path or a pattern of paths.

        + notes: the manifest's lines about the concern
        """
        noted = {path: partial(how, notes) for path, how in self.take_out_noted.items()}
        return {**self.take_out, **noted}


def take_out(
    path: str, current: bytes, original: bytes | None, written: bytes, known: Mapping[str, TakeOut]
) -> bytes | None:
    """Return the content of a merged file without this package's part. This is a pure function.

    + current: the file's present content
    + original: the file's content before the first change, ``None`` if there was no file
    + written: the content that this package wrote last
    + known: functions that remove the part. A key is a file's path or a pattern of paths

    Changes that others have made stay, even if they are older than `written`. Returns ``None`` if
    the file shall be removed, because it did not exist before and has only this package's part.
    Raises `NodeError` if others have changed the file and no function is known for its path.
    """
    found = next((how for pattern, how in known.items() if fnmatchcase(path, pattern)), None)
    if found is None and current == written:
        return original
    if found is None:
        raise NodeError(
            f"{path}: this package has merged lines into the file, but no concern declares how to "
            "remove them; restore the file by hand"
        )
    rest = found(current, original or b"", written)
    # This package may have added the line feed at the end of the file
    if rest is None or rest.rstrip(b"\n") == (original or b"").rstrip(b"\n"):
        return original
    return rest
