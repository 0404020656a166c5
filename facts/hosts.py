"""``/etc/hosts`` as the C library reads it.

The rules of hosts(5), and of glibc's ``nss/nss_files/files-hosts.c`` and ``files-parse.c``:

- lines end with a line feed; ``#`` begins a comment anywhere; blanks are those of ASCII, so that a
  no-break space out of a web page is a part of a word;
- the first word is an address as inet_pton(3) reads it, without leading zeros, and a line without
  one is passed over; the other words are its names, the same in upper and lower case;
- a name has the addresses of all lines that it is in;
- who asks for IPv4 gets 127.0.0.1 for ``::1``, 10.0.0.8 for ``::ffff:10.0.0.8``, and nothing for
  other addresses of IPv6.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    """A line, without the blanks around it: its address for IPv4, "" if that is none, and its
    names as they are written."""

    line: str
    address: str
    names: tuple[str, ...]


def entries(data: bytes) -> Iterator[Entry]:
    """The entries of a file, in their order; bytes that are not UTF-8 escaped as by `os.fsdecode`.

    **Example:** ``next(entries(b"127.0.1.1 pi1 # own"))`` has the names ``("pi1",)``
    """
    for line in data.split(b"\n"):
        first, *names = [*map(os.fsdecode, line.partition(b"#")[0].split()), ""]
        try:
            address = ipaddress.ip_address(first)
        except ValueError:
            continue
        if "%" not in first:
            yield Entry(os.fsdecode(line.strip()), _for_ipv4(address), tuple(names[:-1]))


def _for_ipv4(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return "127.0.0.1" if address.is_loopback else str(address.ipv4_mapped or "")
