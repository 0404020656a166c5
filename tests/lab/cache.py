"""Pieces that are made once and used by every lab: images, packages, repositories.

A piece's folder is named by a hash of everything that it is made from, so a change of recipe
makes a new one; it is built beside its place and renamed into it, so an interrupted build is
never taken for a good one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import linux, paths
from tests.lab.progress import say

_KEPT_SECONDS = 7 * 24 * 3600


def digest(inputs: Iterable[str | Path]) -> str:
    """Return a short hash of texts, of files and of all files (and modes) in folders."""
    state = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            state.update(item.encode() + b"\0")
            continue
        for file in sorted(item.rglob("*")) if item.is_dir() else [item]:
            if file.is_file() and "__pycache__" not in file.parts:
                executable = bool(file.stat().st_mode & 0o100)
                state.update(f"{file.relative_to(item.parent)} {executable}\0".encode())
                state.update(file.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def piece(
    name: str, inputs: Iterable[str | Path], build: Callable[[Path], None], *, what: str
) -> Path:
    """Return the folder of the piece NAME made from INPUTS, built by BUILD if it is not there."""
    root = paths.cache()
    place = root / f"{name}-{digest(inputs)}"
    with locked(root / f".{name}.lock"):
        if place.is_dir():
            os.utime(place)
            return place
        say(f"{what} ...")
        # Whoever was interrupted while building this one, or an earlier recipe, has left it.
        for left in root.glob(f".{name}-*.draft"):
            linux.unmount_below(left)  # mmdebstrap, if it was killed, has left /proc and more
            shutil.rmtree(left)
        draft = root / f".{place.name}.draft"
        draft.mkdir(mode=0o755)
        build(draft)
        draft.rename(place)
        say(f"{what}: done")
        _forget_old(root, name)
    return place


def _forget_old(root: Path, name: str) -> None:
    """Remove pieces of earlier recipes that no lab has used for a week."""
    in_use = "".join(file.read_text() for file in paths.RUN.glob("*/images.json"))
    for place in root.glob(f"{name}-*"):
        age = time.time() - place.stat().st_mtime
        if age > _KEPT_SECONDS and str(place) not in in_use:
            shutil.rmtree(place)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold FILE's lock: other labs of this computer wait for theirs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
