"""Find real programs, and random numbers, for tests that compare them with our readers."""

from __future__ import annotations

import os
import shutil
from random import Random

import pytest

SEED = int(os.environ.get("PROPERTY_SEED", "1"))
FILES = int(os.environ.get("PROPERTY_FILES", "200"))
"""Number of files that are generated for each program. ``make torture`` takes 2000."""


def randoms() -> list[Random]:
    """Return a source of random numbers for each file."""
    return [Random(f"{SEED} {number}") for number in range(FILES)]


_PATH = ":".join(
    [
        os.environ["PATH"],
        *("/usr/sbin", "/usr/lib/systemd", "/usr/lib/systemd/system-generators"),
    ]
)


def needed(*names: str) -> str:
    """Return the path of the first of these programs that is here. Skip the test if none is."""
    for name in names:
        found = shutil.which(name, path=_PATH)
        if found:
            return found
    pytest.skip(f"NOT COMPARED with the real program: {names[0]} is not on this computer")
