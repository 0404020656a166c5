"""The few Linux calls that Python 3.10 lacks, and small questions to /proc."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.errors import LabError

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter_private_mounts() -> None:
    """Give this process mounts of its own: what it mounts ends with it, and nobody sees it."""
    _checked(_libc.unshare(CLONE_NEWNS), "unshare")
    _checked(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make / private")


def bind(source: Path, target: Path) -> None:
    """Mount SOURCE over TARGET."""
    flags = _MS_BIND | _MS_REC
    _checked(
        _libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None),
        f"mount {source} over {target}",
    )


def unmount_below(folder: Path) -> None:
    """Unmount what is mounted below FOLDER, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4] for line in lines]
    for point in reversed([each for each in points if each.startswith(f"{folder}/")]):
        run("umount", point)


def tmpfs(target: Path, mode: int = 0o755) -> None:
    """Mount an empty file system in memory at TARGET."""
    _checked(
        _libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", 0, f"mode={mode:o}".encode()),
        f"mount a tmpfs at {target}",
    )


def overlay(
    target: Path, *, lower: Sequence[Path], upper: Path | None = None, work: Path | None = None
) -> None:
    """Mount UPPER over the layers LOWER (topmost first) at TARGET; without UPPER, to be read."""
    options = "lowerdir=" + ":".join(str(layer) for layer in lower)
    if upper is not None:
        options += f",upperdir={upper},workdir={work}"
    _checked(
        _libc.mount(b"overlay", os.fsencode(target), b"overlay", 0, options.encode()),
        f"mount an overlay at {target}",
    )


def swap_off(file: Path) -> None:
    """Stop swapping to FILE; nothing happens if the kernel does not swap to it."""
    _libc.swapoff(os.fsencode(file))


def enter_network(namespace: Path) -> None:
    """Move the calling thread (no other) into a network namespace."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, CLONE_NEWNET), f"enter {namespace}")
    finally:
        os.close(descriptor)


@contextmanager
def inside_network(namespace: Path) -> Iterator[None]:
    """Let the calling thread (no other) be in a network namespace for a while."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_network(namespace)
        try:
            yield
        finally:
            _checked(_libc.setns(home, CLONE_NEWNET), "return to the own network namespace")
    finally:
        os.close(home)


def run(*command: str, stdin: str | None = None, directory: Path | None = None) -> str:
    """Run COMMAND and return its output; if it fails, the error has what it said."""
    done = subprocess.run(
        command, cwd=directory, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"{' '.join(command)} failed ({done.returncode}): {said}")
    return done.stdout


def wait_until(
    condition: Callable[[], bool], *, seconds: float, otherwise: str, every: float = 0.05
) -> None:
    """Return as soon as CONDITION holds; after SECONDS raise an error that says OTHERWISE."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{otherwise} (waited {seconds:.0f} s)")
        time.sleep(every)
