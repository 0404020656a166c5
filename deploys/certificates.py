"""Check client certificates on this computer, before any node is touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from chaos_engine.deploys.pem import blocks, byte_order_mark
from chaos_engine.deploys.settings import SettingsError, read_setting

EXPIRES_SOON = timedelta(days=30)
_PRIVATE, _CERTIFICATE = b"PRIVATE KEY-----", b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class PemFile:
    """A PEM file on this computer, and the name of the setting that has the file's path.

    The repr hides the file's content.
    """

    setting: str
    path: Path
    data: bytes = field(repr=False)

    @classmethod
    def read(cls, setting: str, path: Path) -> PemFile:
        """Read a PEM file. Raise `SettingsError` if the file cannot be read."""
        fix = f"put the file at this path, or set {setting} to the file's path"
        return cls(setting, path, read_setting(setting, path, fix))

    def error(self, found: str, fix: str) -> SettingsError:
        """Return an error that names the setting and the file, and says what is wrong.

        + found: what is wrong, such as ``is not a CA's certificate``. The message has this text
          after the file's path
        + fix: what the user has to do
        """
        return SettingsError(f"{self.setting}: {self.path} {found}; {fix}")


def check_client(certificate: PemFile, key: PemFile, ca: PemFile, now: datetime) -> list[str]:
    """Check that a server would accept a client certificate.

    + certificate: the client's certificate, followed by intermediate certificates
    + key: the private key of the client's certificate, without passphrase
    + ca: one or several certificates of the CA that issued the client's certificate
    + now: the current time, with time zone

    Returns a warning for each certificate that expires within 30 days. Raises `SettingsError` for
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
            f"has PEM blocks that are not plain certificates: {', '.join(other_kinds)}. Go "
            "programs, such as the API server, refuse such a file or skip these blocks",
            "remove everything but plain certificates from the file",
        )
    for anchor in anchors:
        if not _is_authority(anchor):
            raise ca.error(
                f"is not a CA's certificate: {_name(anchor)} may not issue certificates",
                "use the certificate of the CA that issued the client's certificate",
            )
    leaf, *rest = _certificates(certificate, "the client's certificate")
    _check_key(key, certificate, leaf)
    chain = _chain(leaf, [one for one in rest if _is_authority(one)], anchors)
    if not chain:
        raise certificate.error(
            f"was not issued by a CA in {ca.path}: the issuer is {_name(leaf, issuer=True)}, and "
            f"the CA file has the certificates of {', '.join(map(_name, anchors))}",
            "use the CA that etcd trusts, and a client's certificate that this CA issued",
        )
    _check_usage(certificate, leaf)
    warnings = [_check_dates(certificate, one, now) for one in chain[:-1]]
    warnings.append(_check_dates(ca, chain[-1], now))
    return [warning for warning in warnings if warning]


def _certificates(file: PemFile, wanted: str) -> list[x509.Certificate]:
    """Return the certificates in a file.

    + wanted: what the file should contain, such as "the CA's certificate". Error messages contain
      this text

    Raises `SettingsError` if the file has no certificate, if it has a private key, or if Go
    programs, such as the API server, would overlook a certificate in the file.
    """
    if _PRIVATE in file.data and _CERTIFICATE in file.data:
        raise file.error(
            "contains a private key besides the certificate",
            "remove the key from the file: on a node, all users can read the file",
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
            f"has {len(by_openssl)} certificates, but Go programs, such as the API server, find "
            f"only {len(found)} of them: {_WHY_HIDDEN}",
            "put each -----BEGIN CERTIFICATE----- alone on a line, and its base64 text below",
        )
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in found]
    except ValueError:
        certificates = []
    if not certificates:
        raise file.error(f"is not {wanted} in PEM form", f"put {wanted} into the file")
    return certificates


_WHY_HIDDEN = "there is other text, or a blank, on the -----BEGIN line or just below this line"


def _check_plain(file: PemFile) -> None:
    """Raise `SettingsError` if a file begins with a byte order mark."""
    mark = byte_order_mark(file.data)
    if mark:
        raise file.error(
            f"begins with {mark}, so Go programs, such as the API server, do not find the first "
            "PEM block",
            "save the file as UTF-8 without byte order mark",
        )


