"""Read PEM files as Go programs do: etcd, kubeadm and the API server are written in Go.

The rules are those of https://pkg.go.dev/encoding/pem, stricter than OpenSSL's and Python's:

- ``-----BEGIN `` begins the file or a line: a byte order mark or a blank before it hides the block;
- after the type stand five dashes and nothing but blanks; the first ``-----END `` line after it is
  of the same form, with the same type;
- lines with a colon at the head of a block are headers; base64 follows, in which blanks and ends of
  lines are ignored;
- text between blocks is skipped, and so is a block that breaks these rules.

Go uses the blocks like this:

- A client's certificates are the blocks of type ``CERTIFICATE``. Its key is the first block whose
  type ends with ``PRIVATE KEY`` (crypto/tls, X509KeyPair).
- etcd's client, and so the API server, takes each block in a file of authorities for a certificate,
  whatever its type. It gives up at the first that is none. If there is no block, it trusts nobody
  and reports nothing (etcd, ``client/pkg/tlsutil``, NewCertPool).
- Other programs skip blocks of another type or with headers (crypto/x509, AppendCertsFromPEM).
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
    """A PEM block of type `kind`, as "CERTIFICATE". Its repr does not show the content."""

    kind: str
    headers: bool
    der: bytes = field(repr=False)

    @property
    def is_certificate(self) -> bool:
        """Tell whether Go takes a client's certificate from it."""
        return self.kind == "CERTIFICATE"

    @property
    def is_authority(self) -> bool:
        """Tell whether every Go program takes it for the certificate of an authority."""
        return self.kind == "CERTIFICATE" and not self.headers

    @property
    def is_key(self) -> bool:
        """Tell whether Go takes a private key from it."""
        return self.kind == "PRIVATE KEY" or self.kind.endswith(" PRIVATE KEY")


def blocks(data: bytes) -> Iterator[Block]:
    """Yield the blocks that Go finds in a file with this content."""
    position = 0
    while begin := _BEGIN.search(data, position):
        position = begin.end()
        kind = _type(begin[1])
        headers = _HEADERS.match(data, min(position + 1, len(data)))
        body = headers.end() if headers else position
        end = _END.search(data, body)
        if end is None:
            return
        if kind is None or _type(end[1], end.end() < len(data)) != kind:
            continue
        text = re.sub(rb"[ \t\r\n]", b"", data[body : end.start()])
        if not _BASE64.fullmatch(text):
            continue
        yield Block(kind.decode(errors="replace"), body > position + 1, base64.b64decode(text))
        position = end.end()


def _type(line: bytes, ended: bool = True) -> bytes | None:
    """Return the type before the five dashes at the end of a line, ``None`` without the dashes.

    + ended: whether a line feed follows; a carriage return belongs to the line's end only then
    """
    line = (line.removesuffix(b"\r") if ended else line).rstrip(b" \t")
    return line[:-5] if line.endswith(b"-----") else None


def byte_order_mark(data: bytes) -> str:
    """Return the byte order mark that a file begins with, in words, or ""."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "")
