"""Say what is particular about the undoing of a concern."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

TakeOut = Callable[[bytes, bytes, bytes], "bytes | None"]
"""Takes a merged file as it is now, as it was before the first change (empty if it was not there),
and as this package wrote it last; returns it without this package's part, ``None`` for no file."""


@dataclass(frozen=True)
class Undo:
    """What is particular about the undoing of a concern; the rest is told by the node's manifest.

    + needed_when_joined: without it a node of a cluster is none, or stops at its next boot
    + note: what stays, or what its owner has to do; printed as a warning
    + take_out: for each file of which the concern writes a part, by its path or a pattern of it
      (fnmatch(3)): what takes that part out
    + first, stopped, last: shell commands that run before all else, when the concern's own units
      were stopped, and in the end
    + removed: shell commands that run once a path was removed, by the path
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
