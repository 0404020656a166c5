"""Read the node's own name, and ``/etc/hosts`` by the C library's rules.

The rules are in hosts(5), and in glibc's ``nss/nss_files/files-hosts.c`` and ``files-parse.c``:

- a line ends with a line feed; ``#`` begins a comment anywhere in a line;
- only ASCII blanks separate words; a no-break space, copied from a web page, is part of a word;
- the first word must be an address that inet_pton(3) accepts, which excludes leading zeros; other
  lines are skipped;
- the other words are names of the address; upper and lower case are the same;
- a name has the addresses of all lines that contain the name;
- for a lookup of IPv4, ``::1`` counts as 127.0.0.1, and ``::ffff:10.0.0.8`` as 10.0.0.8; other IPv6
  addresses do not count.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from typing import NamedTuple

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, Read

HOSTNAME = "/proc/sys/kernel/hostname"
"""The kernel's file with the node's own name."""


class OwnName(ComposedFact[str]):
    """The node's own name, as ``uname -n`` prints it.

    **Example:** ``host.get_fact(OwnName)``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (Read.of(Texts, patterns=(HOSTNAME,)),)

    @override
    def compose(self, texts: dict[str, bytes | None]) -> str:
        return os.fsdecode(texts[HOSTNAME] or b"").strip()


class Entry(NamedTuple):
    """A line of ``/etc/hosts`` that has an address.

    + line: the line's text, without blanks at its ends
    + address: the IPv4 address that the C library takes from this line, "" for none
    + names: the names as they are written in the line
    """

    line: str
    address: str
    names: tuple[str, ...]


def entries(data: bytes) -> Iterator[Entry]:
    """Yield the entries of ``/etc/hosts`` in order.

    + data: the file's content; bytes that are not UTF-8 are escaped as by `os.fsdecode`

    **Example:** ``next(entries(b"127.0.1.1 pi1 # own"))`` has the names ``("pi1",)``
    """
    for line in data.split(b"\n"):
        words = [os.fsdecode(word) for word in line.partition(b"#")[0].split()]
        try:
            address = ipaddress.ip_address(words[0])
        except (IndexError, ValueError):
            continue
        if "%" not in words[0]:
            yield Entry(os.fsdecode(line.strip()), _for_ipv4(address), tuple(words[1:]))


def _for_ipv4(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    # Since Python 3.13, is_loopback is true for mapped addresses too, such as ::ffff:127.0.1.1
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return "127.0.0.1" if address.is_loopback else ""
