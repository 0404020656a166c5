"""The stand-in for kube-apiserver and the client that measures it, over the loopback."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.cluster import api_client
from tests.cluster.api_client import Failure, Json, Target
from tests.lab import apiserver, plan
from tests.lab.unit.api_servers import Server, make_folder, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("lab"))


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


def test_the_stand_in_for_kubelet_is_all_that_starts_with_a_node(folder: Path) -> None:
    units = folder / "root/etc/systemd/system"
    links = {path.relative_to(units).as_posix() for path in units.rglob("*") if path.is_symlink()}
    assert links == {"kubelet.service.wants/lab-kubelet.service"}


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
    ("switch", "status"),
    [(None, 200), ("500\n", 500), ("503", 503), ("200", 200), ("", 200), ("no status", 500)],
)
def test_readyz_is_what_the_switch_says(server: Server, switch: str | None, status: int) -> None:
    if switch is not None:
        server.readyz.write_text(switch)
    try:
        with contextlib.closing(server.connect()) as connection:
            found, body, name = server.get(connection, "/readyz")
        assert (found, name) == (status, "pi4")
        assert body == "ok" if status == 200 else body.endswith("\nreadyz check failed\n")
    finally:
        server.readyz.unlink(missing_ok=True)


def test_a_server_that_starts_is_forbidden_then_unready_then_ready(folder: Path) -> None:
    with running(folder, ready=False) as server:
        seen: list[tuple[int, str]] = []
        also: set[tuple[int, int]] = set()
        while not seen or seen[-1][0] != 200:
            with contextlib.closing(server.connect()) as connection:
                status, body, _ = server.get(connection, "/readyz")
                also.add((status, server.get(connection, "/version")[0]))
            if (status, body) not in seen:
                seen.append((status, body))
        took = time.monotonic() - server.began
    (forbidden, why), (unready, checks), ready = seen
    assert (forbidden, unready, ready) == (403, 500, (200, "ok"))
    assert json.loads(why)["message"] == (
        'forbidden: User "system:anonymous" cannot get path "/readyz"'
    )
    assert checks.startswith("[+]ping ok\n")
    assert "\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n" in checks
    # the second answer may be of the next state
    assert {(403, 403), (500, 200)} <= also <= {(403, 403), (403, 200), (500, 200), (200, 200)}
    assert took >= 2.5


def test_a_server_ends_with_its_manifest(folder: Path) -> None:
    with running(folder) as server:
        server.manifest.unlink()
        assert server.process.wait(5) == 0


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/version", 200, ""),
        ("/livez", 200, ""),
        ("/", 403, 'forbidden: User "system:anonymous" cannot get path "/"'),
        ("/api/v1", 403, 'forbidden: User "system:anonymous" cannot get path "/api/v1"'),
        (
            "/api/v1/nodes/pi4",
            403,
            'nodes "pi4" is forbidden: User "system:anonymous" cannot get resource "nodes" in API '
            'group "" at the cluster scope',
        ),
        (
            "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
            403,
            'poddisruptionbudgets is forbidden: User "system:anonymous" cannot list resource '
            '"poddisruptionbudgets" in API group "policy" in the namespace "default"',
        ),
    ],
)
def test_who_is_not_known_may_ask_for_version_and_state_only(
    server: Server, path: str, status: int, message: str
) -> None:
    with contextlib.closing(server.connect()) as connection:
        found, body, _ = server.get(connection, path)
    assert found == status
    assert not message or json.loads(body)["message"] == message


def test_a_token_that_nobody_knows_is_unauthorized(server: Server) -> None:
    with contextlib.closing(server.connect()) as connection:
        connection.request("GET", "/version", headers={"Authorization": "Bearer nonsense"})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["reason"]) == (401, "Unauthorized")


def test_a_connection_serves_several_requests(server: Server) -> None:
    with contextlib.closing(server.connect()) as connection:
        assert server.get(connection, "/livez") == (200, "ok", "pi4")
        first = connection.sock
        connection.request("POST", "/api/v1/pods", body="not for the next request\r\n\r\n")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (403, 403)
        assert server.get(connection, "/readyz")[:2] == (200, "ok")
        assert connection.sock is first


@pytest.mark.parametrize(
    ("request_", "head"),
    [
        (b"GET /readyz HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200 OK"),
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
    target = Target.parse(
        f"127.0.0.1:{deaf.getsockname()[1]}", ca=str(folder / "kubernetes-ca.crt")
    )
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
    assert found["through"] == {"127.0.0.1": found["count"]}
    assert found["gap"]["seconds"] > 0.15
    assert json.dumps(found)
