"""Extract and check the program in a release tarball of cri-dockerd.

The computer that runs pyinfra keeps the program only in memory, and does not start it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from pathlib import PurePosixPath

from chaos_engine.operations.engine.arguments import shown

MEMBER = "cri-dockerd/cri-dockerd"

# ELF header (elf(5)): class and byte order are at the offsets 4 and 5, the machine at 18
_64_BIT_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
MACHINES = {"amd64": 62, "arm64": 183}
"""The architectures that cri-dockerd is released for. A key is the architecture's name in dpkg, a
value is its machine number in an ELF header."""

# cri-dockerd publishes no checksums. These are kubespray's: cri_dockerd_archive_checksums in
# https://github.com/kubernetes-sigs/kubespray/blob/118b2dce02d3e5730461c8ba8c91cd9dd5dc0b10/roles/kubespray_defaults/vars/main/checksums.yml
CHECKSUMS = {
    f"cri-dockerd-{release}.tgz": sha256
    for release, sha256 in (
        ("0.3.17.amd64", "5568d571c2cfee7a31ce0b35b7fcc65b96c85b573ee6645151c4d022ed92a626"),
        ("0.3.17.arm64", "761ee6db946ff2c8da04e57833dbbca8e5c38bc3f5b8e84bda689b1b7260c36f"),
        ("0.3.18.amd64", "937578ddcdb28c71afded3fda25d555e0c9e6d396668977ff98228d55886dc79"),
        ("0.3.18.arm64", "d16204a4f01685ba67319adb3acc6a6f3e62d8bcfd87bc67f5e08f7332515a9d"),
        ("0.3.20.amd64", "2ce46d6bbd7f6a7e06e211836c201fdc2311111913eccc63a03f6ef4fe1958fc"),
        ("0.3.20.arm64", "e6b4661c51c832ee1cbbb75d1c8b086fa803acc153d400454c3b8cf324547d89"),
        ("0.3.21.amd64", "6c35838bc4b1aef74f9113670e114ca729a5f295f9457b226791e18e86e91698"),
        ("0.3.21.arm64", "35de6b1e8eba11d8ba6d71fa7499cb3d610a1e7b866c9d43b7f87029e3a769cd"),
    )
}

MIB = 1 << 20
# A release is a folder with one Go program. The program has some tens of MB, the tarball a third of
# that. The limits allow several times as much
MAX_PACKED = 128 * MIB
MAX_PROGRAM = 128 * MIB
MAX_UNPACKED = 192 * MIB
MAX_MEMBERS = 256
# The limit for names, extended headers and padding. tarfile itself does not limit extended headers
_MAX_BESIDE = MIB


def extract(data: bytes, sha256: str, architecture: str) -> bytes:
    """Return the program cri-dockerd from a release tarball.

    + data: the tarball's bytes
    + sha256: the tarball's expected checksum, in hex
    + architecture: the node's architecture, as dpkg names it

    The tarball is unpacked as a stream, so that only the program needs memory. Raises
    ``ValueError`` in these cases:

    - the tarball has another checksum, or is incomplete
    - a member's path leads out of the tarball, or a member is neither a plain file nor a folder
    - the content exceeds one of the limits ``MAX_...`` of this module
    - the program is missing, or is for another architecture

    **Example:** ``extract(Path("cri-dockerd-0.3.17.arm64.tgz").read_bytes(), sha256, "arm64")``
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise ValueError(f"the tarball's sha256 is {found}, not {sha256.lower()}")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
            archive = _Bounded(unpacked)
            # "r|" reads a stream. "r:" seeks, and so would need the whole archive in memory
            with tarfile.open(fileobj=archive, mode="r|") as tar:
                program = _program(tar, archive)
            # tarfile stops before the end of the stream, where gzip checks its checksum
            while archive.read(64 * 1024):
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ValueError(f"the file is not a complete gzipped tar archive: {error}") from None
    if program is None:
        raise ValueError(f"the tarball has no {MEMBER}")
    _check_program(program, architecture)
    return program


class _Bounded(io.RawIOBase):
    """The unpacked stream of a tarball, with a limit for the number of bytes that can be read."""

    def __init__(self, source: gzip.GzipFile) -> None:
        self._source, self._left = source, _MAX_BESIDE

    def allow(self, size: int) -> None:
        """Increase the limit by a number of bytes."""
        self._left += size

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, b"" at the end. Raises ``ValueError`` beyond the limit."""
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"the tarball's headers and padding exceed {_MAX_BESIDE // MIB} MiB")
        return data


def _program(tar: tarfile.TarFile, archive: _Bounded) -> bytes | None:
    """Check all members of the tarball and return the program, ``None`` if there is none.

    Raises ``ValueError`` if a member is not allowed or too large, or if there are too many members.
    """
    program, unpacked = None, 0
    for number, member in enumerate(tar, 1):
        _check_member(member)
        unpacked += member.size
        if number > MAX_MEMBERS:
            raise ValueError(f"the tarball has more than {MAX_MEMBERS} members; a release has two")
        if member.name == MEMBER and member.size > MAX_PROGRAM:
            raise ValueError(f"the program {MEMBER} is larger than {MAX_PROGRAM // MIB} MiB")
        if unpacked > MAX_UNPACKED:
            raise ValueError(f"the tarball unpacks to more than {MAX_UNPACKED // MIB} MiB")
        archive.allow(member.size if member.isfile() else 0)
        if member.name != MEMBER or not member.isfile():
            continue
        if program is not None:
            raise ValueError(f"the tarball has {MEMBER} twice")
        file = tar.extractfile(member)
        program = file.read() if file is not None else None
    return program


def _check_member(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"the member {shown(member.name)} leads out of the tarball")
    if member.size < 0:
        raise ValueError(f"the member {shown(member.name)} has a size below 0")
    # a sparse file unpacks to more than the archive holds
    if member.issparse() or not (member.isfile() or member.isdir()):
        raise ValueError(f"the member {shown(member.name)} is neither a file nor a folder")


def _check_program(program: bytes, architecture: str) -> None:
    if not program.startswith(_64_BIT_LITTLE_ENDIAN) or len(program) < 20:
        raise ValueError(f"the program {MEMBER} is not a 64-bit ELF program")
    machine = int.from_bytes(program[18:20], "little")
    if machine != MACHINES[architecture]:
        names = {number: name for name, number in MACHINES.items()}
        raise ValueError(
            f"the program {MEMBER} is for {names.get(machine, f'ELF machine {machine}')}, "
            f"not for {architecture}"
        )
