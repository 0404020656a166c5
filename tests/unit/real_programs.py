"""Real programs for tests that compare them with our readers of their files."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path
from random import Random

import pytest

from tests.lab.paths import cache

SEED = int(os.environ.get("PROPERTY_SEED", "1"))
FILES = int(os.environ.get("PROPERTY_FILES", "200"))
"""How many files are generated for each program; ``make torture`` takes 2000."""


def randoms() -> list[Random]:
    """A source of random numbers for each file."""
    return [Random(f"{SEED} {number}") for number in range(FILES)]


def needed(*names: str) -> str:
    """The first of these programs that is here; the test is skipped, loudly, if none is."""
    for name in names:
        found = shutil.which(name, path=f"{os.environ.get('PATH')}:/usr/sbin:/usr/lib/systemd")
        if found:
            return found
    pytest.skip(f"NOT COMPARED with the real program: {names[0]} is not on this computer")


def root_needed() -> None:
    """Skip the test, loudly, where it does not run as root."""
    if os.geteuid() != 0:
        pytest.skip("NOT COMPARED with the real program: that needs root")


@functools.cache
def image_with(program: str) -> Path:
    """A cached image of the lab's that has this program, to run it with chroot; else the test is
    skipped, loudly."""
    root_needed()
    for image in sorted(cache().glob("base-trixie-*/layer")):
        if (image / program.lstrip("/")).exists():
            return image
    pytest.skip(f"NOT COMPARED with the real program: no image of the lab has {program} yet")


@functools.cache
def lab_package(name: str) -> Path:
    """A Debian package from the lab's archive; else the test is skipped, loudly."""
    for package in sorted(cache().glob(f"archive-trixie-*/debian/pool/main/{name}_*.deb")):
        return package
    pytest.skip(f"NOT COMPARED with the real program: the lab has no package {name} yet")
