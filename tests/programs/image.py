"""A root file system of the lab's, to run real programs in."""

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
    """What the lab's nodes are made from, built if it is not in the cache."""
    return image.build(SUITE.name, USERLANDS[0])


def package(name: str) -> Path:
    """A Debian package of the lab's archive."""
    (found,) = images().archive.glob(f"debian/pool/main/{name}_*.deb")
    return found


def run(folder: Path, script: Iterable[str]) -> bytes:
    """What a shell script prints that has a copy of the image at ``$root``, thrown away at its end.

    + folder: of the test, seen as ``/mnt`` in the copy
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
