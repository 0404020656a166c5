"""Send ARP requests for an address on the LAN, and print every MAC address that claims it.

    tests/lab/lab run -- python3 tests/cluster/arping.py 192.168.1.60

prints a JSON list, sorted, empty if nobody answers. It needs root and Python 3.9, nothing else.

    tests/lab/lab run -- python3 tests/cluster/arping.py 192.168.1.60 --watch --sender 192.168.1.9

asks 20 times a second until a line `stop`, or the end of its input, and then prints how many
machines answered each request. Machines may share a MAC address. So each request is sent in the
name of another hardware address, which the answers to it repeat: no answer counts for another
request, however late it comes. The sender's address has to be one that no machine has, because its
entry in the ARP caches changes with each request.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_REQUESTS = 3
_BROADCAST = b"\xff" * 6
_ETH_P_ARP = 0x0806
_FRAME = struct.Struct("!6s6sH HHBBH 6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_LATE = 0.5
"""Seconds after the last request in which its answers may come."""
_ASKER = b"\x02\xa5"
"""The first octets of the hardware addresses that requests are sent in the name of."""
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


def question(interface: Interface, number: int, sender: bytes, address: bytes) -> bytes:
    """Return the frame that asks for ADDRESS in the name of the NUMBERth asker, at SENDER.

    Ethernet's own source stays the interface's, so that no switch learns the asker's.
    """
    frame = request(Interface(interface.name, asker(number), sender), address)
    return frame[:6] + interface.mac + frame[12:]


def asker(number: int) -> bytes:
    """Return the hardware address of the NUMBERth asker."""
    return _ASKER + struct.pack("!I", number)


def answered(frame: bytes, address: bytes) -> int | None:
    """Return the number of the asker whom FRAME answers with ADDRESS, `None` if it answers none."""
    if claims(frame, address) is None:
        return None
    target: bytes = _FRAME.unpack_from(frame)[-2]
    if not target.startswith(_ASKER):
        return None
    number: int = struct.unpack("!I", target[len(_ASKER) :])[0]
    return number


@dataclass
class Answers:
    """How many machines answered each request of a watch."""

    times: list[float] = field(default_factory=list)
    """When each request was sent, in seconds from the beginning."""
    counts: Counter[int] = field(default_factory=Counter)
    """Answers by the number of their request."""

    def report(self) -> dict[str, Any]:
        """Return how often each number of answers came, and when it was another one than 1."""
        numbers = [self.counts[number] for number in range(len(self.times))]
        return {
            "asked": len(numbers),
            "answers": {str(count): times for count, times in sorted(Counter(numbers).items())},
            "none": [self.times[n] for n, count in enumerate(numbers) if count == 0],
            "several": [self.times[n] for n, count in enumerate(numbers) if count > 1],
        }


def watch(text: str, sender: str, *, interface: str = "eth0", pace: float = 20) -> dict[str, Any]:
    """Ask for the address TEXT, PACE times a second, until standard input says `stop` or ends.

    + sender: an address of the LAN that no machine has
    """
    address, own, found = socket.inet_aton(text), Interface.find(interface), Answers()
    # On one clock with the clients, which run elsewhere on the same computer
    began, start = time.time(), time.monotonic()
    end: float | None = None
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as lan:
        lan.bind((interface, _ETH_P_ARP))
        while (now := time.monotonic() - start) < (end or now + 1):
            due = len(found.times) / pace
            if end is None and now >= due:
                lan.send(question(own, len(found.times), socket.inet_aton(sender), address))
                found.times.append(round(now, 4))
                continue
            inputs = [lan] if end is not None else [lan, sys.stdin.fileno()]
            left = end - now if end is not None else due - now
            ready = select.select(inputs, [], [], left)[0]
            if lan in ready:
                number = answered(lan.recv(256), address)
                if number is not None:
                    found.counts[number] += 1
            if sys.stdin.fileno() in ready:
                data = os.read(sys.stdin.fileno(), 4096)
                if not data or b"stop" in data:
                    end = time.monotonic() - start + _LATE
    return {
        "began": round(began, 3),
        "elapsed": round(time.monotonic() - start, 3),
        **found.report(),
    }


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
    parser.add_argument("--watch", action="store_true", help="ask until a line `stop`")
    parser.add_argument("--sender", help="with --watch: in whose name; an address of nobody")
    options = parser.parse_args()
    if options.watch:
        if not options.sender:
            parser.error("--watch needs --sender")
        print(json.dumps(watch(options.address, options.sender, interface=options.interface)))
        return
    found = arping(options.address, interface=options.interface, seconds=options.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
