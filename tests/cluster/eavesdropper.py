"""Look for a secret on a node while it is deployed, as an eavesdropper would.

It looks at the arguments and environment of programs, and at the files that they write. It misses
none of them: when a program of the node opens a file, the kernel makes it wait until this process
has looked (fanotify(7), ``FAN_OPEN_PERM``). So a file is seen with the mode that it was created
with, and a program, which opens its libraries first, with its arguments and environment.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import os
import re
import select
import stat
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_OPEN_PERM, _CLOSE_WRITE = 0x10000, 0x8
_CLASS_CONTENT, _CLOEXEC = 0x4, 0x1
_ADD, _MOUNT = 0x1, 0x10
_ALLOW = 1
_EVENT, _ANSWER = struct.Struct("=IBBHQii"), struct.Struct("=iI")

FILE_SYSTEMS = ("overlay", "tmpfs", "ext4", "xfs", "btrfs")
OTHERS = 0o077
"""Bits of a mode that give rights to others than the owner."""

_BASE64 = re.compile(rb"[A-Za-z0-9+/=\s]+")


class Secret:
    """A private key, as the texts that would give it away."""

    def __init__(self, pem: bytes) -> None:
        """Take each line of the key in PEM form, as it is and in base64."""
        lines = [line for line in pem.splitlines() if line and b"-----" not in line]
        self._marks = [line[:40] for line in lines]
        for line in lines:
            for start in range(3):
                whole = line[start : start + 39]
                self._marks.append(base64.b64encode(whole[: len(whole) // 3 * 3]))
        der = base64.b64decode(b"".join(lines))
        self._marks += [der[-24:], der[-24:].hex().encode()]
        assert all(len(mark) >= 20 for mark in self._marks)

    def shows(self, data: bytes) -> bool:
        """Tell whether DATA shows it, plainly or in a gzipped archive in base64, as sent."""
        if any(mark in data for mark in self._marks):
            return True
        return any(any(mark in content for mark in self._marks) for content in _unpacked(data))


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Yield the content of all gzipped parts of DATA, plain ones and those in base64."""
    for start in re.finditer(rb"H4sI", data):
        text = _BASE64.match(data, start.start())
        assert text is not None
        packed = re.sub(rb"[\s=]", b"", text.group())
        yield _inflated(base64.b64decode(packed[: len(packed) // 4 * 4]))
    for start in re.finditer(rb"\x1f\x8b\x08", data):
        yield _inflated(data[start.start() :])


def _inflated(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(packed)
    except zlib.error:
        return b""


@dataclass
class Seen:
    """The findings of an eavesdropper.

    + leaks: places where others could read a secret: a program's arguments or environment, a file
      that others may open
    + modes: every mode of each file of the watched folder, and of each file with a secret
    + programs: number of programs of the node that were looked at
    + looks: number of times that all processes were looked at
    """

    leaks: set[str] = field(default_factory=set)
    modes: dict[str, set[int]] = field(default_factory=dict)
    programs: int = 0
    looks: int = 0


@contextmanager
def eavesdropping(init: int, folder: str, *secrets: Secret) -> Iterator[Seen]:
    """Look for secrets on a node while the ``with`` block lasts, as root of the lab's computer.

    + init: number of the process that is the node's init
    + folder: a folder of the node; the modes of its files are noted whenever a program opens a file
    """
    seen, end = Seen(), threading.Event()
    node = _Node(init, folder, secrets, seen)
    threads = [
        threading.Thread(target=node.watch, args=(end,)),
        threading.Thread(target=_look_at_processes, args=(secrets, seen, end)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        end.set()
        for thread in threads:
            thread.join()
    if node.problem is not None:
        raise node.problem


class _Node:
    def __init__(self, init: int, folder: str, secrets: tuple[Secret, ...], seen: Seen) -> None:
        self._root, self._secrets, self._seen = Path(f"/proc/{init}/root"), secrets, seen
        self._folder = self._root / folder.lstrip("/")
        self.problem: Exception | None = None
        self._started: dict[int, bytes] = {}
        self._modes: dict[tuple[int, int], set[int]] = {}
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.fanotify_init(_CLASS_CONTENT | _CLOEXEC, os.O_RDONLY | os.O_LARGEFILE)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "fanotify_init")
        for line in Path(f"/proc/{init}/mountinfo").read_text().splitlines():
            point, kind = line.split()[4], line.partition(" - ")[2].split()[0]
            if kind in FILE_SYSTEMS:
                path = f"{self._root}{point}".encode()
                mask = ctypes.c_uint64(_OPEN_PERM | _CLOSE_WRITE)
                failed = libc.fanotify_mark(self._fd, _ADD | _MOUNT, mask, -100, path)
                # The mount of a container that has ended meanwhile
                if failed and ctypes.get_errno() != errno.ENOENT:
                    raise OSError(ctypes.get_errno(), f"fanotify_mark: {path!r}")

    def watch(self, end: threading.Event) -> None:
        """Look at every event until END is set, and at those that happened before that."""
        try:
            while select.select([self._fd], [], [], 0.05)[0] or not end.is_set():
                for mask, fd, process in self._events():
                    try:
                        if mask & _OPEN_PERM:
                            self._opened(fd, process)
                        else:
                            self._written(fd)
                    finally:
                        if mask & _OPEN_PERM:
                            os.write(self._fd, _ANSWER.pack(fd, _ALLOW))
                        os.close(fd)
        except Exception as error:
            self.problem = error
        finally:
            os.close(self._fd)  # this releases all programs of the node that wait

    def _events(self) -> Iterator[tuple[int, int, int]]:
        data = os.read(self._fd, 1 << 16) if select.select([self._fd], [], [], 0)[0] else b""
        while data:
            length, _, _, _, mask, fd, process = _EVENT.unpack_from(data)
            yield mask, fd, process
            data = data[length:]

    def _opened(self, fd: int, process: int) -> None:
        found = os.fstat(fd)
        key = (found.st_dev, found.st_ino)
        if not found.st_size:  # maybe a new file, with the number of a removed one
            self._modes[key] = set()
        self._modes.setdefault(key, set()).add(stat.S_IMODE(found.st_mode))
        with suppress(FileNotFoundError):  # the folder, or a file that is being removed
            for entry in os.scandir(self._folder):
                mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                self._seen.modes.setdefault(entry.name, set()).add(mode)
        words = _read(f"/proc/{process}/cmdline")
        if self._started.get(process) != words:
            self._started[process] = words
            self._seen.programs += 1
            _look(process, words, self._secrets, self._seen)

    def _written(self, fd: int) -> None:
        found = os.fstat(fd)
        content = os.pread(fd, 1 << 20, 0) if stat.S_ISREG(found.st_mode) else b""
        if any(secret.shows(content) for secret in self._secrets):
            path = os.readlink(f"/proc/self/fd/{fd}")
            modes = self._modes.get((found.st_dev, found.st_ino), set())
            modes = modes | {stat.S_IMODE(found.st_mode)}
            self._seen.modes.setdefault(path, set()).update(modes)
            if any(mode & OTHERS for mode in modes):
                self._seen.leaks.add(f"{path} had the modes {sorted(map(oct, modes))}")


def _look_at_processes(secrets: tuple[Secret, ...], seen: Seen, end: threading.Event) -> None:
    while not end.is_set():
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                _look(int(entry), _read(f"/proc/{entry}/cmdline"), secrets, seen)
        seen.looks += 1
        time.sleep(0.01)


def _look(process: int, words: bytes, secrets: tuple[Secret, ...], seen: Seen) -> None:
    for what, data in (("arguments", words), ("environment", _read(f"/proc/{process}/environ"))):
        if any(secret.shows(data) for secret in secrets):
            program = words.partition(b"\0")[0].decode(errors="replace")
            seen.leaks.add(f"in the {what} of {program}")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # it has ended meanwhile
        return b""
