"""The script that makes the virtual environment, run with a recording Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "setup/venv"
PYTHON = """\
#!/bin/sh
[ "$1" = -m ] || exit 0
echo made >> {log}
mkdir -p "$3/bin"
for file in pyvenv.cfg bin/python bin/pip; do echo new > "$3/$file"; chmod 755 "$3/$file"; done
"""


def make(folder: Path) -> int:
    """Run the script; return how often a virtual environment was made."""
    python = folder / "python3"
    python.write_text(PYTHON.format(log=folder / "log"))
    python.chmod(0o755)
    (folder / "log").touch()
    subprocess.run([str(SCRIPT), str(python), str(folder / "venv")], check=True)
    return len((folder / "log").read_text().splitlines())


def test_a_whole_one_stays(tmp_path: Path) -> None:
    assert make(tmp_path) == 1
    (tmp_path / "venv/own").touch()
    assert make(tmp_path) == 1
    assert (tmp_path / "venv/own").exists()


@pytest.mark.parametrize("lost", ["python", "pip"])
def test_a_half_made_one_is_made_from_scratch(tmp_path: Path, lost: str) -> None:
    make(tmp_path)
    (tmp_path / "venv/bin" / lost).unlink()
    (tmp_path / "venv/own").touch()
    assert make(tmp_path) == 2
    assert (tmp_path / "venv/bin" / lost).exists()
    assert not (tmp_path / "venv/own").exists()


def test_a_folder_that_is_none_keeps_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/.modules").touch()
    assert make(tmp_path) == 1
    assert (tmp_path / "venv/.modules").exists()
