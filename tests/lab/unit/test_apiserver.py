"""The stand-in for kube-apiserver and the client that measures it, over the loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509

from tests import api_client
from tests.api_client import Failure, Json, Target
from tests.lab import apiserver, certificates, plan
from tests.lab.paths import LAB

_PROGRAM = LAB / "images/worker/files/usr/lib/lab/apiserver.py"
_SUBNET = "10.20.30.0/24"


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    folder: Path
    port: int

    @property
    def ca(self) -> str:
        return str(self.folder / "web-ca.crt")

    @property
    def readyz(self) -> Path:
        return self.folder / "readyz"

    def target(self, host: str = "127.0.0.1") -> Target:
        return Target.parse(f"{host}:{self.port}", ca=self.ca)

    def get(self, connection: HTTPSConnection, path: str) -> tuple[int, str, str | None]:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers["Server-Name"]

    def connect(self) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=self.ca)
        return HTTPSConnection("127.0.0.1", self.port, context=context, timeout=5)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server in a process of its own, with the files that `provision` gives to a node."""
    files = folder / "root/etc/lab-apiserver"
    command = [
        *(sys.executable, str(_PROGRAM), "--address", "127.0.0.1", "--port", "0", "--name", "pi4"),
        *("--certificate", str(files / "server.crt"), "--key", str(files / "server.key")),
        *("--readyz", str(folder / "readyz")),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            found = re.fullmatch(r"pi4 listens at port (\d+)\n", said)
            assert found, said + process.stdout.read()
            yield Server(process, folder, int(found[1]))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    certificates.build(folder, etcd_addresses={})
    lab = plan.make(name="unit", subnet=_SUBNET)
    for name in ("pi4", "pi5"):
        root = folder / ("root" if name == "pi4" else name)
        apiserver.provision(lab, lab.node(name), folder, root)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with running(folder) as server:
        yield server


def hold(target: Target, count: int, until: threading.Event) -> list[Json]:
    """Hold streams open; return their events, the last of which is the summary."""
    events: list[Json] = []
    end = api_client.streams(
        target, count=count, until=lambda: assert_set(until), report=events.append, beat=0.02
    )
    return [*events, end]


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)


def test_it_starts_with_a_controller_and_waits_on_other_workers(folder: Path) -> None:
    wants = "etc/systemd/system/multi-user.target.wants"
    started = folder / "root" / wants / "lab-apiserver.service"
    assert os.readlink(started) == "/etc/systemd/system/lab-apiserver.service"
    assert list((folder / "pi5" / wants).iterdir()) == []


