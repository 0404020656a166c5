"""Ask API servers whether they are ready. The shell script runs against servers of the test."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chaos_engine.facts.api_servers import MANIFEST, OWN_READY, ApiServers, ApiVersions
from chaos_engine.facts.text import pairs
from tests.unit.tls_server import QuietHandler, serving

# What kube-apiserver 1.36 answers, shortened
VERSION = b"""{
  "major": "1",
  "minor": "36",
  "emulationMajor": "1",
  "gitVersion": "v1.36.2",
  "platform": "linux/arm64"
}"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate and its key in one file, as kubelet has its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "pair.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


@contextmanager
def api_server(pair: Path, status: Callable[[bool], int]) -> Iterator[int]:
    """Run an API server, and yield its port. STATUS returns its answer to a known client, or to an
    unknown one."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            assert self.path in ("/readyz", "/version")
            assert isinstance(self.connection, ssl.SSLSocket)
            said = status(bool(self.connection.getpeercert(True)))
            self.send_response(said)
            self.end_headers()
            if self.path == "/version" and said == 200:
                self.wfile.write(VERSION)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair)
    tls.load_verify_locations(pair)
    tls.verify_mode = ssl.CERT_OPTIONAL
    with serving(Handler, tls) as port:
        yield port


@pytest.fixture
def closed() -> int:
    """Return a port on which no program listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def asked(port: int, kubelet: int, certificate: Path = Path("/nowhere")) -> str:
    """Return the fact's answer about the API server at PORT of this computer, with kubelet at
    another port."""
    command = ApiServers().command(addresses=("127.0.0.1",)).get_raw_value()
    command = command.replace("6443", str(port)).replace("10250", str(kubelet))
    command = command.replace("/var/lib/kubelet/pki/kubelet-client-current.pem", str(certificate))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    return pairs(done.stdout.splitlines())["127.0.0.1"]


@pytest.mark.parametrize("status", [200, 403, 500])
def test_an_api_server_is_asked_whether_it_is_ready(pair: Path, closed: int, status: int) -> None:
    with api_server(pair, lambda known: status) as port:
        assert asked(port, closed) == str(status)


def test_where_nobody_is_anonymous_the_nodes_own_name_is_said(pair: Path, closed: int) -> None:
    with api_server(pair, lambda known: 200 if known else 401) as port:
        assert asked(port, closed, pair) == "200"
        assert asked(port, closed) != "200"


def test_a_machine_without_api_server_and_kubelet_has_not_joined(closed: int) -> None:
    assert asked(closed, closed) == "absent"


def test_a_joined_controller_whose_api_server_is_gone_is_silent(closed: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as kubelet:
        assert asked(closed, kubelet.getsockname()[1]) == "silent"


def version_of(port: int, certificate: Path = Path("/nowhere")) -> str:
    """Return the fact's answer about the version of the API server at PORT of this computer."""
    command = ApiVersions().command(addresses=("127.0.0.1",)).get_raw_value()
    command = command.replace("6443", str(port))
    command = command.replace("/var/lib/kubelet/pki/kubelet-client-current.pem", str(certificate))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    return ApiVersions().parse(done.stdout.splitlines())["127.0.0.1"]


def test_an_api_server_is_asked_for_its_version(pair: Path, closed: int) -> None:
    with api_server(pair, lambda known: 200) as port:
        assert version_of(port) == "1.36.2"
    with api_server(pair, lambda known: 200 if known else 403) as port:
        assert version_of(port, pair) == "1.36.2"
        assert version_of(port) == ""
    assert version_of(closed) == ""


@pytest.mark.parametrize(("status", "ready"), [(200, True), (403, False), (500, False)])
def test_a_controller_asks_its_own_at_the_address_of_its_manifest(
    tmp_path: Path, pair: Path, status: int, ready: bool
) -> None:
    manifest = tmp_path / "kube-apiserver.yaml"
    with api_server(pair, lambda known: status) as port:
        manifest.write_text(
            "spec:\n  containers:\n  - command:\n    - kube-apiserver\n"
            f"    - --advertise-address=127.0.0.1\n    - --secure-port={port}\n"
        )
        script = OWN_READY.replace(MANIFEST, str(manifest))
        assert (subprocess.run(["sh", "-c", script], timeout=60).returncode == 0) == ready
