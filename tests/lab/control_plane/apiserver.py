"""Stand-in for kube-apiserver: HTTP over TLS for a load balancer, its clients, and kubectl.

GET /readyz    as the real one after its start: refused connections, 403, 500, then 200 "ok"; or the
               status that the file of --readyz holds at that moment
GET /echo      a stream, for the lab only: 101, then each line comes back as "NAME: LINE" until
               either side closes, as the streams of kubectl do
anything else  see `api`

The server's name is in the header Server-Name of every answer, and the address of its client, which
may be a load balancer's, in Client-Address; a real one has neither. It starts to listen after the
store's `start-seconds`. It ends with its manifest, or by SIGTERM at once, with every connection.
Clients may go away at any point: a health check that only connects, or leaves in the middle of a
handshake, is no error and leaves no trace.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode, urlsplit

from .api import Refused, Request, User, answer, authorize, locate
from .store import START_SECONDS, Json, Store, fine_stamp

FORBIDDEN_SECONDS = 1.0
"""How long after its start it does not know its roles yet, and says 403 to everybody."""
UNREADY_SECONDS = 2.0
"""How long after that /readyz says 500. On 2026-11-27 a real one took 1 and 3 s on 2 busy cores."""

_HANDSHAKE_SECONDS = 10
_LINE_BYTES = 65536
_BODY_BYTES = 3 * 1024 * 1024
"""The real one's limit, too."""
_BACKLOG = 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}
_CHECKS = """\
[+]ping ok
[+]log ok
[+]etcd ok
[+]informer-sync ok
[+]poststarthook/start-apiserver-admission-initializer ok
{hook}
[+]shutdown ok
"""
_HOOK = "poststarthook/rbac/bootstrap-roles"


class BadRequest(Exception):
    """The client does not speak HTTP."""


