"""What the person at the keyboard sees of long steps, on stderr."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from tests.lab.errors import LabError

_BEGAN = time.monotonic()
_LOCK = threading.Lock()
_SILENT_SECONDS = 10
_LINES_OF_A_FAILURE = 15


def say(text: str) -> None:
    """Write TEXT as a line, with the seconds since the command began."""
    # Steps of several threads never mix in one line.
    with _LOCK:
        print(f"[{time.monotonic() - _BEGAN:5.1f}s] {text}", file=sys.stderr, flush=True)


def run_long(*command: str, directory: Path | None = None) -> None:
    """Run COMMAND, showing a line of its output every ten seconds.

    If it fails, the error has the last lines.
    """
    last: deque[str] = deque(maxlen=_LINES_OF_A_FAILURE)
    said = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            if time.monotonic() - said > _SILENT_SECONDS:
                said = time.monotonic()
                say(f"  {line.strip()}")
    if process.returncode != 0:
        lines = "\n  ".join(last)
        raise LabError(f"{command[0]} failed ({process.returncode}); its last lines:\n  {lines}")
