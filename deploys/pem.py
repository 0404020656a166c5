"""PEM files as Go programs read them, which etcd, kubeadm and the API server are.

The rules of https://pkg.go.dev/encoding/pem, stricter than OpenSSL's and Python's:

- ``-----BEGIN `` begins the file or a line: a byte order mark or a blank before it hides the block;
- after the type stand five dashes and nothing but blanks, and the same in the first ``-----END ``
  line behind it, whose type is the same;
- lines with a colon at the head of a block are headers; what follows is base64, in which blanks and
  ends of lines count for nothing;
- all else between blocks is skipped, and so is a block that breaks these rules.

What is done with them (crypto/tls, X509KeyPair; crypto/x509, AppendCertsFromPEM): certificates are
the blocks of type ``CERTIFICATE`` without headers, and the key is the first whose type ends with
``PRIVATE KEY``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BEGIN = re.compile(rb"^-----BEGIN ([^\n]*)", re.MULTILINE)
_END = re.compile(rb"^-----END ([^\n]*)", re.MULTILINE)
_HEADERS = re.compile(rb"(?:[^\n:]*:[^\n]*(?:\n|\Z))*")

BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "a byte order mark",
    b"\xff\xfe": "the byte order mark of UTF-16",
    b"\xfe\xff": "the byte order mark of UTF-16",
}


@dataclass(frozen=True)
class Block:
    """A block of type `kind`, "CERTIFICATE"; its content is in no repr."""

    kind: str
    headers: bool
    der: bytes = field(repr=False)

    @property
    def is_certificate(self) -> bool:
        """Whether Go takes a certificate from it."""
        return self.kind == "CERTIFICATE" and not self.headers

    @property
    def is_key(self) -> bool:
        """Whether Go takes a private key from it."""
        return self.kind == "PRIVATE KEY" or self.kind.endswith(" PRIVATE KEY")


def blocks(data: bytes) -> Iterator[Block]:
    """The blocks that Go finds in a file."""
    place = 0
    while begin := _BEGIN.search(data, place):
        place = begin.end()
        kind = _dashed(begin[1])
        headers = _HEADERS.match(data, min(place + 1, len(data)))
        body = headers.end() if headers else place
        end = _END.search(data, body)
        if end is None:
            return
        if kind is None or _dashed(end[1]) != kind:
            continue
        text = re.sub(rb"[ \t\r\n]", b"", data[body : end.start()])
        try:
            der = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
        yield Block(kind.decode(errors="replace"), body > place + 1, der)
        place = end.end()


def _dashed(line: bytes) -> bytes | None:
    """The type before the five dashes at the end of a line; ``None`` if they are not there."""
    line = line.removesuffix(b"\r").rstrip(b" \t")
    return line[:-5] if line.endswith(b"-----") else None


def byte_order_mark(data: bytes) -> str:
    """The mark that a file begins with, in words; "" if with none."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "")
