"""Build an earlier commit of this package beside this one, to measure both in one run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.bench.nodes import WORK
from tests.bench.results import CHECKOUT, say

COMMIT = "74a1639"
"""The commit before the work on speed began."""


def build(commit: str = COMMIT) -> Path:
    """Return a checkout of a commit with its own virtual environment, below `WORK`.

    It is made unless it is there, and stays for the next run.
    """
    folder = WORK / f"build-{commit}"
    if (folder / ".built").exists():
        return folder
    say(f"building commit {commit}")
    _run("git", "-C", str(CHECKOUT), "worktree", "prune")
    if not folder.exists():
        _run("git", "-C", str(CHECKOUT), "worktree", "add", "--detach", str(folder), commit)
    _run("make", "-C", str(folder), "venv")
    # `lab run` puts the user's files into this checkout, so the other one looks here
    files = folder / "files"
    if not files.is_symlink():
        shutil.rmtree(files, ignore_errors=True)
        files.symlink_to(CHECKOUT / "files")
    (folder / ".built").touch()
    return folder


def program(checkout: Path | None, *command: str) -> tuple[str, ...]:
    """Return a command of a checkout's virtual environment, to be run in the checkout.

    + checkout: by default this one
    """
    if checkout is None:
        return command
    name, *words = command
    return ("env", "-C", str(checkout), str(checkout / ".venv/bin" / name), *words)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
