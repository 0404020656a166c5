"""The lab's web server, over real sockets on the loopback."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.lab import certificates
from tests.lab.webserver import byte_range, locate

ROOT = Path(__file__).parents[3]
CONTENT = bytes(range(256)) * 40


def _free_ports() -> tuple[int, int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        return one.getsockname()[1], other.getsockname()[1]


class Web:
    """A running web server: two names on a plain port, one of them on a TLS port too."""

    def __init__(self, base: Path) -> None:
        self.plain, self.tls = _free_ports()
        self.log = base / "access.log"
        self.ca = base / "certs" / "web-ca.crt"
        certificates.build(base / "certs", etcd_addresses={})
        for name in ("debian", "k8s/core:/stable:"):
            (base / name).mkdir(parents=True)
            (base / name / "file").write_bytes(CONTENT)
        (base / "secret").write_text("secret")
        command = [
            *(sys.executable, "-m", "tests.lab.webserver", "--address", "127.0.0.1"),
            *("--site", f"http:{self.plain}:deb.debian.org={base / 'debian'}"),
            *("--site", f"http:{self.plain}:pkgs.k8s.io={base / 'k8s'}"),
            *("--site", f"https:{self.tls}:pkgs.k8s.io={base / 'k8s'}"),
            *("--certificate", str(base / "certs" / "web.crt")),
            *("--key", str(base / "certs" / "web.key"), "--log", str(self.log)),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.plain, timeout=60)

    def get(
        self, path: str, host: str = "deb.debian.org", method: str = "GET", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(self.connect()) as connection:
            connection.request(method, path, headers={"Host": host, **named})
            response = connection.getresponse()
            return response, response.read()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    server = Web(tmp_path_factory.mktemp("web"))
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0


def test_serves_each_name_from_its_own_directory(web: Web) -> None:
    assert web.get("/file")[1] == CONTENT
    assert web.get("/file", host="pkgs.k8s.io")[0].status == 404
    assert web.get("/file", host="example.org")[0].status == 421
    assert web.get("/file", host="DEB.debian.org:80")[0].status == 200


@pytest.mark.parametrize("path", ["/core:/stable:/file", "/core%3a/stable%3A/file"])
def test_decodes_paths(web: Web, path: str) -> None:
    assert web.get(path, host="pkgs.k8s.io")[1] == CONTENT


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "/a/..%2f../secret", "/", "/%00"])
def test_serves_no_directory_and_nothing_outside(web: Web, path: str) -> None:
    assert web.get(path)[0].status == 404


def test_head_has_the_length_and_no_body(web: Web) -> None:
    response, body = web.get("/file", method="HEAD")
    assert (response.headers["Content-Length"], body) == (str(len(CONTENT)), b"")


def test_unchanged_file_is_not_sent_again(web: Web) -> None:
    modified = web.get("/file")[0].headers["Last-Modified"]
    response, body = web.get("/file", If_Modified_Since=modified)
    assert (response.status, body) == (304, b"")
    response, _ = web.get("/file", If_Modified_Since="Thu, 01 Jan 1998 00:00:00 GMT")
    assert response.status == 200
    assert web.get("/file", If_Modified_Since="not a date")[0].status == 200


def test_resumes_a_download_as_apt_does(web: Web) -> None:
    modified = web.get("/file")[0].headers["Last-Modified"]
    response, body = web.get("/file", Range="bytes=1000-", If_Range=modified)
    assert (response.status, body) == (206, CONTENT[1000:])
    assert response.headers["Content-Range"] == f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"
    changed = "Thu, 01 Jan 1998 00:00:00 GMT"
    assert web.get("/file", Range="bytes=1000-", If_Range=changed)[1] == CONTENT
    response, _ = web.get("/file", Range=f"bytes={len(CONTENT)}-")
    assert response.status == 416
    assert response.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_keeps_the_connection_also_after_a_refusal(web: Web) -> None:
    with closing(web.connect()) as connection:
        for path, status in (("/file", 200), ("/absent", 404), ("/file", 200)):
            connection.request("GET", path, headers={"Host": "deb.debian.org"})
            response = connection.getresponse()
            response.read()
            assert (response.status, response.will_close) == (status, False)


def test_tls_with_the_certificate_of_the_lab_authority(web: Web) -> None:
    context = ssl.create_default_context(cafile=str(web.ca))
    # A connection that never speaks must not keep others waiting.
    with (
        closing(socket.create_connection(("127.0.0.1", web.tls))),
        closing(socket.create_connection(("127.0.0.1", web.tls), timeout=60)) as plain,
        context.wrap_socket(plain, server_hostname="pkgs.k8s.io") as tls,
    ):
        tls.sendall(b"GET /core:/stable:/file HTTP/1.0\r\nHost: pkgs.k8s.io\r\n\r\n")
        received = b"".join(iter(lambda: tls.recv(65536), b""))
    assert received.endswith(CONTENT)


def test_logs_a_line_a_request(web: Web) -> None:
    web.get("/absent?logged")
    lines = web.log.read_text().splitlines()
    found = [line for line in lines if "logged" in line]
    assert [line.split(" ", 1)[1] for line in found] == [
        "127.0.0.1 deb.debian.org GET /absent?logged HTTP/1.1 404"
    ]


def test_locate_keeps_to_the_directory() -> None:
    root = Path("/srv/site")
    assert locate(root, "/a//./b%20c?q#f") == root / "a" / "b c"
    assert locate(root, "//etc/passwd") != Path("/etc/passwd")
    assert locate(root, "/a/../b") is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-3", (0, 4)),
        ("bytes=4-", (4, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=8-99", (8, 10)),
        ("bytes=10-", None),
        ("bytes=-0", None),
        ("bytes=5-2", None),
        ("bytes=0-1,4-5", (0, 10)),
        ("bytes=-", (0, 10)),
        ("lines=1-2", (0, 10)),
    ],
)
def test_byte_range(header: str, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == expected
