"""How the lab's images are built, and the archive that workers install from.

The text of this module is part of the name of what it builds (see image.py), so a change here
means new images.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.lab import apt_repository, chroot, linux, paths, programs
from tests.lab.progress import run_long

IMAGES = paths.LAB / "images"
DOWNLOADED = "var/cache/apt/archives"
"""Where a root file system has the .debs that it was made from."""
_PUBLIC_MIRROR = "http://deb.debian.org/debian"
_MERGE_USR = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d" && ln -s "usr/$d" "$1/$d"; done'
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def build_base(suite: str, place: Path) -> None:
    """Build a whole root file system, and the .debs it was made from, at PLACE."""
    root, packages = place / "layer", place / "packages"
    packages.mkdir()
    lines = (IMAGES / "base/packages.txt").read_text().splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    _bootstrap(suite, root, names, "--variant=minbase")
    for package in (root / DOWNLOADED).glob("*.deb"):
        package.rename(packages / package.name)
    _in_image("base/build.sh", suite, packages=packages, upper=root)


def unpack(suite: str, packages: Iterable[str], place: Path) -> None:
    """Unpack PACKAGES and what they depend on at PLACE, with merged /usr; nothing is set up."""
    _bootstrap(suite, place, packages, "--variant=extract", f"--setup-hook={_MERGE_USR}")


def build_layer(suite: str, base: Path, name: str, place: Path) -> None:
    """Build what the image NAME has over the root file system BASE, and its .debs, at PLACE."""
    for folder in ("layer", "packages"):
        (place / folder).mkdir()
    with tempfile.TemporaryDirectory(dir=place) as work:
        _in_image(
            f"{name}/build.sh",
            suite,
            "--lower",
            str(base),
            "--work",
            work,
            packages=place / "packages",
            upper=place / "layer",
        )
    own = place / "layer/usr/lib/lab"
    if own.is_dir():
        library = own / "clock.so"
        library.write_bytes(programs.compile_library(IMAGES / "worker/clock.c"))
        library.chmod(0o755)


def build_archive(
    suite: str, packages: Iterable[Path], key: apt_repository.SigningKey, place: Path
) -> None:
    """Build the document root of a signed archive of all PACKAGES at PLACE."""
    root = place / "debian"
    pool = root / "pool/main"
    pool.mkdir(parents=True)
    for package in packages:
        target = pool / archive_name(package.name)
        if not target.exists():
            os.link(package, target)
    apt_repository.index(
        root, key, origin="Debian", suite="stable", codename=suite, components=("main",)
    )


def archive_name(cached: str) -> str:
    """Return the name in an archive's pool of a package that apt's cache calls CACHED.

    apt's cache keeps the epoch of the version, its colon escaped; archives leave it out.
    """
    name, version, architecture = cached.split("_")
    return f"{name}_{version.split('%3a')[-1]}_{architecture}"


def _bootstrap(suite: str, root: Path, packages: Iterable[str], *options: str) -> None:
    """Make ROOT from PACKAGES of SUITE; the .debs stay in DOWNLOADED."""
    apt = ['Acquire::Languages "none"', "APT::Keep-Downloaded-Packages true"]
    run_long(
        "mmdebstrap",
        "--mode=root",
        *options,
        "--skip=essential/unlink,cleanup/apt/cache",
        "--dpkgopt=force-unsafe-io",
        *(f"--aptopt={option}" for option in [*apt, *chroot.archive_access().splitlines()]),
        f"--include={','.join(packages)}",
        suite,
        str(root),
        _source(suite),
    )


def _in_image(script: str, suite: str, *layer: str, packages: Path, upper: Path) -> None:
    run_long(
        sys.executable,
        "-m",
        "tests.lab.chroot",
        "--upper",
        str(upper),
        *layer,
        "--packages",
        str(packages),
        "--scripts",
        str(IMAGES),
        "--apt-source",
        _source(suite),
        script,
        directory=paths.CHECKOUT,
    )


def _source(suite: str) -> str:
    """Return the line of sources.list that images of SUITE are built from."""
    return f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main"


def _mirror() -> str:
    """Return the Debian mirror of this computer's apt (LAB_MIRROR overrides)."""
    chosen = os.environ.get("LAB_MIRROR")
    if chosen:
        return chosen
    form = "$(REPO_URI) $(ORIGIN) $(LABEL)"
    for line in linux.run("apt-get", "indextargets", "--format", form).splitlines():
        uri, _, about = line.partition(" ")
        if about == "Debian Debian":
            return uri.rstrip("/")
    return _PUBLIC_MIRROR
