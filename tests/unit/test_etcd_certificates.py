"""Test that wrong certificates are found before any node is touched."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chaos_engine.deploys import values
from chaos_engine.deploys.certificates import PemFile, check_client
from chaos_engine.deploys.etcd_certificates import etcd_certificates
from chaos_engine.deploys.pem import blocks
from chaos_engine.deploys.settings import SettingsError
from tests.unit.nodes import Nodes

NOW = datetime(2026, 11, 23, tzinfo=timezone.utc)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Pair:
    """A certificate and its key."""

    def __init__(
        self,
        name: str,
        issuer: Pair | None = None,
        *,
        authority: bool | None = False,
        usages: Iterable[x509.ObjectIdentifier] = (),
        begin: datetime = NOW - timedelta(days=1),
        end: datetime = NOW + timedelta(days=365),
        key: Key | None = None,
    ) -> None:
        """Issue a certificate.

        Without ISSUER it is self-signed. AUTHORITY None leaves out its basic constraints.
        """
        self.key: Key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name if issuer else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )
        if authority is not None:
            basic = x509.BasicConstraints(ca=authority, path_length=None)
            builder = builder.add_extension(basic, critical=True)
        if usages := list(usages):
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        signer = issuer.key if issuer else self.key
        self.certificate = builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM)

    def private(self, password: bytes | None = None, old: bool = False) -> bytes:
        """Return the key in PEM form; OLD in the form of OpenSSL 1."""
        form = PrivateFormat.TraditionalOpenSSL if old else PrivateFormat.PKCS8
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, form, encryption)


CA = Pair("etcd-ca", authority=True)
GOOD = Pair("client", CA, usages=CLIENT)


def check(
    certificate: bytes = GOOD.certificate,
    key: bytes = GOOD.private(),
    authority: bytes = CA.certificate,
    now: datetime = NOW,
) -> list[str]:
    return check_client(
        PemFile("chaos_crt", Path("client.crt"), certificate),
        PemFile("chaos_key", Path("client.key"), key),
        PemFile("chaos_ca", Path("ca.crt"), authority),
        now,
    )


def refusal(**files: Any) -> str:
    with pytest.raises(SettingsError) as error:
        check(**files)
    return str(error.value)


@pytest.mark.parametrize(
    "pair",
    [
        GOOD,
        Pair("no usages", CA),
        Pair("both", CA, usages=CLIENT + SERVER),
        Pair("any", CA, usages=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        Pair("rsa", CA, key=rsa.generate_private_key(65537, 2048)),
    ],
)
def test_a_good_pair_passes(pair: Pair) -> None:
    assert check(pair.certificate, pair.private()) == []
    assert check(pair.certificate, pair.private(old=True)) == []


def test_a_chain_and_several_authorities_pass() -> None:
    between = Pair("between", CA, authority=True)
    pair = Pair("client", between, usages=CLIENT)
    other = Pair("other", authority=True)
    both = other.certificate + CA.certificate
    assert check(pair.certificate + between.certificate, pair.private(), both) == []
    assert check(pair.certificate, pair.private(), between.certificate) == [], "Go trusts it too"
    assert "was not issued by a CA in ca.crt" in refusal(
        certificate=pair.certificate, key=pair.private()
    )


def test_a_cross_signed_intermediate_passes_in_any_order() -> None:
    """An issuer with two certificates leads to the CA by only one of them."""
    other = Pair("other", authority=True)
    key = ec.generate_private_key(ec.SECP256R1())
    by_ca, by_other = (Pair("between", one, authority=True, key=key) for one in (CA, other))
    pair = Pair("client", by_ca, usages=CLIENT)
    for between in ([by_ca, by_other], [by_other, by_ca]):
        chain = b"".join(one.certificate for one in (pair, *between))
        assert check(chain, pair.private()) == []


def test_what_ends_soon_is_noted() -> None:
    soon = NOW + timedelta(days=29)
    assert check(now=NOW + timedelta(days=334)) == []
    ending = Pair("client", CA, usages=CLIENT, end=soon)
    assert check(ending.certificate, ending.private()) == [
        "client.crt expires on 2026-12-22; renew it"
    ]
    ca = Pair("ca", authority=True, end=soon)
    pair = Pair("client", ca, usages=CLIENT)
    assert check(pair.certificate, pair.private(), ca.certificate) == [
        "ca.crt expires on 2026-12-22; renew it"
    ]


BOM = b"\xef\xbb\xbf"


def windows(pem: bytes) -> bytes:
    """Windows' editors save files so, with their ends of lines."""
    return pem.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("name", ["certificate", "key", "authority"])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda pem: BOM + pem, "begins with a byte order mark, so Go programs"),
        (lambda pem: BOM + windows(pem), "save the file as UTF-8 without byte order mark"),
        (lambda pem: b"\xff\xfe" + pem.decode().encode("utf-16-le"), "order mark of UTF-16"),
        (lambda pem: b" " + pem, "Go programs, such as the API server,.*find"),
        (lambda pem: b"key: " + pem, "Go programs, such as the API server,.*find"),
    ],
    ids=["mark", "mark and Windows", "UTF-16", "a blank", "a name"],
)
def test_what_go_does_not_find_is_refused(
    name: str, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    """Python and OpenSSL do find most of it."""
    good = {"certificate": GOOD.certificate, "key": GOOD.private(), "authority": CA.certificate}
    found = refusal(**{name: spoil(good[name])})
    assert found.startswith(
        f"chaos_{ {'certificate': 'crt', 'key': 'key', 'authority': 'ca'}[name] }"
    )
    assert re.search(reason, found)


def test_one_of_several_authorities_that_go_does_not_find_is_refused() -> None:
    other = Pair("other", authority=True)
    both = other.certificate + b" " + CA.certificate
    assert "has 2 certificates, but Go programs" in refusal(authority=both)
    assert "find only 1 of them: there is other text" in refusal(authority=both)


@pytest.mark.parametrize(
    "change",
    [
        windows,
        lambda pem: b"Bag Attributes\n    friendlyName: x\n" + pem,
        lambda pem: pem.replace(b"-----\n", b"----- \t\n"),
        lambda pem: pem.rstrip(b"\n"),
    ],
)
def test_what_go_finds_is_accepted(change: Callable[[bytes], bytes]) -> None:
    assert check(change(GOOD.certificate), change(GOOD.private()), change(CA.certificate)) == []


def test_a_block_of_another_type_is_no_certificate() -> None:
    """`openssl x509 -trustout` writes such blocks; Go skips them."""
    trusted = GOOD.certificate.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")
    assert "is not the client's certificate in PEM form" in refusal(certificate=trusted)
    old = GOOD.certificate.replace(b"CERTIFICATE", b"X509 CERTIFICATE")
    assert "find only 0" in refusal(certificate=old)


def test_nothing_but_certificates_stands_in_a_file_of_authorities() -> None:
    """etcd's client takes each block in the file for a certificate."""
    other = b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"
    assert "PEM blocks that are not plain certificates: X509 CRL" in refusal(
        authority=CA.certificate + other
    )
    headed = CA.certificate.replace(b"-----\n", b"-----\na: b\n\n", 1)
    assert ": CERTIFICATE with headers. Go programs" in refusal(authority=headed)
    check(certificate=other + GOOD.certificate)


def test_blocks_are_found_as_go_finds_them() -> None:
    body = base64.b64encode(b"abc")
    good = b"-----BEGIN A-----\n" + body + b"\n-----END A-----\n"

    def kinds(data: bytes) -> list[tuple[str, bool]]:
        return [(block.kind, block.headers) for block in blocks(data)]

    assert kinds(good + good) == [("A", False)] * 2
    assert kinds(good.replace(b"-----\n", b"-----\nProc-Type: 4\n\n", 1)) == [("A", True)]
    assert kinds(good.replace(b"END A", b"END B")) == []
    assert kinds(good.replace(b"END A", b"END B") + good) == [("A", False)]
    assert kinds(good.replace(body, body + b"!")) == []
    assert kinds(good.replace(body, body + b"=")) == []
    assert kinds(good.replace(b"END A-----", b"END A----- x")) == []
    assert kinds(b"x" + good) == []
    assert kinds(good.replace(b"\n", b"\r\n")) == [("A", False)]
    assert kinds(good.rstrip() + b"\r") == [], "without the line feed it is no end of a line"


def test_a_files_content_is_in_no_repr() -> None:
    assert "MARKED" not in repr(PemFile("chaos_key", Path("x"), b"MARKED"))


SITE: dict[str, Any] = {
    "chaos_nodes": {"pi1": "192.168.1.50", "pi2": "192.168.1.51"},
    "chaos_controllers": ["pi1"],
}


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setattr(values, "VOLATILE", ())  # the test's node is in one
    begin = datetime.now(timezone.utc) - timedelta(days=1)
    end = begin + timedelta(days=365)
    ca = Pair("ca", authority=True, begin=begin, end=end)
    client = Pair("client", ca, usages=CLIENT, begin=begin, end=end)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/ca.crt").write_bytes(ca.certificate)
    (tmp_path / "files/etcd-client.crt").write_bytes(client.certificate)
    (tmp_path / "files/etcd-client.key").write_bytes(client.private())
    data = {**SITE, "chaos_etcd_certificates_dir": f"{tmp_path}/node"}
    run = Nodes("pi1", "pi2", data=data)
    run.state.cwd = str(tmp_path)
    return run


INSTALL = "Etcd certificates | Install the etcd certificates"
LEAVE_OUT = "Etcd certificates | Leave the etcd key out"


def test_only_controllers_get_the_key(nodes: Nodes) -> None:
    nodes.prepare(etcd_certificates)
    assert nodes.planned("pi1") == [INSTALL]
    assert nodes.operations("pi2") == [LEAVE_OUT]
    assert nodes.planned("pi2") == []


def test_all_nodes_get_the_key_where_that_is_set(nodes: Nodes) -> None:
    nodes["pi2"].data.chaos_etcd_certificates_hosts = "all"
    nodes.prepare(etcd_certificates)
    assert nodes.planned("pi2") == [INSTALL]


def test_a_key_that_is_not_needed_is_named_and_left(
    nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "node/client.key"
    key.parent.mkdir()
    key.write_text("x")
    with nodes.on("pi2"), caplog.at_level("INFO", logger="pyinfra"):
        etcd_certificates()
    assert nodes.planned("pi2") == []
    assert caplog.text.count(f"{key}: with this key, root on this node can read") == 1


def test_a_run_without_controllers_needs_no_files(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "files/etcd-client.key").unlink()
    with nodes.on("pi2"):
        etcd_certificates()
