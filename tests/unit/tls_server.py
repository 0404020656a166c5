"""Run a server of HTTPS on this computer, in place of an API server or an etcd."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that logs no request."""

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(
    handler: type[QuietHandler], tls: ssl.SSLContext, address: str = "127.0.0.1"
) -> Iterator[int]:
    """Answer requests at a free port of an address until the block ends, and yield the port."""
    server = ThreadingHTTPServer((address, 0), handler)
    # Each connection's thread does the handshake, so that a silent client keeps nobody waiting
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
