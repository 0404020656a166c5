"""Commands inside nodes."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab.nodes import follow


@pytest.mark.parametrize(
    ("command", "status"), [("exit 3", 3), ("kill -STOP $$; exit 4", 4), ("kill -KILL $$", -9)]
)
def test_command_is_followed_to_its_end_though_it_stops(command: str, status: int) -> None:
    process = subprocess.Popen(["sh", "-c", command])
    process.returncode = follow(process)
    assert process.returncode == status
