"""Ask etcd for its version. The fact's command runs against servers of the test, over TLS."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chaos_engine.facts.etcd import PORT, SECONDS, EtcdVersions
from chaos_engine.facts.kubernetes import KUBELET_CONF
from tests.unit.test_etcd_certificates import CA, CLIENT, SERVER, Pair
from tests.unit.tls_server import QuietHandler, serving

VERSION = {"etcdserver": "3.5.16", "etcdcluster": "3.5.0"}
"""What etcd 3.5 answers to ``GET /version``, as Go's encoding/json writes it."""


def store(folder: Path, name: str, pair: Pair) -> tuple[Path, Path]:
    """Write a certificate and its key, and return their paths."""
    folder.mkdir(exist_ok=True)
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(pair.certificate)
    paths[1].write_bytes(pair.private())
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder like the node's, with the client's certificate."""
    store(tmp_path, "client", Pair("client", CA, usages=CLIENT))
    (tmp_path / "ca.crt").write_bytes(CA.certificate)
    return tmp_path


@contextmanager
def etcd(folder: Path, address: str, authority: Pair = CA, body: str = "") -> Iterator[int]:
    """Run an etcd that knows clients of the CA only, and yield its port.

    + authority: the issuer of its own certificate
    + body: its answer to ``GET /version``
    """
    answer = body or json.dumps(VERSION, separators=(",", ":"))

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            assert self.path == "/version"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer.encode())

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*store(folder / "server", address, Pair("s", authority, usages=SERVER)))
    tls.load_verify_locations(cadata=CA.certificate.decode())
    tls.verify_mode = ssl.CERT_REQUIRED
    with serving(Handler, tls, address) as port:
        yield port


@contextmanager
def silent() -> Iterator[int]:
    """Yield a port at which connections are accepted, and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def versions(
    folder: Path, *ports: int, joined: bool = False, joined_too: bool = False
) -> dict[str, str]:
    """Return what the fact's command says of servers at these ports of this computer, in order."""
    servers = tuple(f"127.0.0.1:{port}" for port in ports)
    conf = folder / "kubelet.conf"
    if joined:
        conf.touch()
    command = EtcdVersions().command(servers, str(folder), joined_too).get_raw_value()
    for old, new in (
        (f":{PORT}", ""),
        (KUBELET_CONF, str(conf)),
        (f"timeout -k 1 {SECONDS} ", "timeout -k 1 1 "),
    ):
        assert old in command or joined_too
        command = command.replace(old, new)
    ran = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stderr == ""
    lines = ran.stdout.splitlines()
    found = EtcdVersions().process(lines) if lines else EtcdVersions().default()
    assert found.keys() in ({*servers}, set())
    return {str(n): found[server] for n, server in enumerate(servers) if server in found}


def test_all_servers_are_asked(folder: Path) -> None:
    with ExitStack() as stack:
        ports = [stack.enter_context(etcd(folder, "127.0.0.1")) for _ in range(3)]
        assert versions(folder, *ports) == dict.fromkeys("012", "3.5.16")


def test_a_server_that_is_silent_hides_no_other(folder: Path) -> None:
    with etcd(folder, "127.0.0.1") as first, silent() as second:
        assert versions(folder, second, first) == {"0": "", "1": "3.5.16"}


def test_a_server_that_is_not_there_is_silent(folder: Path) -> None:
    with etcd(folder, "127.0.0.1") as port:
        pass
    assert versions(folder, port) == {"0": ""}


def test_a_server_of_another_authority_is_not_believed(folder: Path) -> None:
    other = Pair("other-ca", authority=True)
    with etcd(folder, "127.0.0.1", authority=other) as port:
        assert versions(folder, port) == {"0": ""}


def test_a_server_that_refuses_the_client_is_silent(folder: Path) -> None:
    stranger = Pair("client", Pair("other-ca", authority=True), usages=CLIENT)
    store(folder, "client", stranger)
    with etcd(folder, "127.0.0.1") as port:
        assert versions(folder, port) == {"0": ""}


@pytest.mark.parametrize("body", ["{}", "<html>etcdserver</html>", '{"etcdcluster":"3.5.0"}'])
def test_another_answer_has_no_version(folder: Path, body: str) -> None:
    with etcd(folder, "127.0.0.1", body=body) as port:
        assert versions(folder, port) == {"0": ""}


def test_a_node_without_a_key_asks_nobody(folder: Path) -> None:
    (folder / "client.key").unlink()
    with etcd(folder, "127.0.0.1") as port:
        assert versions(folder, port) == {}


def test_a_node_that_has_joined_asks_only_if_it_is_told(folder: Path) -> None:
    with etcd(folder, "127.0.0.1") as port:
        assert versions(folder, port, joined=True) == {}
        assert versions(folder, port, joined=True, joined_too=True) == {"0": "3.5.16"}
