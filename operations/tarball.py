"""The program in a release tarball of cri-dockerd, checked without being run or unpacked."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from pathlib import PurePosixPath

MEMBER = "cri-dockerd/cri-dockerd"

# ELF header (elf(5)): class and byte order at 4 and 5, machine at 18
_64_BIT_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
MACHINES = {"amd64": 62, "arm64": 183}
"""The architectures that cri-dockerd is released for, as dpkg names them."""

# cri-dockerd publishes no checksums. These are kubespray's: cri_dockerd_archive_checksums in
# https://github.com/kubernetes-sigs/kubespray/blob/118b2dce02d3e5730461c8ba8c91cd9dd5dc0b10/roles/kubespray_defaults/vars/main/checksums.yml
CHECKSUMS = {
    "cri-dockerd-0.3.17.amd64.tgz": "5568d571c2cfee7a31ce0b35b7fcc65b"
    "96c85b573ee6645151c4d022ed92a626",
    "cri-dockerd-0.3.17.arm64.tgz": "761ee6db946ff2c8da04e57833dbbca8"
    "e5c38bc3f5b8e84bda689b1b7260c36f",
    "cri-dockerd-0.3.18.amd64.tgz": "937578ddcdb28c71afded3fda25d555e"
    "0c9e6d396668977ff98228d55886dc79",
    "cri-dockerd-0.3.18.arm64.tgz": "d16204a4f01685ba67319adb3acc6a6f"
    "3e62d8bcfd87bc67f5e08f7332515a9d",
    "cri-dockerd-0.3.20.amd64.tgz": "2ce46d6bbd7f6a7e06e211836c201fdc"
    "2311111913eccc63a03f6ef4fe1958fc",
    "cri-dockerd-0.3.20.arm64.tgz": "e6b4661c51c832ee1cbbb75d1c8b086f"
    "a803acc153d400454c3b8cf324547d89",
    "cri-dockerd-0.3.21.amd64.tgz": "6c35838bc4b1aef74f9113670e114ca7"
    "29a5f295f9457b226791e18e86e91698",
    "cri-dockerd-0.3.21.arm64.tgz": "35de6b1e8eba11d8ba6d71fa7499cb3d"
    "610a1e7b866c9d43b7f87029e3a769cd",
}


def extract(data: bytes, sha256: str, architecture: str) -> bytes:
    """The program in the tarball.

    + data: the tarball's bytes
    + sha256: the checksum that it shall have, in hex
    + architecture: of the node, as dpkg names it

    Raises ``ValueError`` that says what is wrong with it.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise ValueError(f"its sha256 is {found}, not {sha256.lower()}")
    try:
        # whole and at once: tarfile stops before gzip's own checksum
        archive = io.BytesIO(gzip.decompress(data))
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for member in tar:
                _check_member(member)
            file = tar.extractfile(MEMBER)
            program = file.read() if file is not None else b""
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ValueError(f"it is no whole gzipped tar archive: {error}") from None
    except KeyError:
        raise ValueError(f"it has no {MEMBER}") from None
    _check_program(program, architecture)
    return program


def _check_member(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"its member {member.name} leads out of the archive")
    if not (member.isfile() or member.isdir()):
        raise ValueError(f"its member {member.name} is neither a file nor a directory")


def _check_program(program: bytes, architecture: str) -> None:
    if not program.startswith(_64_BIT_LITTLE_ENDIAN) or len(program) < 20:
        raise ValueError(f"its {MEMBER} is no 64-bit ELF program")
    machine = int.from_bytes(program[18:20], "little")
    if machine != MACHINES[architecture]:
        names = {number: name for name, number in MACHINES.items()}
        raise ValueError(
            f"its {MEMBER} is for {names.get(machine, f'ELF machine {machine}')}, "
            f"not for {architecture}"
        )
