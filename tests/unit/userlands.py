"""uutils' coreutils, as Ubuntu 26.04 has them in place of GNU's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

UUTILS = Path("/usr/lib/cargo/bin/coreutils")
"""Where Debian's and Ubuntu's package rust-coreutils has links to its one program."""

GNUS = ("cp", "mv", "rm")
"""What Ubuntu 26.04 keeps of GNU's (packages.ubuntu.com, resolute, coreutils-from-uutils)."""


def wanted() -> bool:
    """Whether tests shall run programs with both, for which there has to be a second one."""
    return bool(os.environ.get("UNIT_UUTILS")) and UUTILS.exists()


def uutils_folder(folder: Path) -> Path:
    """Fill FOLDER with links to uutils' programs, by the names that scripts use; return it.

    Names that GNU's coreutils do not have are left out.
    """
    for program in UUTILS.iterdir():
        if program.name not in GNUS and shutil.which(program.name):
            (folder / program.name).symlink_to(program)
    return folder
