"""Put uutils' coreutils in place of GNU's, as Ubuntu 26.04 does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

UUTILS = Path("/usr/lib/cargo/bin/coreutils")
"""The folder where Debian's and Ubuntu's package rust-coreutils has links to its one program."""

GNUS = ("cp", "mv", "rm")
"""GNU programs that Ubuntu 26.04 keeps (packages.ubuntu.com, resolute, coreutils-from-uutils)."""


def wanted() -> bool:
    """Tell whether tests run programs with both coreutils: asked for, and uutils is installed."""
    return bool(os.environ.get("UNIT_UUTILS")) and UUTILS.exists()


def uutils_folder(folder: Path) -> Path:
    """Fill FOLDER with links to uutils' programs, by the names that scripts use. Return it.

    Leaves out names that GNU's coreutils do not have.
    """
    for program in UUTILS.iterdir():
        if program.name not in GNUS and shutil.which(program.name):
            (folder / program.name).symlink_to(program)
    return folder
