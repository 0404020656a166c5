"""The real kubectl of the lab's computer: Debian's, unpacked instead of installed.

As an installed program it would be the developer's own, too. Debian 12 and Ubuntu have none, or an
old one, so it is forky's, of the minor version that this package deploys by default; it runs with
any C library since 2.34.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

from tests.lab import builders, cache

_SUITE = "forky"
_PACKAGE = "kubectl"


def piece() -> Path:
    """Return the folder of the cache that has it as `bin/kubectl`."""
    return cache.piece(
        "kubectl",
        [Path(__file__), Path(builders.__file__), platform.machine()],
        _build,
        what="kubectl of Debian",
    )


def _build(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place) as work:
        root = Path(work, "root")
        builders.unpack(_SUITE, [_PACKAGE], root)
        (place / "bin").mkdir()
        shutil.copy2(root / "usr/bin/kubectl", place / "bin")
