"""Control groups: how the lab knows which processes are its own.

Everything the lab starts is born into a group below `chaos-engine-lab/NAME`, and no process can
leave it by forking or by losing its parent. Ending the lab is ending these groups: unlike
recorded process numbers, that can never hit a stranger that got a number again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.linux import wait_until

_PARENT = "chaos-engine-lab"
_FREEZE_SECONDS = 1


def mount_point() -> Path:
    """Return where this computer has cgroup v2."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise LabError("this computer has no cgroup v2 mounted, which the lab's nodes need")


@dataclass(frozen=True)
class Group:
    """The group of a lab (`Group.of(LAB)`) or of a part of it (`Group.of(LAB, PART)`)."""

    path: Path

    @classmethod
    def of(cls, *parts: str) -> Group:
        return cls(mount_point().joinpath(_PARENT, *parts))

    def adopt(self, process: int = 0) -> None:
        """Move PROCESS (by default the calling one) into the group, made if need be."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "cgroup.procs").write_text(str(process))

    def contains_me(self) -> bool:
        return os.getpid() in self.processes()

    def processes(self) -> Iterator[int]:
        """Yield every process of the group and of the groups below it."""
        for folder, _, _ in os.walk(self.path):
            try:
                text = Path(folder, "cgroup.procs").read_text()
            except OSError:  # ended meanwhile
                continue
            yield from (int(line) for line in text.split() if line != "0")

    def alive(self) -> bool:
        """Whether any process is left in it."""
        try:
            events = (self.path / "cgroup.events").read_text()
        except FileNotFoundError:
            return False
        return "populated 1" in events

    def freeze(self) -> None:
        """Have its processes do nothing any more, until `thaw` or until they are killed."""
        (self.path / "cgroup.freeze").write_text("1")
        events = self.path / "cgroup.events"
        # Whoever waits for a frozen process in the kernel is not frozen, but does nothing either.
        with contextlib.suppress(LabError):
            wait_until(
                lambda: "frozen 1" in events.read_text(),
                seconds=_FREEZE_SECONDS,
                otherwise=f"processes of {self.path} do not stop",
                every=0.005,
            )

    def thaw(self) -> None:
        """Have its processes go on after `freeze`; nothing happens if there are none."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "cgroup.freeze").write_text("0")

    def kill(self) -> None:
        """End all its processes at once, like a power cut, and remove it."""
        if not self.path.is_dir():
            return
        killer = self.path / "cgroup.kill"
        if not killer.exists():
            raise LabError("the lab needs Linux 5.14 or newer (cgroup.kill)")
        killer.write_text("1")
        wait_until(
            lambda: not self.alive(), seconds=20, otherwise=f"processes of {self.path} do not end"
        )
        for folder, _, _ in os.walk(self.path, topdown=False):
            os.rmdir(folder)