def _hidden_key(file: PemFile) -> SettingsError:
    """Return the error for a private key that OpenSSL finds, but Go programs do not."""
    return file.error(
        f"has a key that Go programs, such as the API server, do not find: {_WHY_HIDDEN}",
        "put -----BEGIN ... KEY----- alone on a line, and its base64 text below",
    )


def _check_key(file: PemFile, certificate: PemFile, leaf: x509.Certificate) -> None:
    """Check that a file has the client's private key, and that the key needs no passphrase.

    + certificate: the file with the client's certificate; the error message names this file
    + leaf: the client's certificate

    Raises `SettingsError` if the file does not have this key, or if the key is encrypted.
    """
    if _CERTIFICATE in file.data and _PRIVATE not in file.data:
        raise file.error("is a certificate, not a private key", "are two files swapped?")
    # openssl writes an encrypted key in one of two forms: PKCS#8, or an older form
    if b"BEGIN ENCRYPTED PRIVATE KEY" in file.data or b"Proc-Type: 4,ENCRYPTED" in file.data:
        raise file.error(
            "is encrypted, but the API server cannot ask for a passphrase",
            "decrypt the key: openssl pkey -in OLD -out NEW",
        )
    _check_plain(file)
    try:
        key = serialization.load_pem_private_key(file.data, password=None)
    # No error is quoted: its message may show parts of the key
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # cryptography 42 finds a key only at the beginning of a line, newer versions anywhere
        if _PRIVATE in file.data and b"\n-----BEGIN" not in b"\n" + file.data:
            raise _hidden_key(file) from None
        raise file.error(
            "is not a private key in PEM form", "put the client's key into it"
        ) from None
    if not any(block.is_key for block in blocks(file.data)):
        raise _hidden_key(file)
    if key.public_key() != leaf.public_key():
        raise file.error(
            f"is not the private key of the certificate in {certificate.path}",
            "use a certificate and a key that belong together",
        )


def _chain(
    leaf: x509.Certificate, rest: list[x509.Certificate], anchors: list[x509.Certificate]
) -> list[x509.Certificate]:
    """Return the chain of certificates: the client's, then each issuer's, and at the end the CA's.

    + leaf: the client's certificate
    + rest: intermediate certificates, in any order
    + anchors: the CA's certificates

    Returns an empty list if the issuers do not lead to the CA. An issuer may have several
    certificates, and perhaps only one of them leads to the CA (cross-signing).
    """
    for anchor in anchors:
        if _issued(leaf, anchor):
            return [leaf, anchor]
    for one in rest:
        others = [other for other in rest if other is not one]
        if _issued(leaf, one) and (found := _chain(one, others, anchors)):
            return [leaf, *found]
    return []


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether a certificate was issued by the certificate `issuer`."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate may issue other certificates."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _check_usage(file: PemFile, leaf: x509.Certificate) -> None:
    """Raise `SettingsError` if a certificate is not for clients.

    etcd uses Go's library crypto/x509. For this library, a certificate without extended key usage
    is valid for every purpose.
    """
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    right = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if right.isdisjoint(usages):
        raise file.error(
            "is not for clients: its extended key usage lacks clientAuth",
            "use a client's certificate, not a server's",
        )


def _check_dates(file: PemFile, certificate: x509.Certificate, now: datetime) -> str:
    """Return a warning if a certificate expires within 30 days, "" otherwise.

    Raises `SettingsError` if the certificate is not valid at `now`.
    """
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= end:
        raise file.error(f"expired on {end:%Y-%m-%d}", "renew it")
    if now < begin:
        raise file.error(
            f"is not valid before {begin:%Y-%m-%d %H:%M} UTC",
            "wait until that time, or correct this computer's clock, which shows "
            f"{now:%Y-%m-%d %H:%M} UTC",
        )
    return f"{file.path} expires on {end:%Y-%m-%d}; renew it" if end - now < EXPIRES_SOON else ""


def _name(certificate: x509.Certificate, issuer: bool = False) -> str:
    """Return the name of a certificate's subject, or of its issuer, for a message."""
    return (certificate.issuer if issuer else certificate.subject).rfc4514_string() or "(no name)"
