"""Read until when the certificates on a node are valid."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

from chaos_engine.facts.certificates import Certificates, CertificateState, parse_certificates
from tests.unit.asking import ask_below
from tests.unit.test_etcd_certificates import NOW, Pair

FOLDER = "/etc/kubernetes/pki/etcd-external"
LATER = NOW + timedelta(days=365)
SOON = NOW + timedelta(days=20)


def test_the_certificates_of_a_controller_are_read_without_their_keys(tmp_path: Path) -> None:
    authority, client = Pair("kubernetes", authority=True), Pair("pi1", end=SOON)
    embedded = base64.b64encode(client.certificate).decode()
    private = base64.b64encode(client.private()).decode()
    files = {
        "/etc/kubernetes/pki/ca.crt": authority.certificate,
        f"{FOLDER}/client.crt": client.certificate,
        f"{FOLDER}/client.key": client.private(),
        "/var/lib/kubelet/pki/kubelet-client-current.pem": client.certificate + client.private(),
        "/etc/kubernetes/admin.conf": (
            f"users:\n- user:\n    client-certificate-data: {embedded}\n"
            f"    client-key-data: {private}\n"
        ).encode(),
        "/etc/kubernetes/kubelet.conf": b"    client-certificate: /var/lib/kubelet/pki/x.pem\n",
    }
    for path, data in files.items():
        file = tmp_path / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    found = ask_below(tmp_path, Certificates, folder=FOLDER)
    soon = int(SOON.timestamp())
    assert found == (
        CertificateState("/etc/kubernetes/admin.conf", "CN=pi1", soon),
        CertificateState("/etc/kubernetes/pki/ca.crt", "CN=kubernetes", int(LATER.timestamp())),
        CertificateState(f"{FOLDER}/client.crt", "CN=pi1", soon),
        CertificateState("/var/lib/kubelet/pki/kubelet-client-current.pem", "CN=pi1", soon),
    )


def test_no_private_key_leaves_the_node(tmp_path: Path) -> None:
    client = Pair("pi1")
    file = tmp_path / "var/lib/kubelet/pki/kubelet-client-current.pem"
    file.parent.mkdir(parents=True)
    file.write_bytes(client.private() + client.certificate + client.private(old=True))
    (read,) = Certificates().reads(folder=FOLDER)
    sent = ask_below(tmp_path, read.fact, **dict(read.arguments))
    assert list(sent.values()) == [client.certificate]


def test_of_several_certificates_the_first_to_expire_counts() -> None:
    text = Pair("late").certificate + Pair("soon", end=SOON).certificate
    found = parse_certificates("/x.crt", text)
    assert (found.subject, found.expires) == ("CN=soon", int(SOON.timestamp()))


def test_a_damaged_certificate_has_no_date() -> None:
    text = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    assert parse_certificates("/x.crt", text) == CertificateState("/x.crt", "", None)
    bad = b"client-certificate-data: a\n"
    assert parse_certificates("/x.conf", bad) == CertificateState("/x.conf", "", None)


def test_a_node_without_certificates_has_none(tmp_path: Path) -> None:
    assert ask_below(tmp_path, Certificates, folder=FOLDER) == ()
