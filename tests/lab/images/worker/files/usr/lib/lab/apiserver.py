#!/usr/bin/python3
"""Stand-in for kube-apiserver: as much of HTTP over TLS as a load balancer and its clients see.

GET /readyz   200 "ok", or the status that the file of --readyz holds at that moment
GET /echo     a stream: 101, then each line comes back as "NAME: LINE" until either side closes
GET anything  200 with the server's name, which is in the header Server-Name of every answer too

Ended by SIGTERM at once, with every connection. Clients may go away at any point: a health check
that only connects, or leaves in the middle of a handshake, is no error and leaves no trace.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import ssl
import threading
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

_HANDSHAKE_SECONDS = 10
_LINE_BYTES = 65536
_BACKLOG = 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class BadRequest(Exception):
    """The client does not speak HTTP."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=6443)
    parser.add_argument("--name", default=socket.gethostname(), help="default: the host's")
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--readyz", type=Path, required=True, help="holds a status; absent: 200")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    # A client that leaves with unread tickets resets its connection.
    context.num_tickets = 0
    listener = socket.create_server((options.address, options.port), backlog=_BACKLOG)
    print(f"{options.name} listens at port {listener.getsockname()[1]}", flush=True)
    tell_systemd("READY=1")
    while True:
        connection, _ = listener.accept()
        threading.Thread(
            target=serve, args=(connection, context, options.name, options.readyz), daemon=True
        ).start()


def tell_systemd(state: str) -> None:
    """Notify systemd, as sd_notify(3) does, if it started this process with Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(state.encode(), address.replace("@", "\0", 1))


def serve(connection: socket.socket, context: ssl.SSLContext, name: str, readyz: Path) -> None:
    """Answer one connection's requests until it ends."""
    # ssl.SSLError is an OSError too
    with connection, contextlib.suppress(OSError):
        connection.settimeout(_HANDSHAKE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(connection, server_side=True) as tls:
            # What is silent from here on may be a watch; a lost computer is the kernel's to notice
            tls.settimeout(None)
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with tls.makefile("rb") as requests:
                try:
                    while answer(tls, requests, name, readyz):
                        pass
                except BadRequest:
                    reply(tls, HTTPStatus.BAD_REQUEST, "bad request", name, keep=False)


def answer(client: ssl.SSLSocket, requests: BinaryIO, name: str, readyz: Path) -> bool:
    """Answer the next request; return whether the connection goes on."""
    first = read_line(requests)
    if not first:
        return False
    method, path, version = parse_request(first)
    headers = {}
    while line := read_line(requests):
        key, _, value = line.partition(":")
        headers[key.strip().lower()] = value.strip().lower()
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise BadRequest(length)
    requests.read(int(length))
    wanted = headers.get("connection", "keep-alive" if version == "HTTP/1.1" else "close")
    keep = wanted != "close"
    if path == "/echo":
        echo(client, requests, name)
        return False
    status, body = ready(readyz) if path == "/readyz" else (200, name)
    reply(client, status, body, name, keep=keep, head=method == "HEAD")
    return keep


def read_line(requests: BinaryIO) -> str:
    """Return the next line without its end; empty at the end of headers and of the stream."""
    return requests.readline(_LINE_BYTES).decode("latin-1").rstrip("\r\n")


def parse_request(line: str) -> tuple[str, str, str]:
    """Return method, path without its query, and version of a request's first line."""
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(line)
    return words[0], words[1].partition("?")[0], words[2]


def ready(readyz: Path) -> tuple[int, str]:
    """Return status and body of /readyz."""
    try:
        # Empty while somebody is writing it
        wanted = readyz.read_text().strip() or "200"
    except FileNotFoundError:
        wanted = "200"
    status = int(wanted) if wanted.isdecimal() and 200 <= int(wanted) <= 599 else 500
    return status, "ok" if status == 200 else "readyz check failed"


def reply(
    client: ssl.SSLSocket, status: int, body: str, name: str, *, keep: bool, head: bool = False
) -> None:
    """Send an answer."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}",
        f"Server-Name: {name}",
        "Content-Type: text/plain",
        f"Content-Length: {len(body.encode())}",
        f"Connection: {'keep-alive' if keep else 'close'}",
        "",
        "" if head else body,
    ]
    client.sendall("\r\n".join(lines).encode())


def echo(client: ssl.SSLSocket, requests: BinaryIO, name: str) -> None:
    """Send back each line, with this server's name before it, until the client closes."""
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
    client.sendall(f"{upgrade}Server-Name: {name}\r\n\r\n".encode())
    for line in iter(lambda: requests.readline(_LINE_BYTES), b""):
        client.sendall(f"{name}: ".encode() + line)


if __name__ == "__main__":
    main()
