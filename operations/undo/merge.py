"""Take out of a node's own files what this package has put there: a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from chaos_engine.facts.observe import NodeError
from chaos_engine.operations.undo.declaration import TakeOut


def take_out(
    path: str,
    current: bytes,
    original: bytes | None,
    written: bytes,
    known: Mapping[str, TakeOut],
) -> bytes | None:
    """Return a merged file without this package's part, ``None`` where nothing else is in it.

    + path: of the file
    + current: as it is now
    + original: as it was before the first change, ``None`` if it was not there
    + written: as this package wrote it last
    + known: what takes the part out, by path or pattern

    What was changed by others since then stays. Raises `NodeError` where that cannot be told.
    """
    if current == written:
        return original
    found = next((how for pattern, how in known.items() if fnmatchcase(path, pattern)), None)
    if found is None:
        raise NodeError(
            f"{path}: this file was merged, but no concern declares how to remove its part; "
            "restore it by hand"
        )
    left = found(current, original or b"", written)
    if left is None:
        return None if original is None else original
    # the end of its last line may be this package's
    if original is not None and left.rstrip(b"\n") == original.rstrip(b"\n"):
        return original
    return left
