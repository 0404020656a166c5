"""Run ``pyinfra inventory.py deploy.py --dry`` on @fake hosts, by ``python -m tests.preview``.

It makes the files that a user would bring: certificates of an authority of its own, and a tarball
whose program is only an ELF header.
"""

from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.lab import certificates

HERE = Path(__file__).resolve().parent
VERSION = "0.3.17"
_MACHINES = {"amd64": 62, "arm64": 183}


def main() -> int:
    """Preview the deploy. Return pyinfra's exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificates.build(folder, etcd_addresses={"etcd1": "192.168.1.40"})
        for architecture in _MACHINES:
            write_tarball(folder, architecture)
        settings = {
            "chaos_cri_dockerd_tarball": f"{folder}/cri-dockerd-{{version}}.{{arch}}.tgz",
            "chaos_etcd_client_certificate": f"{folder}/etcd-client.crt",
            "chaos_etcd_client_key": f"{folder}/etcd-client.key",
            "chaos_etcd_ca": f"{folder}/etcd-ca.crt",
        }
        data = [word for item in settings.items() for word in ("--data", "=".join(item))]
        pyinfra = [f"{sys.prefix}/bin/pyinfra", str(HERE / "inventory.py"), "deploy.py", "--dry"]
        return subprocess.run([*pyinfra, *data], check=False).returncode


def write_tarball(folder: Path, architecture: str) -> None:
    """Write a release tarball of cri-dockerd whose program is only an ELF header."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHI", 2, _MACHINES[architecture], 1) + bytes(40)
    path = folder / f"cri-dockerd-{VERSION}.{architecture}.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("cri-dockerd/cri-dockerd")
        member.size, member.mode = len(header), 0o755
        archive.addfile(member, io.BytesIO(header))
    with (folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


if __name__ == "__main__":
    sys.exit(main())
