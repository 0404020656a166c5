"""Read until when the certificates on a node are valid."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import pytest

from chaos_engine.facts.certificates import (
    DAY,
    EXPIRES_SOON,
    KUBELET_CLIENT,
    Certificates,
    CertificateState,
    parse_certificates,
)
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
    assert {one.path: (one.subject, one.expires) for one in found} == {
        "/etc/kubernetes/admin.conf": ("CN=pi1", int(SOON.timestamp())),
        "/etc/kubernetes/pki/ca.crt": ("CN=kubernetes", int(LATER.timestamp())),
        f"{FOLDER}/client.crt": ("CN=pi1", int(SOON.timestamp())),
        KUBELET_CLIENT: ("CN=pi1", int(SOON.timestamp())),
    }
    assert all(one.begins and one.begins < NOW.timestamp() for one in found)


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
    assert parse_certificates("/x.crt", text) == CertificateState("/x.crt", "", None, None)
    bad = b"client-certificate-data: a\n"
    assert parse_certificates("/x.conf", bad) == CertificateState("/x.conf", "", None, None)


def test_a_node_without_certificates_has_none(tmp_path: Path) -> None:
    assert ask_below(tmp_path, Certificates, folder=FOLDER) == ()


YEAR = 365 * DAY
API_SERVER, ADMIN = "/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/admin.conf"


def problem(path: str, left: int, life: int = YEAR) -> str:
    """Return the problem of a certificate that is valid for `left` more seconds of its life."""
    now = round(NOW.timestamp())
    return CertificateState(path, "CN=x", now + left, now + left - life).problem(now)


@pytest.mark.parametrize(
    ("path", "life", "least"),
    [
        (API_SERVER, YEAR, EXPIRES_SOON),
        ("/etc/kubernetes/pki/ca.crt", 10 * YEAR, EXPIRES_SOON),
        # certificateValidityPeriod of kubeadm's configuration may be short
        (API_SERVER, 30 * DAY, 10 * DAY),
        # kubelet renews before a tenth is left, and its certificate may be for a day
        (KUBELET_CLIENT, YEAR, YEAR // 10),
        (KUBELET_CLIENT, DAY, DAY // 10),
    ],
)
def test_a_certificate_that_should_have_been_renewed_is_a_problem(
    path: str, life: int, least: int
) -> None:
    assert problem(path, least, life) == ""
    assert problem(path, least - 1, life).startswith(f"{path} expires on ")


@pytest.mark.parametrize(
    ("path", "renewal"),
    [
        (API_SERVER, "renew it on this node: kubeadm certs renew all"),
        (ADMIN, "renew it on this node: kubeadm certs renew all"),
        ("/etc/kubernetes/pki/etcd/server.crt", "renew it on this node: kubeadm certs renew all"),
        (
            "/etc/kubernetes/pki/ca.crt",
            "kubeadm does not renew a CA's certificate; replace it by hand",
        ),
        (KUBELET_CLIENT, "kubelet renews it, but has not; look at: journalctl -u kubelet"),
        ("/etc/kubernetes/client.crt", "put the new certificate into files/, and deploy"),
        ("/etc/kubernetes/ca.crt", "put the new certificate into files/, and deploy"),
        ("/etc/kubernetes/pki/etcd/client.crt", "put the new certificate into files/, and deploy"),
    ],
)
def test_who_issued_a_certificate_decides_how_it_is_renewed(path: str, renewal: str) -> None:
    assert problem(path, DAY).endswith(f", in 1 day; {renewal}")
    assert problem(path, -DAY).startswith(f"{path} expired on ")
    assert problem(path, -DAY).endswith(renewal)


def test_a_certificate_from_the_future_tells_of_a_wrong_clock() -> None:
    assert problem(API_SERVER, 2 * YEAR).startswith(f"{API_SERVER} is not valid before ")


def test_a_certificate_that_cannot_be_read_is_a_problem() -> None:
    found = CertificateState(API_SERVER, "", None, None).problem(0)
    assert found.startswith(f"{API_SERVER} has no certificate that can be read; renew it")
