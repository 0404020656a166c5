"""The stand-in for cri-dockerd: its tarballs, and the program on real sockets."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import cri_dockerd

MISSING = [tool for tool in ("gcc",) if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "aarch64"), reason="cri-dockerd is not made for this"
    ),
]

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
VERSION = "/runtime.v1.RuntimeService/Version"
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
Frame = tuple[int, int, int, bytes]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("release")
    cri_dockerd.build(path, versions=("0.3.17",))
    return path


@pytest.fixture(scope="module")
def program(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bin")
    tarball = release / f"cri-dockerd-0.3.17.{NATIVE}.tgz"
    subprocess.run(["tar", "-xzf", tarball, "-C", path], check=True)
    return path / "cri-dockerd" / "cri-dockerd"


class Docker:
    """Answers GET /version on a unix socket, as far as the stand-in looks at it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            with client:
                assert client.recv(4096).startswith(b"GET /version HTTP/1.0\r\n")
                body = b'{"Components":[{"Name":"Engine","Version":"26.1.5"}],"Version":"26.1.5"}'
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

    def close(self) -> None:
        # Wakes the thread that waits in accept.
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.path.unlink()


class Cri:
    """The program, started as systemd does: its socket as descriptor 3, readiness by a message."""

    def __init__(self, program: Path, directory: Path) -> None:
        self.docker = Docker(directory / "docker.sock")
        self.path = directory / "cri.sock"
        with (
            socket.socket(socket.AF_UNIX) as listener,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as readiness,
        ):
            listener.bind(str(self.path))
            listener.listen()
            readiness.bind(str(directory / "notify"))
            readiness.settimeout(60)
            script = 'exec 3<&0 </dev/null; export LISTEN_PID=$$; exec "$@"'
            self.process = subprocess.Popen(
                ["sh", "-c", script, "sh", program, "--container-runtime-endpoint", "fd://",
                 f"--docker-endpoint=unix://{self.docker.path}", "--network-plugin=cni",
                 "--ipv6-dual-stack"],
                env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(directory / "notify")},
                stdin=listener.fileno(),
            )  # fmt: skip
            try:
                self.ready = readiness.recv(100)
            except TimeoutError:
                self.process.kill()
                raise

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """A connection whose SETTINGS are exchanged."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.path))
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
            kinds = [read_frame(client)[:2] for _ in range(2)]
            assert kinds == [(SETTINGS, 0), (SETTINGS, ACK)]
            yield client


@pytest.fixture
def cri(program: Path, tmp_path: Path) -> Iterator[Cri]:
    running = Cri(program, tmp_path)
    yield running
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == -signal.SIGTERM
    if running.docker.path.exists():
        running.docker.close()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def read_frame(client: socket.socket) -> Frame:
    head = _exactly(client, 9)
    kind, flags, stream = struct.unpack(">BBI", head[3:])
    return kind, flags, stream, _exactly(client, int.from_bytes(head[:3], "big"))


def _exactly(client: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        part = client.recv(length - len(received))
        if not part:
            raise EOFError
        received += part
    return received


def request(path: str) -> bytes:
    """Headers of a unary call, literal but for what the static table has."""
    return b"\x83\x86" + b"\x04" + bytes([len(path)]) + path.encode()


def call(client: socket.socket, stream: int, headers: bytes) -> list[Frame]:
    """Send a call with an empty message; return the frames of its answer."""
    client.sendall(
        frame(HEADERS, END_HEADERS, stream, headers)
        + frame(DATA, END_STREAM, stream, b"\0\0\0\0\0")
    )
    frames: list[Frame] = []
    while not frames or not frames[-1][1] & END_STREAM:
        received = read_frame(client)
        if received[2] == stream:
            frames.append(received)
    return frames


def test_tarballs_are_laid_out_as_releases(release: Path) -> None:
    machines = {"amd64": 62, "arm64": 183}
    for line in (release / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        content = (release / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            assert tar.getnames() == ["cri-dockerd", "cri-dockerd/cri-dockerd"]
            member = tar.getmember("cri-dockerd/cri-dockerd")
            file = tar.extractfile(member)
            assert file is not None
            header = file.read(20)
        assert (member.mode, header[:4]) == (0o755, b"\x7fELF")
        assert int.from_bytes(header[18:20], "little") == machines.pop(name.split(".")[-2])
    assert machines == {}


@pytest.mark.parametrize(
    ("flags", "status", "expected"),
    [
        (["--version"], 0, "cri-dockerd 0.3.17 (stand-in)\n"),
        (["--cni-conf-dir=/x", "--log-level", "debug", "--version"], 0, "cri-dockerd 0.3.17"),
        (["--no-such-flag"], 1, "unknown flag: --no-such-flag"),
        (["--network-plugin"], 1, "flag needs an argument: --network-plugin"),
        (["serve"], 1, "Unknown command: serve"),
        (["--docker-endpoint=unix:///nowhere/docker.sock"], 1,
         "failed to get docker version from dockerd: Cannot connect to the Docker daemon"),
        (["--docker-endpoint=tcp://10.0.0.1"], 1, "not supported"),
    ],
)  # fmt: skip
def test_flags(program: Path, flags: list[str], status: int, expected: str) -> None:
    done = subprocess.run([program, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert expected in (done.stderr if status else done.stdout)


def test_needs_the_socket_of_systemd(program: Path, tmp_path: Path) -> None:
    docker = Docker(tmp_path / "docker.sock")
    done = subprocess.run(
        [program, "--container-runtime-endpoint=fd://", f"--docker-endpoint=unix://{docker.path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    docker.close()
    assert (done.returncode, "no sockets found" in done.stderr) == (1, True)


def test_ready_and_answers_version(cri: Cri) -> None:
    assert cri.ready == b"READY=1"
    with cri.connect() as client:
        for stream in (1, 3):
            headers, data, trailers = call(client, stream, request(VERSION))
            assert b":status\x03200" in headers[3]
            assert b"application/grpc" in headers[3]
            message = b"\x0a\x050.1.0\x12\x06docker\x1a\x0626.1.5\x22\x02v1"
            assert data[3] == b"\0" + struct.pack(">I", len(message)) + message
            assert b"grpc-status\x010" in trailers[3]


@pytest.mark.parametrize(
    ("method", "kind"), [("Exec", "exec"), ("Attach", "attach"), ("PortForward", "portforward")]
)
def test_url_of_a_stream_has_no_scheme(cri: Cri, method: str, kind: str) -> None:
    """As `//[::]:38939/cri/exec/BPj2zvi5` of a real one."""
    with cri.connect() as client:
        _, data, trailers = call(client, 1, request(f"/runtime.v1.RuntimeService/{method}"))
        assert re.fullmatch(rb"//\[::\]:[0-9]+/cri/%s/[\w-]{8}" % kind.encode(), data[3][7:])
        assert b"grpc-status\x010" in trailers[3]


def test_streams_are_http(cri: Cri) -> None:
    """What begins as TLS is answered by HTTP, as Go's server does."""
    with cri.connect() as client:
        url = call(client, 1, request("/runtime.v1.RuntimeService/Exec"))[1][3][7:].decode()
    port, path = re.findall(r"//\[::\]:([0-9]+)(.*)", url)[0]
    upgrade = f"POST {path} HTTP/1.1\r\nUpgrade: SPDY/3.1\r\n\r\n"
    for sent, answer in (
        (b"\x16\x03\x01\x00\x05", b"HTTP/1.1 400 Bad Request\r\n"),
        (upgrade.encode(), b"HTTP/1.1 101 Switching Protocols\r\n"),
        (b"GET /nonsense HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n"),
    ):
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as stream:
            stream.sendall(sent)
            assert stream.recv(4096).startswith(answer)


