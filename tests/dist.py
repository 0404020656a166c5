"""Build wheel and sdist so that everybody who builds the same commit gets the same bytes.

``make dist`` builds what is committed, not what lies in the working tree: so neither files that
are not in git nor their modes and times have a say. setuptools takes the time from
``SOURCE_DATE_EPOCH`` for wheels. In an sdist it leaves the modes, owners and times of files, and
the time of the build, so that is packed again. Who compares bytes needs the same setuptools, which
the file ``WHEEL`` names, and a zlib that compresses alike.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
# PEP 517; the requirements of the build are in this environment, so nothing is fetched
_BUILD = """\
import sys
from setuptools import build_meta
into = sys.argv[1]  # they set sys.argv
build_meta.build_sdist(into)
build_meta.build_wheel(into)
"""


def main() -> None:
    """Build the last commit into ``dist/``, and print the checksums."""
    epoch = int(git("log", "-1", "--format=%ct"))
    if git("status", "--porcelain", "--untracked-files=no"):
        print("changes that are not committed are left out", file=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work, "tree")
        tree.mkdir()
        archive = git("archive", "--format=tar", "HEAD")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(tree)
        shutil.rmtree(CHECKOUT / "dist", ignore_errors=True)
        for path in build(tree, CHECKOUT / "dist", epoch):
            print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  dist/{path.name}")


def git(*arguments: str) -> bytes:
    """Return what git says of this repository."""
    # root builds in somebody else's clone
    command = ["git", "-c", "safe.directory=*", "-C", str(CHECKOUT), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def build(tree: Path, into: Path, epoch: int) -> list[Path]:
    """Build the sources in a folder; return the paths of sdist and wheel.

    + tree: the folder, with nothing in it but the sources; modes are changed, and files are added
    + into: where they go
    + epoch: the time that all files get, in seconds since 1970

    **Example:** ``build(Path("/tmp/tree"), Path("dist"), 1795829731)``
    """
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    with tempfile.TemporaryDirectory() as work:
        made = Path(work)
        done = subprocess.run(
            [sys.executable, "-c", _BUILD, str(made)],
            cwd=tree,
            env={
                "PATH": os.environ["PATH"],
                "SOURCE_DATE_EPOCH": str(epoch),
                "PYTHONHASHSEED": "0",
                "LC_ALL": "C.UTF-8",
                "TZ": "UTC",
            },
            umask=0o022,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{done.stdout}{done.stderr}")
        into.mkdir(parents=True, exist_ok=True)
        results = []
        for path in sorted(made.iterdir()):
            result = into / path.name
            data = path.read_bytes()
            result.write_bytes(normalised(data, epoch) if path.suffix == ".gz" else data)
            results.append(result)
        return results


def normalised(sdist: bytes, epoch: int) -> bytes:
    """Pack an sdist again: sorted, with one time, no owners and plain modes."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist)) as old,
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=epoch) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old, key=lambda member: member.name):
            new.addfile(_plain(member, epoch), old.extractfile(member))
    return packed.getvalue()


def _plain(member: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    plain = tarfile.TarInfo(member.name)
    plain.type, plain.linkname, plain.size = member.type, member.linkname, member.size
    plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    plain.mtime = epoch
    return plain


if __name__ == "__main__":
    main()
