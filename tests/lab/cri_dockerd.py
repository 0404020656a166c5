"""Release tarballs of cri-dockerd, with a stand-in for the program (`cri_dockerd.c`)."""

from __future__ import annotations

import gzip
import hashlib
import io
import platform
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).with_suffix(".c")

# e_machine of the ELF header, and where it lies.
_ELF_MACHINES = {"amd64": 62, "arm64": 183}
_ELF_MACHINE_AT = 18
_NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}


def build(directory: Path, versions: Sequence[str] = ("0.3.17", "0.3.25", "0.4.3")) -> None:
    """Write cri-dockerd-VERSION.ARCH.tgz of amd64 and arm64, and SHA256SUMS, into DIRECTORY."""
    directory.mkdir(parents=True, exist_ok=True)
    sums = []
    for version in versions:
        program = compile_program(version)
        for architecture in _ELF_MACHINES:
            tarball = directory / f"cri-dockerd-{version}.{architecture}.tgz"
            tarball.write_bytes(_tarball(_labelled(program, architecture)))
            digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
            sums.append(f"{digest}  {tarball.name}\n")
    (directory / "SHA256SUMS").write_text("".join(sums))


def compile_program(version: str) -> bytes:
    """Return the program for this machine, static: a node's C library may be an older one."""
    machine = platform.machine()
    if machine not in _NATIVE:
        raise RuntimeError(f"cri-dockerd exists for {', '.join(_NATIVE)}; this is {machine}")
    with TemporaryDirectory() as directory:
        output = Path(directory, "cri-dockerd")
        command = ["gcc", "-std=gnu11", "-O1", "-s", "-static", "-Wall", "-Wextra", "-Werror",
                   f'-DVERSION="{version}"', "-o", str(output), str(SOURCE)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
        return output.read_bytes()


def _labelled(program: bytes, architecture: str) -> bytes:
    """Return PROGRAM with ARCHITECTURE in its header.

    There is no cross compiler here. A program of the other architecture is never run in the lab:
    only its header is read, by what must tell a wrong one from a right one.
    """
    machine = _ELF_MACHINES[architecture].to_bytes(2, "little")
    return program[:_ELF_MACHINE_AT] + machine + program[_ELF_MACHINE_AT + 2 :]


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
