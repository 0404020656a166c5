"""A time server of the lab: SNTP (RFC 4330), with the time of this computer."""

from __future__ import annotations

import argparse
import socket
import struct
import time

PORT = 123
SINCE_1900 = 2_208_988_800
"""Seconds from 1900, where NTP's time begins, to 1970."""

_HEADER = struct.Struct("!BBbb II 4s QQQQ")
_SERVER, _CLIENT, _VERSION = 4, 3, 4
_STRATUM, _PRECISION = 2, -20
_SHORT = 1 << 16
"""A second, in NTP's short form."""


def stamp(seconds: float) -> int:
    """Return a time in seconds since 1970 as a timestamp of NTP."""
    return int((seconds + SINCE_1900) * (1 << 32))


def question(at: float) -> bytes:
    """Return what a client sends."""
    first = _VERSION << 3 | _CLIENT
    return _HEADER.pack(first, 0, 0, 0, 0, 0, b"", 0, 0, 0, stamp(at))


def answer(asked: bytes, at: float) -> bytes | None:
    """Return the answer to a client's packet, ``None`` if it is none.

    + at: the time when the packet arrived, in seconds since 1970
    """
    if len(asked) < _HEADER.size:
        return None
    first, _, poll, *_, sent = _HEADER.unpack(asked[: _HEADER.size])
    version, mode = first >> 3 & 7, first & 7
    if mode != _CLIENT:
        return None
    now = stamp(at)
    return _HEADER.pack(
        version << 3 | _SERVER, _STRATUM, poll, _PRECISION, 0, _SHORT >> 10, bytes(4),
        now, sent, now, stamp(time.time()),
    )  # fmt: skip


def answers(address: str) -> bool:
    """Whether a time server answers at ADDRESS."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        try:
            client.connect((address, PORT))
            client.send(question(time.time()))
            return len(client.recv(512)) == _HEADER.size
        except OSError:
            return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    address = parser.parse_args().address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, PORT))
        while True:
            asked, client = server.recvfrom(512)
            reply = answer(asked, time.time())
            if reply is not None:
                server.sendto(reply, client)


if __name__ == "__main__":
    main()
