"""Remove this package's part from merged files: a pure function."""

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
    + current: its content now
    + original: its content before the first change, ``None`` if there was no file
    + written: its content as this package wrote it last
    + known: the functions that remove the part, by path or pattern

    What others have changed since then stays. Raises `NodeError` if no function is known for the
    path.
    """
    if current == written:
        return original
    found = next((how for pattern, how in known.items() if fnmatchcase(path, pattern)), None)
    if found is None:
        raise NodeError(
            f"{path}: this file was merged, but no concern declares how to remove its part; "
            "restore it by hand"
        )
    rest = found(current, original or b"", written)
    if rest is None:
        return None if original is None else original
    # the line feed at its end may be from this package
    if original is not None and rest.rstrip(b"\n") == original.rstrip(b"\n"):
        return original
    return rest
