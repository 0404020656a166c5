"""Limits of processor time: where they are set, and for how much."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import cpu
from tests.lab.errors import LabError


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n", None),
        (
            "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n"
            "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
            "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            Path("/sys/fs/cgroup/cpu,cpuacct"),
        ),
    ],
)
def test_the_controller_of_version_1_is_found(
    tmp_path: Path, mounts: str, found: Path | None
) -> None:
    file = tmp_path / "mounts"
    file.write_text(mounts)
    assert cpu.legacy(file) == found


def test_a_quota_is_a_part_of_the_period() -> None:
    assert cpu.quota(20) == 20_000
    assert cpu.quota(250) == 250_000
    with pytest.raises(LabError, match="0 %: at least 1"):
        cpu.quota(0)
