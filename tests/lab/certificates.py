"""Certificates of the lab: its web server's, its Kubernetes cluster's, and its etcd cluster's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

WEB_NAMES = (
    "pkgs.k8s.io",
    "prod-cdn.packages.k8s.io",
    "deb.debian.org",
    "registry-1.docker.io",
    "auth.docker.io",
    "production.cloudflare.docker.com",
    "github.com",
)
"""The public names that the lab answers for."""

_SERVER = (Usage.SERVER_AUTH,)
_CLIENT = (Usage.CLIENT_AUTH,)


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def build(directory: Path, *, etcd_addresses: Mapping[str, str]) -> None:
    """Write every certificate of the lab and its key into DIRECTORY.

    `web-ca.crt` signs `web.crt`, for the public names that the lab answers for. `etcd-ca.crt`
    signs `etcd-server-NAME.crt` of each member (name to IP) and `etcd-client.crt`.
    `kubernetes-ca` signs `kubernetes-admin.crt`, for the user that kubeadm makes for admin.conf.
    """
    directory.mkdir(parents=True, exist_ok=True)
    web = _authority(directory, "web-ca")
    _issue(directory, "web", web, names=WEB_NAMES, usages=_SERVER)
    etcd = _authority(directory, "etcd-ca")
    for name, address in etcd_addresses.items():
        _issue(
            directory,
            f"etcd-server-{name}",
            etcd,
            names=(name, "localhost"),
            addresses=(address, "127.0.0.1"),
            # A member is a client of its peers.
            usages=_SERVER + _CLIENT,
        )
    _issue(directory, "etcd-client", etcd, usages=_CLIENT)
    kubernetes = _authority(directory, "kubernetes-ca")
    _issue(
        directory,
        "kubernetes-admin",
        kubernetes,
        organization="kubeadm:cluster-admins",
        usages=_CLIENT,
    )


def client(
    directory: Path,
    name: str,
    *,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> tuple[Path, Path]:
    """Write NAME.crt and NAME.key, another client of the etcd authority in DIRECTORY.

    Its dates may be chosen: an expired one, one that is not valid yet. Its key is always a new
    one, so that with another client's certificate it makes a pair that does not match.
    """
    authority = _load(directory, "etcd-ca")
    return _issue(
        directory, name, authority, usages=_CLIENT, not_before=not_before, not_after=not_after
    )


def api_server(
    directory: Path, node: str, *, names: Sequence[str], addresses: Sequence[str]
) -> tuple[Path, Path]:
    """Write the certificate of NODE's stand-in for kube-apiserver, and its key.

    The Kubernetes authority in DIRECTORY signs it, which is known by kubeconfigs only.
    """
    authority = _load(directory, "kubernetes-ca")
    return _issue(
        directory, f"api-server-{node}", authority, names=names, addresses=addresses, usages=_SERVER
    )


def _load(directory: Path, name: str) -> _Authority:
    return _Authority(
        x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes()),
        _load_key(directory / f"{name}.key"),
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} is not an EC key")
    return key


def _authority(directory: Path, name: str) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"lab {name}")
    certificate = (
        _builder(subject, subject, key.public_key(), None, None)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(directory, name, certificate, key)
    return _Authority(certificate, key)


def _issue(
    directory: Path,
    name: str,
    authority: _Authority,
    *,
    usages: Sequence[x509.ObjectIdentifier],
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
    organization: str = "",
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate.subject
    builder = (
        _builder(_subject(name, organization), issuer, key.public_key(), not_before, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in names]
    alternatives += [x509.IPAddress(ip_address(each)) for each in addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return _write(directory, name, builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    not_before: datetime | None,
    not_after: datetime | None,
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - timedelta(hours=1))
        .not_valid_after(not_after or now + timedelta(days=5 * 365))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _subject(name: str, organization: str = "") -> x509.Name:
    named = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organization:
        named.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(named)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(
    directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    crt, private = directory / f"{name}.crt", directory / f"{name}.key"
    # Opened anew, never reused: a file of an earlier build may have looser permissions.
    private.unlink(missing_ok=True)
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return crt, private
