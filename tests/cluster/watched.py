"""Watch files of a node without a break: every content they had, and how they were changed."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType

from tests.lab import nodes

ContentCheck = Callable[[bytes], str]
"""Says what is wrong with a file's content, "" if nothing is."""

_MODIFY, _MOVED_FROM, _MOVED_TO = 0x2, 0x40, 0x80
_CREATE, _DELETE = 0x100, 0x200
_BAD = {_MODIFY: "written to", _CREATE: "created empty", _DELETE: "deleted", _MOVED_FROM: "moved"}
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """A watch of files of a node by inotify, through its reboots, while the ``with`` block lasts.

    + files: the files, absolute paths, each with a check of its content
    + new: those of them that may be deleted again, since they are not there at first

    `problems` has a line for each time that a file had a wrong content, or was changed in another
    way than by renaming a whole file. `seen` counts the contents that were checked.
    """

    def __init__(
        self, lab: str, node: str, files: Mapping[str, ContentCheck], new: Collection[str] = ()
    ) -> None:
        self.lab, self.node, self.files, self.new = lab, node, dict(files), new
        self.problems: list[str] = []
        self.seen = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._root = Path("/")
        self._folders: dict[int, str] = {}

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            leader = nodes.leader(self.lab, self.node)
            if leader is None:
                self._end.wait(0.02)
                continue
            self._root = Path(f"/proc/{leader}/root")
            descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                self._watch(descriptor, leader)
            finally:
                os.close(descriptor)

    def _watch(self, descriptor: int, leader: int) -> None:
        """Watch until the node reboots."""
        self._folders = {}
        while not self._end.is_set() and Path(f"/proc/{leader}/root/etc").exists():
            for path in self.files:
                self._look_after(descriptor, os.path.dirname(path))
            if select.select([descriptor], [], [], 0.05)[0]:
                data, at = os.read(descriptor, 1 << 16), 0
                while at < len(data):
                    number, mask, _, length = _EVENT.unpack_from(data, at)
                    at += _EVENT.size + length
                    name = data[at - length : at].rstrip(b"\0").decode()
                    self._check(f"{self._folders[number]}/{name}", mask)

    def _look_after(self, descriptor: int, folder: str) -> None:
        if folder in self._folders.values():
            return
        wanted = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
        path = os.fsencode(f"{self._root}{folder}")
        number = _libc.inotify_add_watch(descriptor, path, wanted)
        if number >= 0:
            self._folders[number] = folder
            for file in self.files:
                if os.path.dirname(file) == folder and Path(f"{self._root}{file}").exists():
                    self._check(file, _MOVED_TO)

    def _check(self, path: str, mask: int) -> None:
        if path not in self.files:
            return
        self.problems += [
            f"{path} was {what}"
            for bit, what in _BAD.items()
            if mask & bit and not (bit == _DELETE and path in self.new)
        ]
        try:
            problem = self.files[path](Path(f"{self._root}{path}").read_bytes())
        except OSError:  # the node has lost its power, or the file is gone: then that was an event
            return
        self.seen += 1
        if problem:
            self.problems.append(f"{path}: {problem}")