def test_logs_cannot_be_reopened(cri: Cri) -> None:
    with cri.connect() as client:
        path = "/runtime.v1.RuntimeService/ReopenContainerLog"
        _, trailers = call(client, 1, request(path))
        assert b"grpc-status\x012" in trailers[3]
        assert b"docker does not support reopening container log files" in trailers[3]


def test_other_methods_are_unimplemented(cri: Cri) -> None:
    with cri.connect() as client:
        _, trailers = call(client, 1, request("/runtime.v1.RuntimeService/Status"))
        assert b"grpc-status\x0212" in trailers[3]
        assert call(client, 3, request(VERSION))[-1][3] == b"\0\x0bgrpc-status\x010"


def test_says_when_docker_has_gone(cri: Cri) -> None:
    cri.docker.close()
    with cri.connect() as client:
        _, trailers = call(client, 1, request(VERSION))
        assert b"grpc-status\x012" in trailers[3]
        assert b"failed to get docker version" in trailers[3]


def test_answers_pings_and_serves_connections_side_by_side(cri: Cri) -> None:
    with cri.connect() as idle, cri.connect() as client:
        client.sendall(frame(PING, 0, 0, b"12345678"))
        assert read_frame(client) == (PING, ACK, 0, b"12345678")
        idle.sendall(frame(PING, 0, 0, b"87654321"))
        assert read_frame(idle) == (PING, ACK, 0, b"87654321")


def test_headers_may_be_padded_and_continued(cri: Cri) -> None:
    block = request(VERSION)
    padded = b"\x03" + b"\0\0\0\0\x10" + block[:4] + b"\0\0\0"
    with cri.connect() as client:
        client.sendall(
            frame(HEADERS, END_STREAM | 8 | 32, 1, padded) + frame(9, END_HEADERS, 1, block[4:])
        )
        assert [read_frame(client)[0] for _ in range(3)] == [HEADERS, DATA, HEADERS]


@pytest.mark.parametrize(
    "sent",
    [
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        frame(HEADERS, END_HEADERS, 1, b"\x04\x7fshort"),
        frame(HEADERS, END_HEADERS | 8, 1, b"\xff"),
        b"\xff\xff\xff" + frame(DATA, 0, 1, b"")[3:],
    ],
    ids=["table entry", "string", "padding", "frame length"],
)
def test_malformed_requests_end_the_connection_only(cri: Cri, sent: bytes) -> None:
    with cri.connect() as client:
        client.sendall(sent)
        assert read_frame(client)[0] == GOAWAY
    with cri.connect() as client:
        assert len(call(client, 1, request(VERSION))) == 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("method", "code"), [("Version", 0), ("Status", 12)])
def test_a_client_that_compresses_headers(cri: Cri, method: str, code: int) -> None:
    curl = ["curl", "--silent", "--include", "--http2-prior-knowledge", "--max-time", "60"]
    done = subprocess.run(
        [*curl, "--unix-socket", cri.path, "--header", "content-type: application/grpc",
         "--header", "te: trailers", "--data-binary", "@-", "--output", "-",
         f"http://localhost/runtime.v1.RuntimeService/{method}"],
        input=b"\0\0\0\0\0",
        capture_output=True,
        check=False,
    )  # fmt: skip
    if done.returncode == 2:
        pytest.skip("needs a curl with HTTP/2")
    assert f"grpc-status: {code}\r\n".encode() in done.stdout, done
    assert (b"26.1.5" in done.stdout) == (code == 0)
