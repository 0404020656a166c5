"""Declare what is particular about undoing a concern."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

TakeOut = Callable[[bytes, bytes, bytes], "bytes | None"]
"""Function that removes this package's part from a merged file.

It is called with the content as it is now, as it was before the first change (empty if there was no
file), and as this package wrote it last. It returns the new content, ``None`` for no file.
"""


@dataclass(frozen=True)
class Undo:
    """What is particular about undoing a concern; all else stands in the node's manifest.

    + needed_when_joined: whether a joined node cannot work, or not boot, without the concern. Then
      undo is refused on it
    + note: what stays on the node, or what its owner has to do; printed as a warning
    + take_out: for each merged file, by its path or a pattern of it (fnmatch(3)), the function that
      removes the concern's part
    + first, stopped, last: shell commands that run before all else, after the concern's own units
      were stopped, and at the end
    + removed: shell commands that run after a path was removed, by that path
    + purged: shell commands that run before a package is purged, by its name

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
