"""Send ARP requests for an address on the LAN, and print every MAC address that claims it.

    tests/lab/lab run -- python3 tests/cluster/arping.py 192.168.1.60

prints a JSON list, sorted, empty if nobody answers. It needs root and Python 3.9, nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import socket
import struct
import time
from dataclasses import dataclass

_REQUESTS = 3
_BROADCAST = b"\xff" * 6
_ETH_P_ARP = 0x0806
_FRAME = struct.Struct("!6s6sH HHBBH 6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_SIOCGIFADDR, _SIOCGIFHWADDR = 0x8915, 0x8927  # linux/sockios.h


@dataclass(frozen=True)
class Interface:
    """The network interface that requests are sent from."""

    name: str
    mac: bytes
    address: bytes

    @classmethod
    def find(cls, name: str) -> Interface:
        """Return the interface NAME of this computer. Raise `OSError` if it has no address."""
        request = struct.pack("256s", name.encode())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            mac = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, request)[18:24]
            address = fcntl.ioctl(any_socket, _SIOCGIFADDR, request)[20:24]
        return cls(name, mac, address)


def request(interface: Interface, address: bytes) -> bytes:
    """Return the frame that asks everybody for ADDRESS (RFC 826)."""
    sender = (interface.mac, interface.address)
    head = (_BROADCAST, interface.mac, _ETH_P_ARP, 1, 0x0800, 6, 4, _REQUEST)
    return _FRAME.pack(*head, *sender, bytes(6), address)


def claims(frame: bytes, address: bytes) -> str | None:
    """Return the MAC address that claims ADDRESS in FRAME, `None` if FRAME is no such answer."""
    if len(frame) < _FRAME.size:
        return None
    *_, operation, mac, claimed, _, _ = _FRAME.unpack_from(frame)
    return mac.hex(":") if (operation, claimed) == (_REPLY, address) else None


def arping(text: str, *, interface: str = "eth0", seconds: float = 1.0) -> list[str]:
    """Return the MAC addresses that answer for the address TEXT within SECONDS, sorted.

    Asks three times in the first half of that time, as an answer may get lost.
    """
    address = socket.inet_aton(text)
    found = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as lan:
        lan.bind((interface, _ETH_P_ARP))
        frame = request(Interface.find(interface), address)
        start = time.monotonic()
        ends = [seconds * turn / (2 * _REQUESTS) for turn in range(1, _REQUESTS)] + [seconds]
        for end in ends:
            lan.send(frame)
            with contextlib.suppress(socket.timeout):
                while (left := start + end - time.monotonic()) > 0:
                    lan.settimeout(left)
                    found.add(claims(lan.recv(256), address))
    return sorted(mac for mac in found if mac)


def main() -> None:
    """Run the program."""
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("address")
    parser.add_argument("--interface", default="eth0")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to listen")
    options = parser.parse_args()
    found = arping(options.address, interface=options.interface, seconds=options.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
