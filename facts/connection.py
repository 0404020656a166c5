"""The ssh connection to a node: how long a silent node is waited for, and what its loss is called.

pyinfra waits for a command without a limit, and paramiko does not notice that a node has fallen
silent: a run would stand still for as long as the kernel does, which takes a quarter of an hour to
give up what it has sent (tcp(7), tcp_retries2), and for ever if it has sent nothing.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyinfra.api.host import Host

SILENT_SECONDS = 90
"""A node that has not even acknowledged a packet for so long is lost. A switch that restarts is
back sooner; a node that is only busy acknowledges."""

_LOST = (
    "the connection to the node was lost; what was being done there may be done in part. Run again "
    "when it answers"
)
_NO_PASSWORD = (
    "sudo asks for a password, and there is no terminal to ask you at; run at a terminal, or allow "
    "sudo without a password on the node (NOPASSWD in /etc/sudoers.d)"
)


def bound(host: Host) -> None:
    """Have the connection end when the node has been silent for `SILENT_SECONDS`.

    Nothing is done to connections that are no TCP socket of this process: other connectors, and
    ssh through a ProxyCommand or ProxyJump.
    """
    sock = getattr(_transport(host), "sock", None)
    if not isinstance(sock, socket.socket):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Each system has some of them; macOS calls the first one TCP_KEEPALIVE
    for name, value in (
        ("TCP_KEEPIDLE", SILENT_SECONDS // 3),
        ("TCP_KEEPALIVE", SILENT_SECONDS // 3),
        ("TCP_KEEPINTVL", SILENT_SECONDS // 6),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", SILENT_SECONDS * 1000),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def trouble(host: Host, error: Exception | None = None) -> str:
    """Why a command on the node had no end that can be judged, and what to do; "" if it had one.

    + error: what it raised
    """
    transport = _transport(host)
    if transport is not None and not transport.is_active():
        return _LOST
    if isinstance(error, EOFError):  # of the terminal that the password is read from
        return _NO_PASSWORD
    return "" if error is None else f"{error or type(error).__name__}; mend that and run again"


def _transport(host: Host) -> Any:
    client = getattr(host.connector, "client", None)
    return client.get_transport() if client is not None else None
