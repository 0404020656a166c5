"""Release tarballs of cri-dockerd, with a stand-in for the program (`cri_dockerd.c`)."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab.programs import ELF_MACHINES, compile_program, labelled

SOURCE = Path(__file__).with_suffix(".c")


def build(directory: Path, versions: Sequence[str] = ("0.3.17", "0.3.25", "0.4.3")) -> None:
    """Write cri-dockerd-VERSION.ARCH.tgz of amd64 and arm64, and SHA256SUMS, into DIRECTORY."""
    directory.mkdir(parents=True, exist_ok=True)
    sums = []
    for version in versions:
        program = compile_program(SOURCE, version)
        for architecture in ELF_MACHINES:
            tarball = directory / f"cri-dockerd-{version}.{architecture}.tgz"
            tarball.write_bytes(_tarball(labelled(program, architecture)))
            digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
            sums.append(f"{digest}  {tarball.name}\n")
    (directory / "SHA256SUMS").write_text("".join(sums))


def _tarball(program: bytes) -> bytes:
    """Return the tarball of PROGRAM, laid out as a release; the same bytes each time."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        folder = tarfile.TarInfo("cri-dockerd")
        folder.type = tarfile.DIRTYPE
        folder.mode = 0o755
        tar.addfile(folder)
        file = tarfile.TarInfo("cri-dockerd/cri-dockerd")
        file.mode = 0o755
        file.size = len(program)
        tar.addfile(file, io.BytesIO(program))
    return gzip.compress(content.getvalue(), mtime=0)
