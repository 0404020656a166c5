"""Stand-ins that are programs of their own, compiled from C for a node of any architecture."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

# e_machine of the ELF header, and where it lies.
ELF_MACHINES = {"amd64": 62, "arm64": 183}
_ELF_MACHINE_AT = 18
_NATIVE = ("x86_64", "aarch64")


def compile_program(source: Path, version: str) -> bytes:
    """Return the program of SOURCE for this machine, static: a node's C library may be older."""
    machine = platform.machine()
    if machine not in _NATIVE:
        raise RuntimeError(f"{source.stem} is compiled for {' or '.join(_NATIVE)}, not {machine}")
    with TemporaryDirectory() as directory:
        output = Path(directory, source.stem)
        command = ["gcc", "-std=gnu11", "-O1", "-s", "-static", "-Wall", "-Wextra", "-Werror",
                   f'-DVERSION="{version}"', "-o", str(output), str(source)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
        return output.read_bytes()


def compile_library(source: Path) -> bytes:
    """Return the shared library of SOURCE for this machine, to be loaded into other programs."""
    with TemporaryDirectory() as directory:
        output = Path(directory, source.stem)
        command = ["gcc", "-std=gnu11", "-O1", "-s", "-shared", "-fPIC", "-Wall", "-Wextra",
                   "-Werror", "-o", str(output), str(source)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
        return output.read_bytes()


def labelled(program: bytes, architecture: str) -> bytes:
    """Return PROGRAM with ARCHITECTURE in its header.

    There is no cross compiler here. A program of the other architecture is never run in the lab:
    only its header is read, by what must tell a wrong one from a right one.
    """
    machine = ELF_MACHINES[architecture].to_bytes(2, "little")
    return program[:_ELF_MACHINE_AT] + machine + program[_ELF_MACHINE_AT + 2 :]
