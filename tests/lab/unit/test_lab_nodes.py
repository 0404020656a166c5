"""Commands inside nodes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab import nodes
from tests.lab.cgroup import Group
from tests.lab.nodes import follow, run


@pytest.mark.parametrize(
    ("command", "status"), [("exit 3", 3), ("kill -STOP $$; exit 4", 4), ("kill -KILL $$", -9)]
)
def test_command_is_followed_to_its_end_though_it_stops(command: str, status: int) -> None:
    process = subprocess.Popen(["sh", "-c", command])
    process.returncode = follow(process)
    assert process.returncode == status


@pytest.fixture
def beside_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the commands for a node on this computer, in a folder that stands for its group."""
    monkeypatch.setattr(nodes, "inside", lambda _lab, _node, command: [*command])
    monkeypatch.setattr(Group, "of", lambda *parts: Group(tmp_path.joinpath(*parts)))
    return tmp_path


def test_a_command_is_run_in_the_group_of_its_node(beside_a_node: Path) -> None:
    done = run("lab", "pi1", "sh", "-c", "echo $$; echo no >&2; exit 3")
    assert (done.returncode, done.stderr) == (3, "no\n")
    assert (beside_a_node / "lab/pi1/exec/cgroup.procs").read_text() == done.stdout


def test_a_command_that_takes_too_long_is_ended(beside_a_node: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired, match=r"after 0\.1 seconds"):
        run("lab", "pi1", "sleep", "600", seconds=0.1)
    # It was ended by somebody else
    assert run("lab", "pi1", "sh", "-c", "kill -KILL $$").returncode == -9
