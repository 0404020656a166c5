"""How much of a processor a part of the lab may use.

The limit is `cpu.max` of cgroup v2 where the controller is there. On a computer that has it in
cgroup v1, the part's processes become members of a group of that hierarchy too; what they start is
born into it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.cgroup import Group, mount_point
from tests.lab.errors import LabError

_PERIOD = 100_000
"""Microseconds in which the quota is used up; both versions' default."""


@contextmanager
def limited(group: Group, percent: int) -> Iterator[None]:
    """Have the processes of a group use at most PERCENT of one processor."""
    old = legacy()
    with _legacy_limit(old, group, percent) if old else _limit(group, percent):
        yield


def legacy(mounts: Path = Path("/proc/self/mounts")) -> Path | None:
    """Return where this computer has the controller in cgroup v1, if it has."""
    for line in mounts.read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpu" in options.split(","):
            return Path(where)
    return None


def quota(percent: int) -> int:
    """Return the microseconds of a period that are PERCENT of one processor."""
    if percent < 1:
        raise LabError(f"a processor's share of {percent} %: at least 1")
    return _PERIOD * percent // 100


@contextmanager
def _limit(group: Group, percent: int) -> Iterator[None]:
    top = mount_point()
    # A group has a controller's files if each group above it hands the controller down
    for above in reversed(group.path.relative_to(top).parents):
        (top / above / "cgroup.subtree_control").write_text("+cpu")
    limit = group.path / "cpu.max"
    limit.write_text(f"{quota(percent)} {_PERIOD}")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):  # the power was cut meanwhile
            limit.write_text(f"max {_PERIOD}")


@contextmanager
def _legacy_limit(root: Path, group: Group, percent: int) -> Iterator[None]:
    own = root / f"chaos-engine-lab-{'-'.join(group.path.parts[-2:])}"
    own.mkdir(exist_ok=True)
    (own / "cpu.cfs_period_us").write_text(str(_PERIOD))
    (own / "cpu.cfs_quota_us").write_text(str(quota(percent)))
    try:
        # Again, for what was started meanwhile
        while _move(set(group.processes()) - _members(own), own):
            pass
        yield
    finally:
        while members := _members(own):
            _move(members, root)
        os.rmdir(own)


def _members(folder: Path) -> set[int]:
    return {int(line) for line in (folder / "cgroup.procs").read_text().split()}


def _move(processes: set[int], folder: Path) -> bool:
    """Move processes into a group. Return whether one was moved."""
    moved = False
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            (folder / "cgroup.procs").write_text(str(process))
            moved = True
    return moved
