"""Check client certificates on this computer, before any node is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from chaos_engine.deploys.pem import blocks, byte_order_mark
from chaos_engine.deploys.settings import SettingsError, read_setting

EXPIRES_SOON = timedelta(days=30)
_PRIVATE, _CERTIFICATE = b"PRIVATE KEY-----", b"-----BEGIN CERTIFICATE-----"

T = TypeVar("T")


@dataclass(frozen=True)
class PemFile:
    """A PEM file on this computer, and the setting that names it. Its repr hides the content."""

    setting: str
    path: Path
    data: bytes = field(repr=False)

    @classmethod
    def read(cls, setting: str, path: Path) -> PemFile:
        """Read the file. Raise `SettingsError` if it cannot be read."""
        fix = f"put the file there, or set {setting} to where it is"
        return cls(setting, path, read_setting(setting, path, fix))

    def error(self, found: str, fix: str) -> SettingsError:
        """Return the error for a bad file.

        + found: what is wrong, in words that follow the file's path: ``is no CA's certificate``
        + fix: what to do
        """
        return SettingsError(f"{self.setting}: {self.path} {found}; {fix}")


def check_client(certificate: PemFile, key: PemFile, ca: PemFile, now: datetime) -> list[str]:
    """Check whether a server accepts a client certificate. Return warnings.

    + certificate: the client's certificate, followed by intermediate ones
    + key: the private key of the client's certificate, without passphrase
    + ca: one or several certificates of the CA that issued the client's certificate
    + now: the time, with its time zone

    There is a warning for each certificate that expires within 30 days. Raises `SettingsError` for
    the first problem that would make a server refuse the client.
    """
    anchors = _certificates(ca, "the CA's certificate")
    other_kinds = [
        f"{block.kind} with headers" if block.is_certificate else block.kind
        for block in blocks(ca.data)
        if not block.is_authority
    ]
    if other_kinds:
        raise ca.error(
            f"has other PEM blocks than plain certificates ({', '.join(other_kinds)}); Go "
            "programs, such as the API server, refuse the file or skip these",
            "have nothing but certificates in it",
        )
    for anchor in anchors:
        if not _is_authority(anchor):
            raise ca.error(
                f"is no CA's certificate: {_name(anchor)} may not issue others",
                "take the certificate of the CA that issued the client's",
            )
    leaf, *rest = _certificates(certificate, "the client's certificate")
    _check_key(key, certificate, leaf)
    chain = list(_chain(leaf, rest, anchors))
    if not chain:
        raise certificate.error(
            f"was not issued by {ca.path}: it names {_name(leaf, issuer=True)} as its "
            f"issuer, that file has {', '.join(map(_name, anchors))}",
            "take the CA that etcd trusts, and a certificate of it",
        )
    _check_usage(certificate, leaf)
    warnings = [_check_dates(certificate, one, now) for one in chain[:-1]]
    warnings.append(_check_dates(ca, chain[-1], now))
    return [warning for warning in warnings if warning]


def _certificates(file: PemFile, wanted: str) -> list[x509.Certificate]:
    """Return the certificates in a file.

    + wanted: what the file should have, as "the CA's certificate"

    Raises `SettingsError` if there are none, or if the file has a private key.
    """
    if _PRIVATE in file.data and _CERTIFICATE in file.data:
        raise file.error(
            "has a private key in it besides the certificate",
            "take the key out: all users of a node can read this file",
        )
    if _PRIVATE in file.data:
        raise file.error(f"is a private key, not {wanted}", "are two files swapped?")
    _check_plain(file)
    found = [block.der for block in blocks(file.data) if block.is_certificate]
    try:
        by_openssl = x509.load_pem_x509_certificates(file.data)
    except ValueError:
        by_openssl = []
    if len(found) < len(by_openssl):  # a user who looks at the file with openssl sees no problem
        raise file.error(
            f"has {len(by_openssl)} certificates, and Go programs, such as the API server, find "
            f"{len(found)} of them: {_WHY_HIDDEN}",
            "put each -----BEGIN CERTIFICATE----- at the beginning of a line",
        )
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in found]
    except ValueError:
        certificates = []
    if not certificates:
        raise file.error(f"is not {wanted} in PEM form", f"put {wanted} there")
    return certificates


_WHY_HIDDEN = "something stands before -----BEGIN on its line, after its dashes, or below it"


def _check_plain(file: PemFile) -> None:
    """Raise `SettingsError` for a file with a byte order mark."""
    mark = byte_order_mark(file.data)
    if mark:
        raise file.error(
            f"begins with {mark}, and Go programs, such as the API server, find no PEM after it",
            "save it as plain text: UTF-8 without byte order mark",
        )


def _hidden_key(file: PemFile) -> SettingsError:
    """Return the error for a key that OpenSSL finds and Go does not."""
    return file.error(
        f"has a key that Go programs, such as the API server, do not find: {_WHY_HIDDEN}",
        "put its -----BEGIN line at the beginning of a line",
    )


def _check_key(file: PemFile, certificate: PemFile, leaf: x509.Certificate) -> None:
    """Raise `SettingsError` if a file is not the unencrypted key of the certificate `leaf`."""
    if _CERTIFICATE in file.data and _PRIVATE not in file.data:
        raise file.error("is a certificate, not a private key", "are two files swapped?")
    # The two forms that openssl writes: PKCS#8, and the older one
    if b"BEGIN ENCRYPTED PRIVATE KEY" in file.data or b"Proc-Type: 4,ENCRYPTED" in file.data:
        raise file.error(
            "is encrypted, and the API server cannot ask for a passphrase",
            "decrypt it: openssl pkey -in OLD -out NEW",
        )
    _check_plain(file)
    try:
        key = serialization.load_pem_private_key(file.data, password=None)
    # No error is quoted: its message may show parts of the key
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # cryptography 42 finds a key only at the beginning of a line; newer ones find others too
        if _PRIVATE in file.data and b"\n-----BEGIN" not in b"\n" + file.data:
            raise _hidden_key(file) from None
        raise file.error("is not a private key in PEM form", "put the client's key there") from None
    if not any(block.is_key for block in blocks(file.data)):
        raise _hidden_key(file)
    if key.public_key() != leaf.public_key():
        raise file.error(
            f"is not the key of {certificate.path}", "take the pair that was made together"
        )


def _chain(
    leaf: x509.Certificate, rest: Iterable[x509.Certificate], anchors: Iterable[x509.Certificate]
) -> Iterator[x509.Certificate]:
    """Yield the client's certificate, its issuer's, and so on, up to a certificate of the CA.

    + leaf: the client's certificate
    + rest: intermediate certificates, in any order
    + anchors: the CA's certificates

    Yields nothing if the client's certificate was not issued by the CA.
    """
    anchors, rest, chain = list(anchors), [one for one in rest if _is_authority(one)], [leaf]
    while True:
        if anchor := _first(anchors, lambda one: _issued(chain[-1], one)):
            yield from chain
            yield anchor
            return
        intermediate = _first(rest, lambda one: _issued(chain[-1], one))
        if intermediate is None:
            return
        rest.remove(intermediate)
        chain.append(intermediate)


def _first(items: Iterable[T], matches: Callable[[T], bool]) -> T | None:
    """Return the first item that matches, ``None`` if none does."""
    return next((item for item in items if matches(item)), None)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether a certificate was issued by another one."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate may issue others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _check_usage(file: PemFile, leaf: x509.Certificate) -> None:
    """Check that the certificate is for clients.

    A certificate without extended key usage may be used for everything (crypto/x509 in Go, which
    etcd uses).
    """
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    right = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if right.isdisjoint(usages):
        raise file.error(
            "is not for clients: its extended key usage lacks clientAuth",
            "take a client's certificate, not a server's",
        )


def _check_dates(file: PemFile, certificate: x509.Certificate, now: datetime) -> str:
    """Raise `SettingsError` for a certificate that is not valid at `now`.

    Returns a warning if the certificate expires within 30 days, "" otherwise.
    """
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise file.error(f"expired on {end:%Y-%m-%d}", "renew it")
    if now < begin:
        raise file.error(
            f"is not valid before {begin:%Y-%m-%d %H:%M} UTC",
            f"wait, or fix this computer's clock: it says {now:%Y-%m-%d %H:%M} UTC",
        )
    return f"{file.path} expires on {end:%Y-%m-%d}; renew it" if end - now < EXPIRES_SOON else ""


def _name(certificate: x509.Certificate, issuer: bool = False) -> str:
    """Return the name of a certificate's subject, or of its issuer, for a message."""
    return (certificate.issuer if issuer else certificate.subject).rfc4514_string() or "(no name)"
