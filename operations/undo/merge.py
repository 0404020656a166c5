"""Take out of a node's own files what this package has put there: pure functions."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from typing import Any

from chaos_engine.facts.kernel import split_words
from chaos_engine.facts.observe import NodeError
from chaos_engine.operations import hosts_file, swap
from chaos_engine.operations.docker import daemon_json


def take_out(path: str, current: bytes, original: bytes | None, written: bytes) -> bytes | None:
    """A merged file without this package's part, ``None`` where nothing else is in it.

    + path: says what kind of file it is
    + current: as it is now
    + original: as it was before the first change, ``None`` if it was not there
    + written: as this package wrote it last

    What was changed by others since then stays. Raises `NodeError` where that cannot be told.
    """
    if current == written:
        return original
    if path == hosts_file.PATH:
        left = hosts_file.without_block(current)
    elif path == swap.FSTAB:
        left = current.replace(f"\n{swap.MARK}".encode(), b"\n").removeprefix(swap.MARK.encode())
    elif path == daemon_json.CONFIG:
        return _without_options(current, original, written)
    elif posixpath.basename(path) in ("cmdline.txt", "raspi-extra-cmdline"):
        left = _without_words(current, original or b"", written)
    else:
        raise NodeError(f"{path}: nobody knows how to take our part out of it; restore it by hand")
    # the end of its last line may be this package's
    if original is not None and left.rstrip(b"\n") == original.rstrip(b"\n"):
        return original
    return left


def _without_words(current: bytes, original: bytes, written: bytes) -> bytes:
    now, before, then = (
        split_words(data.decode("utf-8", "surrogateescape"))
        for data in (current, original, written)
    )
    ours = {*then} - {*before}
    if not ours & {*now}:
        return current
    end = "\n" if current.endswith(b"\n") else ""
    left = " ".join(word for word in now if word not in ours) + end
    return left.encode("utf-8", "surrogateescape")


def _without_options(current: bytes, original: bytes | None, written: bytes) -> bytes | None:
    now, before, then = (
        daemon_json.parse(data) if data and data.strip() else {}
        for data in (current, original, written)
    )
    left = _options(now, before, then)
    if left == now:
        return current
    if original is None and not left:
        return None
    return json.dumps(left, indent=2, ensure_ascii=False).encode() + b"\n"


def _options(
    now: Mapping[str, Any], before: Mapping[str, Any], then: Mapping[str, Any]
) -> dict[str, Any]:
    """What is there now, with the keys that were changed from `before` to `then` changed back;
    those that have another value by now are somebody else's."""
    left = dict(now)
    for key in {**before, **then}:
        was, ours, found = before.get(key), then.get(key), now.get(key)
        if was == ours:
            continue
        if isinstance(ours, dict) and isinstance(found, dict) and found != ours:
            restored: Any = _options(found, was if isinstance(was, dict) else {}, ours)
        elif isinstance(ours, list) and isinstance(found, list) and found != ours:
            old = was if isinstance(was, list) else []
            restored = [x for x in found if x not in ours or x in old]
            restored += [x for x in old if x not in ours and x not in restored]
        elif found == ours:
            restored = was
        else:
            continue
        if key in before or restored:
            left[key] = restored
        else:
            left.pop(key, None)
    return left
