"""The lab's web server: the public archives and download sites, by name, from directories.

Plain answers only: the real pkgs.k8s.io redirects to prod-cdn.packages.k8s.io, this one answers
by itself under either name.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import ssl
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, TextIO
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Site:
    """A directory that is served under a host name on a port."""

    scheme: str
    port: int
    host: str
    directory: Path

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read `SCHEME:PORT:HOST=DIRECTORY`."""
        match = re.fullmatch(r"(https?):(\d+):([^:=]+)=(.+)", text)
        if match is None:
            raise argparse.ArgumentTypeError(f"{text!r} is not SCHEME:PORT:HOST=DIRECTORY")
        scheme, port, host, directory = match.groups()
        return cls(scheme, int(port), host.lower(), Path(directory))


class Server(ThreadingHTTPServer):
    """The sites of one port."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        sites: Mapping[str, Path],
        *,
        tls: ssl.SSLContext | None = None,
        log: TextIO | None = None,
    ) -> None:
        """Listen on ADDRESS for SITES (host to directory)."""
        super().__init__(address, Handler)
        self.sites = sites
        self.log = log
        if tls is not None:
            # The handshake is left to the connection's own thread: here it would keep the
            # others waiting.
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def handle_error(self, request: object, client_address: object) -> None:
        """Say in a line why a connection ended, such as a client that distrusts us."""
        self.record(f"{client_address} {sys.exc_info()[1]!r}")

    def record(self, line: str) -> None:
        """Append LINE to the log, with the time before it."""
        if self.log is not None:
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            # One write a line: lines of several threads do not mix.
            self.log.write(f"{now} {line}\n")


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of files, with what apt relies on: Range, If-Modified-Since."""

    protocol_version = "HTTP/1.1"
    server_version = "lab"
    # Ends the thread of a client that keeps an idle connection.
    timeout = 60
    server: Server

    def do_HEAD(self) -> None:
        """Answer with the headers of the file."""
        self._answer()

    def do_GET(self) -> None:
        """Answer with the file."""
        self._answer()

    def _answer(self) -> None:
        directory = self.server.sites.get(self._host())
        if directory is None:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return
        path = locate(directory, self.path)
        if path is None or not path.is_file():
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            self._send(file)

    def _send(self, file: BinaryIO) -> None:
        about = os.fstat(file.fileno())
        size, modified = about.st_size, int(about.st_mtime)
        start, end = 0, size
        headers = {"Last-Modified": formatdate(modified, usegmt=True), "Accept-Ranges": "bytes"}
        since = _timestamp(self.headers["If-Modified-Since"])
        if since is not None and modified <= since:
            self._headers(HTTPStatus.NOT_MODIFIED, headers, length=None)
            return
        status = HTTPStatus.OK
        wanted = self.headers["Range"]
        condition = self.headers["If-Range"]
        # The rest of a file that has changed since would not fit what the client has of it.
        if wanted and (condition is None or _timestamp(condition) == modified):
            part = byte_range(wanted, size)
            if part is None:
                headers["Content-Range"] = f"bytes */{size}"
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
                return
            if part != (0, size):
                start, end = part
                status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._headers(status, headers, length=end - start)
        if self.command == "GET" and end > start:
            self.connection.sendfile(file, start, end - start)

    def _refuse(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        body = f"{status.value} {status.phrase}\n".encode()
        headers = {"Content-Type": "text/plain", **(headers or {})}
        self._headers(status, headers, length=len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _headers(
        self, status: HTTPStatus, headers: Mapping[str, str], *, length: int | None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _host(self) -> str:
        return str(self.headers.get("Host", "")).partition(":")[0].lower()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write one access line for a request."""
        status = code.value if isinstance(code, HTTPStatus) else code
        host = self._host() if hasattr(self, "headers") else "-"
        self.server.record(f"{self.client_address[0]} {host} {self.requestline} {status}")

    def log_message(self, format: str, *args: object) -> None:
        """Write what the base class complains about, such as a malformed request."""
        self.server.record(f"{self.client_address[0]} {format % args}")


def locate(directory: Path, target: str) -> Path | None:
    """Return the path in DIRECTORY that a request for TARGET means; None if it leads out."""
    parts = unquote(urlsplit(target).path).split("/")
    if ".." in parts or any("\0" in part for part in parts):
        return None
    return directory.joinpath(*(part for part in parts if part not in ("", ".")))


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the (start, end) that a Range HEADER asks of SIZE bytes.

    None if there are no such bytes; everything if it is not one plain range, as RFC 9110 allows.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else None
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    return (start, end) if start < end else None


def _timestamp(header: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(header).timestamp()) if header else None
    except ValueError:
        return None


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM; print `ready` when every port listens."""
    parser = argparse.ArgumentParser(prog="tests.lab.webserver", description=__doc__)
    parser.add_argument("--address", required=True, help="address to listen on")
    parser.add_argument(
        "--site",
        type=Site.parse,
        action="append",
        required=True,
        metavar="SCHEME:PORT:HOST=DIRECTORY",
    )
    parser.add_argument("--certificate", type=Path, help="for https sites")
    parser.add_argument("--key", type=Path, help="of the certificate")
    parser.add_argument("--log", type=Path, help="file that access lines are appended to")
    options = parser.parse_args(arguments)

    ports: dict[tuple[str, int], dict[str, Path]] = defaultdict(dict)
    for site in options.site:
        ports[site.scheme, site.port][site.host] = site.directory
    context = None
    if any(scheme == "https" for scheme, _ in ports):
        if options.certificate is None or options.key is None:
            parser.error("https sites need --certificate and --key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
    log = options.log.open("a", buffering=1) if options.log else None

    # Blocked before any thread starts, so that the signal waits for sigwait below.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    for (scheme, port), sites in ports.items():
        tls = context if scheme == "https" else None
        server = Server((options.address, port), sites, tls=tls, log=log)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    signal.sigwait(ends)


if __name__ == "__main__":
    main()