class Server:
    """A kube-apiserver of the cluster in STORE, called NAME, of Kubernetes VERSION.

    + readyz: a file that may hold a status, which /readyz then has
    """

    def __init__(self, store: Store, name: str, version: str, readyz: Path) -> None:
        self.store, self.name, self.version, self.readyz = store, name, version, readyz
        self._began = time.monotonic()

    @property
    def age(self) -> float:
        """For how many seconds it has been listening."""
        return time.monotonic() - self._began

    def respond(self, request: Request) -> tuple[int, str, str]:
        """Return status, media type and body of an answer, and record it as audit logs do."""
        received = time.time()
        try:
            authorize(request, roles=self.age >= FORBIDDEN_SECONDS)
            if request.path in ("/readyz", "/livez", "/healthz"):
                status, text = self._health(request)
                return status, "text/plain; charset=utf-8", text
            status, found = answer(request, self.store, self.version, received)
        except Refused as refused:
            status, found = refused.code, refused.status
        self._record(request, received, status)
        return status, "application/json", json.dumps(found)

    def _health(self, request: Request) -> tuple[int, str]:
        status = 200
        if request.path == "/readyz":
            status = self._switched()
            if self.age < FORBIDDEN_SECONDS + UNREADY_SECONDS:
                status = 500
        if status == 200 and "verbose" not in request.query:
            return 200, "ok"
        hook = f"[+]{_HOOK} ok" if status == 200 else f"[-]{_HOOK} failed: reason withheld"
        end = "passed" if status == 200 else "failed"
        return status, f"{_CHECKS.format(hook=hook)}{request.path[1:]} check {end}\n"

    def _switched(self) -> int:
        try:
            # Empty while somebody is writing it
            wanted = self.readyz.read_text().strip() or "200"
        except FileNotFoundError:
            wanted = "200"
        return int(wanted) if wanted.isdecimal() and 200 <= int(wanted) <= 599 else 500

    def _record(self, request: Request, received: float, status: int) -> None:
        target = locate(request.path)
        if target is None:
            return
        event: Json = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Request",
            "stage": "ResponseComplete",
            "verb": target.verb(request.method),
            "requestURI": request.path + (f"?{urlencode(request.query)}" if request.query else ""),
            "user": {"username": request.user.name, "groups": sorted(request.user.groups)},
            "userAgent": request.headers.get("user-agent", ""),
            "objectRef": target.reference(),
            "responseStatus": {"code": status},
            "requestReceivedTimestamp": fine_stamp(received),
            "stageTimestamp": fine_stamp(time.time()),
            "annotations": {"server": self.name},
        }
        with contextlib.suppress(ValueError):
            event["requestObject"] = json.loads(request.body)
        self.store.record(event)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=6443)
    parser.add_argument("--name", default=socket.gethostname(), help="default: the host's")
    parser.add_argument("--store", type=Path, required=True, help="what stands for etcd")
    parser.add_argument("--manifest", type=Path, required=True, help="its static pod")
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--client-ca", type=Path, required=True)
    parser.add_argument("--readyz", type=Path, required=True, help="holds a status; absent: 200")
    options = parser.parse_args()
    store = Store(options.store)
    version = parse_version(options.manifest.read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    context.load_verify_locations(options.client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    # A client that leaves with unread tickets resets its connection.
    context.num_tickets = 0
    threading.Thread(target=end_without, args=(options.manifest,), daemon=True).start()
    time.sleep(store.seconds("start-seconds", START_SECONDS))
    listener = socket.create_server((options.address, options.port), backlog=_BACKLOG)
    server = Server(store, options.name, version, options.readyz)
    print(f"{options.name} listens at port {listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, context, server), daemon=True).start()


def parse_version(manifest: str) -> str:
    """Return the version of kube-apiserver's image in its static pod's manifest."""
    found = re.search(r"kube-apiserver:v(\d+\.\d+\.\d+)", manifest)
    if found is None:
        raise SystemExit("the manifest has no image .../kube-apiserver:vX.Y.Z")
    return found[1]


def end_without(manifest: Path) -> None:
    """End this process once its manifest is gone, as kubelet ends a static pod."""
    while manifest.exists():
        time.sleep(0.2)
    os._exit(0)


def serve(connection: socket.socket, context: ssl.SSLContext, server: Server) -> None:
    """Answer one connection's requests until it ends."""
    # ssl.SSLError is an OSError too
    with connection, contextlib.suppress(OSError):
        connection.settimeout(_HANDSHAKE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(connection, server_side=True) as tls:
            # What is silent from here on may be a watch; a lost computer is the kernel's to notice
            tls.settimeout(None)
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            user = user_of(tls)
            with tls.makefile("rb") as requests:
                try:
                    while respond(tls, requests, server, user):
                        pass
                except BadRequest:
                    text = "400 Bad Request"
                    reply(tls, 400, "text/plain; charset=utf-8", text, server.name, keep=False)


def user_of(tls: ssl.SSLSocket) -> User:
    """Return whom a client's certificate names: its common name and its organizations."""
    # typeshed has it as a dictionary of anything
    certificate: dict[str, Any] | None = tls.getpeercert()
    if not certificate:
        return User()
    pairs = [pair for names in certificate["subject"] for pair in names]
    groups = {str(value) for key, value in pairs if key == "organizationName"}
    name = next(str(value) for key, value in pairs if key == "commonName")
    return User(name, frozenset({*groups, "system:authenticated"}))


def respond(client: ssl.SSLSocket, requests: BinaryIO, server: Server, user: User) -> bool:
    """Answer the next request; return whether the connection goes on."""
    first = read_line(requests)
    if not first:
        return False
    method, target, version = parse_request(first)
    headers = {}
    while line := read_line(requests):
        key, _, value = line.partition(":")
        headers[key.strip().lower()] = value.strip()
    body = read_body(requests, headers)
    wanted = headers.get("connection", "keep-alive" if version == "HTTP/1.1" else "close")
    keep = wanted.lower() != "close"
    parts = urlsplit(target)
    if parts.path == "/echo":
        echo(client, requests, server.name)
        return False
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    request = Request(method, parts.path, query, headers, body, user)
    status, kind, text = server.respond(request)
    reply(client, status, kind, text, server.name, keep=keep, head=method == "HEAD")
    return keep


def read_body(requests: BinaryIO, headers: Mapping[str, str]) -> bytes:
    """Return a request's body. `kubectl create --raw` sends it in chunks."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := _length(read_line(requests), base=16):
            body += requests.read(size)
            _length(str(len(body)))
            read_line(requests)
        while read_line(requests):
            pass
        return body
    return requests.read(_length(headers.get("content-length", "0")))


def _length(text: str, base: int = 10) -> int:
    try:
        length = int(text, base)
    except ValueError:
        raise BadRequest(text) from None
    if not 0 <= length <= _BODY_BYTES:
        raise BadRequest(text)
    return length


def read_line(requests: BinaryIO) -> str:
    """Return the next line without its end; empty at the end of headers and of the stream."""
    return requests.readline(_LINE_BYTES).decode("latin-1").rstrip("\r\n")


def parse_request(line: str) -> tuple[str, str, str]:
    """Return method, path with its query, and version of a request's first line."""
    words = line.split(" ")
    if len(words) != 3 or not words[1].startswith("/") or not words[2].startswith("HTTP/1."):
        raise BadRequest(line)
    return words[0], words[1], words[2]


def reply(
    client: ssl.SSLSocket,
    status: int,
    kind: str,
    body: str,
    name: str,
    *,
    keep: bool,
    head: bool = False,
) -> None:
    """Send an answer."""
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}",
        f"Server-Name: {name}",
        f"Client-Address: {client.getpeername()[0]}",
        f"Content-Type: {kind}",
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