def test_a_node_has_its_own_certificate_for_the_addresses_of_its_lan(folder: Path) -> None:
    for root, address in (("root", "10.20.30.53"), ("pi5", "10.20.30.54")):
        pair = folder / root / "etc/lab-apiserver"
        certificate = x509.load_pem_x509_certificate((pair / "server.crt").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "k8s" in names.get_values_for_type(x509.DNSName)
        addresses = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
        assert addresses == {address, "10.20.30.60", "127.0.0.1"}
        assert stat.S_IMODE((pair / "server.key").stat().st_mode) == 0o600


def test_provisioning_again_after_an_interruption_is_no_error(folder: Path, tmp_path: Path) -> None:
    lab = plan.make(name="unit")
    for _ in range(2):
        apiserver.provision(lab, lab.node("pi1"), folder, tmp_path)
    assert (tmp_path / "etc/lab-apiserver/server.key").exists()


@pytest.mark.parametrize(
    ("switch", "answer"),
    [
        (None, (200, "ok")),
        ("500\n", (500, "readyz check failed")),
        ("503", (503, "readyz check failed")),
        ("200", (200, "ok")),
        ("", (200, "ok")),
        ("no status", (500, "readyz check failed")),
    ],
)
def test_readyz_is_what_the_switch_says(
    server: Server, switch: str | None, answer: tuple[int, str]
) -> None:
    if switch is not None:
        server.readyz.write_text(switch)
    try:
        with contextlib.closing(server.connect()) as connection:
            assert server.get(connection, "/readyz?verbose") == (*answer, "pi4")
    finally:
        server.readyz.unlink(missing_ok=True)


def test_a_connection_serves_several_requests(server: Server) -> None:
    with contextlib.closing(server.connect()) as connection:
        assert server.get(connection, "/name") == (200, "pi4", "pi4")
        first = connection.sock
        connection.request("POST", "/api/v1/pods", body="not for the next request\r\n\r\n")
        assert connection.getresponse().read() == b"pi4"
        assert server.get(connection, "/readyz")[:2] == (200, "ok")
        assert connection.sock is first


@pytest.mark.parametrize(
    ("request_", "head"),
    [
        (b"GET /readyz HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /name HTTP/1.1\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"hello\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
    ],
)
def test_it_closes_after_an_answer_that_is_the_last(
    server: Server, request_: bytes, head: bytes
) -> None:
    context = ssl.create_default_context(cafile=server.ca)
    with (
        socket.create_connection(("127.0.0.1", server.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="k8s") as client,
    ):
        client.sendall(request_)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(head)
    assert b"\r\nConnection: close\r\n" in answer


def test_a_client_with_another_authority_refuses_it(folder: Path, server: Server) -> None:
    target = Target.parse(f"127.0.0.1:{server.port}", ca=str(folder / "etcd-ca.crt"))
    with pytest.raises(Failure, match=r"^handshake: SSLCertVerificationError: "):
        api_client.ask(target)
    assert api_client.ask(Target.parse(f"127.0.0.1:{server.port}")) == "pi4"


def test_clients_that_go_away_are_no_news(folder: Path) -> None:
    with running(folder) as server:
        for sent in (b"", b"\x16\x03\x01", b"GET / HTTP/1.0\r\n\r\n"):
            socket.create_connection(("127.0.0.1", server.port)).close()
            with socket.create_connection(("127.0.0.1", server.port)) as probe:
                probe.sendall(sent)
                # Closed so, the other side's reads fail
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        silent = server.connect()
        silent.connect()
        assert api_client.ask(server.target()) == "pi4"
        silent.close()
        server.process.terminate()
        assert server.process.wait(5) == -signal.SIGTERM
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""


def test_requests_are_counted_by_server(server: Server) -> None:
    found = api_client.requests(server.target(), count=40, threads=4)
    assert (found["count"], found["failures"], found["failed"]) == (40, 0, [])
    assert found["servers"] == {"pi4": 40}
    assert found["order"][:3] == ["pi4"] * 3
    assert 0 < found["latency"] <= found["elapsed"]
    assert 0 < found["gap"]["seconds"] <= found["elapsed"]


def test_requests_keep_to_pace_and_time(server: Server) -> None:
    found = api_client.requests(server.target(), seconds=0.3, pace=50, threads=2)
    assert 0 < found["count"] <= 15
    assert found["elapsed"] >= 0.27


def test_failed_requests_are_told_with_time_and_reason(server: Server) -> None:
    server.readyz.write_text("500")
    try:
        found = api_client.requests(server.target(), count=30, threads=2, path="/readyz")
    finally:
        server.readyz.unlink()
    assert (found["count"], found["failures"], len(found["failed"])) == (30, 30, 20)
    assert found["reasons"] == {"answer: ValueError: status 500 of pi4": 30}
    assert 0 <= found["failed"][0]["at"] <= found["failed"][-1]["at"] <= found["elapsed"]
    assert found["gap"] == {"at": 0, "seconds": found["elapsed"]}
    assert json.dumps(found)


def test_streams_echo_until_they_are_told_to_stop(server: Server) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    *events, end = hold(server.target(), 10, stop)
    assert [event["event"] for event in events] == ["open"] * 10 + ["ready"]
    assert (end["opened"], end["failed"], end["broke"]) == (10, 0, 0)
    assert end["servers"] == {"pi4": 10}
    # Each stream has more than one beat
    assert end["echoes"] >= 20
    assert all(stream["echoed"] > 0 for stream in end["streams"])
    assert [stream["stream"] for stream in end["streams"]] == list(range(10))
    assert json.dumps(end)


def test_streams_end_with_their_server_at_once(folder: Path) -> None:
    stop = threading.Event()
    with running(folder) as server:

        def report(event: Json) -> None:
            events.append(event)
            if event["event"] == "ready":
                server.process.terminate()
            if sum(one["event"] == "broke" for one in events) == 3:
                stop.set()

        events: list[Json] = []
        # So long a beat that only the closing can have been noticed
        end = api_client.streams(
            server.target(), count=3, until=lambda: assert_set(stop), report=report, beat=8
        )
    assert (end["opened"], end["broke"], end["broke_servers"]) == (3, 3, {"pi4": 3})
    assert all(0 < stream["broke"] < 5 for stream in end["streams"])
    assert all(stream["reason"].startswith("stream: ") for stream in end["streams"])


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A socket that has a port, and refuses connections until it listens."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield deaf


def test_streams_that_do_not_open_are_told(deaf: socket.socket) -> None:
    stop = threading.Event()
    stop.set()
    *events, end = hold(Target.parse(f"127.0.0.1:{deaf.getsockname()[1]}"), 2, stop)
    assert [event["event"] for event in events] == ["failed", "failed", "ready"]
    assert (end["opened"], end["failed"], end["broke"]) == (0, 2, 0)
    assert end["streams"][0]["reason"].startswith("connect: ConnectionRefusedError: ")


def test_waiting_ends_with_the_first_answer(folder: Path, deaf: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "api-server-pi4.crt", folder / "api-server-pi4.key")

    listening: list[float] = []

    def serve() -> None:
        listening.append(time.time())
        deaf.listen()
        # The first one gets no answer, which must not hold up the next
        hanging, _ = deaf.accept()
        accepted, _ = deaf.accept()
        with hanging, accepted, context.wrap_socket(accepted, server_side=True) as client:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 200 OK\r\nServer-Name: pi7\r\n\r\n")

    late = threading.Timer(0.2, serve)
    late.start()
    found = api_client.wait(Target.parse(f"127.0.0.1:{deaf.getsockname()[1]}"), seconds=10)
    late.join()
    assert (found["answered"], found["server"]) == (True, "pi7")
    assert found["attempts"] >= 2
    # Not before it listened, and not only when the one that hangs was given up
    assert listening[0] - 0.01 <= found["began"] + found["seconds"] < listening[0] + 4


def test_waiting_gives_up(deaf: socket.socket) -> None:
    found = api_client.wait(Target.parse(f"127.0.0.1:{deaf.getsockname()[1]}"), seconds=0.12)
    assert (found["answered"], found["seconds"], found["server"]) == (False, None, None)
    assert 1 <= found["attempts"] <= 3
    assert all("ConnectionRefusedError" in reason for reason in found["reasons"])


def test_beats_are_tried_again_and_counted_once(folder: Path, deaf: socket.socket) -> None:
    stop = threading.Event()
    target = Target.parse(f"127.0.0.1:{deaf.getsockname()[1]}", ca=str(folder / "web-ca.crt"))
    threading.Timer(0.3, stop.set).start()
    found = api_client.beats(target, until=lambda: assert_set(stop), pace=20, patience=0.1)
    assert found["count"] == found["failures"] >= 2
    assert all(failure["tries"] > 1 for failure in found["failed"])
    assert found["answered"] == []


def test_beats_that_are_answered_late_have_not_failed(server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    stop = threading.Event()
    threading.Timer(0.3, lambda: server.process.send_signal(signal.SIGCONT)).start()
    threading.Timer(0.6, stop.set).start()
    found = api_client.beats(server.target(), until=lambda: assert_set(stop), pace=10)
    assert (found["failures"], found["servers"]) == (0, {"pi4": found["count"]})
    assert found["count"] >= 4
    assert max(answer["took"] for answer in found["answered"]) > 0.1
    assert json.dumps(found)
