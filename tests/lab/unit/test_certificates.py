"""The lab's certificates, read and checked by openssl where it is there."""

from __future__ import annotations

import shutil
import stat
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.lab import certificates

MEMBERS = {"etcd1": "192.168.1.40", "etcd2": "192.168.1.41"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certs")
    certificates.build(path, etcd_addresses=MEMBERS)
    return path


def _openssl_verify(ca: Path, certificate: Path, *options: str) -> tuple[int, str]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", ca, *options, certificate],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ca", "name", "options"),
    [
        ("web-ca", "web", ["-purpose", "sslserver", "-verify_hostname", "pkgs.k8s.io"]),
        ("web-ca", "web", ["-purpose", "sslserver", "-verify_hostname", "registry-1.docker.io"]),
        ("etcd-ca", "etcd-server-etcd1", ["-purpose", "sslserver", "-verify_hostname", "etcd1"]),
        ("etcd-ca", "etcd-server-etcd1", ["-purpose", "sslclient", "-verify_ip", "127.0.0.1"]),
        ("etcd-ca", "etcd-server-etcd2", ["-verify_ip", MEMBERS["etcd2"]]),
        ("etcd-ca", "etcd-client", ["-purpose", "sslclient"]),
        ("kubernetes-ca", "kubernetes-admin", ["-purpose", "sslclient"]),
    ],
)
def test_openssl_accepts(directory: Path, ca: str, name: str, options: list[str]) -> None:
    status, output = _openssl_verify(directory / f"{ca}.crt", directory / f"{name}.crt", *options)
    assert status == 0, output


@pytest.mark.parametrize(
    ("ca", "name", "options"),
    [
        ("web-ca", "etcd-client", []),
        ("etcd-ca", "etcd-client", ["-purpose", "sslserver"]),
        ("etcd-ca", "etcd-server-etcd1", ["-verify_ip", MEMBERS["etcd2"]]),
        ("web-ca", "web", ["-verify_hostname", "example.org"]),
    ],
)
def test_openssl_refuses(directory: Path, ca: str, name: str, options: list[str]) -> None:
    status, _ = _openssl_verify(directory / f"{ca}.crt", directory / f"{name}.crt", *options)
    assert status != 0


def test_keys_are_private_and_match(directory: Path) -> None:
    keys = sorted(directory.glob("*.key"))
    assert len(keys) == len(list(directory.glob("*.crt"))) == 8
    for path in keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = load_pem_private_key(path.read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(path.with_suffix(".crt").read_bytes())
        assert certificate.public_key() == key.public_key()


def test_another_client_may_be_expired_and_has_its_own_key(directory: Path, tmp_path: Path) -> None:
    for name in ("etcd-ca.crt", "etcd-ca.key"):
        shutil.copy(directory / name, tmp_path)
    now = datetime.now(timezone.utc)
    certificate, key = certificates.client(
        tmp_path,
        "old",
        not_before=now - timedelta(days=9),
        not_after=now - timedelta(days=1),
    )
    assert key.read_bytes() != (directory / "etcd-client.key").read_bytes()
    status, output = _openssl_verify(tmp_path / "etcd-ca.crt", certificate)
    assert (status, "certificate has expired" in output) == (2, True)
    status, output = _openssl_verify(tmp_path / "etcd-ca.crt", certificate, "-no_check_time")
    assert status == 0, output
