"""Run real programs in a root file system of the lab."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.acceptance.suites import SUITE
from tests.lab import image
from tests.lab.image import Images
from tests.lab.plan import USERLANDS


@functools.cache
def images() -> Images:
    """Return the images of the lab's nodes. Build them if they are not in the cache."""
    return image.build(SUITE.name, USERLANDS[0])


def package(name: str) -> Path:
    """Return the path of a Debian package in the lab's archive."""
    (found,) = images().archive.glob(f"debian/pool/main/{name}_*.deb")
    return found


def run(folder: Path, script: Iterable[str]) -> bytes:
    """Run a shell script with a copy of the image at ``$root``. Return what it prints.

    + folder: the test's folder, which is ``/mnt`` in the copy

    The copy is removed at the end.
    """
    lines = [
        "set -e; root=$1; work=$2; mount -t tmpfs tmpfs $work; mkdir $work/upper $work/work",
        f"mount -t overlay overlay -o lowerdir={images().base}/layer,"
        "upperdir=$work/upper,workdir=$work/work $root",
        "mount --bind $3 $root/mnt; mount -t proc proc $root/proc; set +e",
        *script,
    ]
    places = [folder / name for name in (".root", ".work")]
    for place in places:
        place.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--fork", "sh", "-s", *places, folder],
        input="\n".join(lines).encode("utf-8", "surrogateescape"),
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout
