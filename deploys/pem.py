"""PEM files as Go programs read them, which etcd, kubeadm and the API server are.

The rules of https://pkg.go.dev/encoding/pem, stricter than OpenSSL's and Python's:

- ``-----BEGIN `` begins the file or a line: a byte order mark or a blank before it hides the block;
- after the type stand five dashes and nothing but blanks, and the same in the first ``-----END ``
  line behind it, whose type is the same;
- lines with a colon at the head of a block are headers; what follows is base64, in which blanks and
  ends of lines count for nothing;
- all else between blocks is skipped, and so is a block that breaks these rules.

What is done with them: a client's certificates are the blocks of type ``CERTIFICATE``, and its key
is the first whose type ends with ``PRIVATE KEY`` (crypto/tls, X509KeyPair). In a file of
authorities etcd's client, and so the API server, takes each block for a certificate, whatever its
type, gives up at the first that is none, and, if there is no block, trusts nobody without a word
(etcd, ``client/pkg/tlsutil``, NewCertPool); others skip those of another type or with headers
(crypto/x509, AppendCertsFromPEM).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BEGIN = re.compile(rb"^-----BEGIN ([^\n]*)", re.MULTILINE)
_END = re.compile(rb"^-----END ([^\n]*)", re.MULTILINE)
# Python's own check lets more = pass than Go's
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
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
        """Whether Go takes a client's certificate from it."""
        return self.kind == "CERTIFICATE"

    @property
    def is_authority(self) -> bool:
        """Whether each Go program takes a certificate to trust from it."""
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
        if not _BASE64.fullmatch(text):
            continue
        yield Block(kind.decode(errors="replace"), body > place + 1, base64.b64decode(text))
        place = end.end()


def _dashed(line: bytes) -> bytes | None:
    """The type before the five dashes at the end of a line; ``None`` if they are not there."""
    line = line.removesuffix(b"\r").rstrip(b" \t")
    return line[:-5] if line.endswith(b"-----") else None


def byte_order_mark(data: bytes) -> str:
    """The mark that a file begins with, in words; "" if with none."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "")
