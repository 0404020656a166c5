"""Read PEM files as Go programs do. etcd, kubeadm and the API server are written in Go.

Go's rules are stricter than those of OpenSSL and Python (https://pkg.go.dev/encoding/pem):

- A block begins with ``-----BEGIN `` at the beginning of a line. Go does not find a block with a
  blank or a byte order mark before ``-----BEGIN ``.
- The rest of this line is the block's type and five dashes. Only blanks may follow these dashes.
  The next ``-----END `` line must have the same form and the same type.
- The lines at the beginning of a block are headers if they contain a colon. All other lines are
  base64. Go ignores blanks in base64.
- Go skips text between blocks, and blocks that break these rules.

Go programs use the blocks as follows:

- A client's certificates are the blocks of type ``CERTIFICATE``. The client's key is the first
  block whose type ends with ``PRIVATE KEY`` (crypto/tls, X509KeyPair).
- The API server uses etcd's client. This client parses each block in a CA's file as a certificate,
  whatever the block's type. The client refuses a file in which a block is not a certificate. If a
  file has no block, the client trusts no server and reports no error (etcd,
  ``client/pkg/tlsutil``, NewCertPool).
- Other programs skip a block in a CA's file if the block has headers or another type than
  ``CERTIFICATE`` (crypto/x509, AppendCertsFromPEM).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BEGIN = re.compile(rb"^-----BEGIN ([^\n]*)", re.MULTILINE)
_END = re.compile(rb"^-----END ([^\n]*)", re.MULTILINE)
# Python's own check accepts superfluous = at the end, and Go's does not
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_HEADERS = re.compile(rb"(?:[^\n:]*:[^\n]*(?:\n|\Z))*")

BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "a byte order mark",
    b"\xff\xfe": "the byte order mark of UTF-16",
    b"\xfe\xff": "the byte order mark of UTF-16",
}


@dataclass(frozen=True)
class Block:
    """A PEM block of type `kind`, such as "CERTIFICATE". The repr does not show the content."""

    kind: str
    headers: bool
    der: bytes = field(repr=False)

    @property
    def is_certificate(self) -> bool:
        """Tell whether the block is a certificate to a client that is written in Go."""
        return self.kind == "CERTIFICATE"

    @property
    def is_authority(self) -> bool:
        """Tell whether the block is a CA's certificate to all programs that are written in Go."""
        return self.is_certificate and not self.headers

    @property
    def is_key(self) -> bool:
        """Tell whether programs that are written in Go take the block for a private key."""
        return self.kind == "PRIVATE KEY" or self.kind.endswith(" PRIVATE KEY")


def blocks(data: bytes) -> Iterator[Block]:
    """Yield the PEM blocks of a file's content, as Go's package `encoding/pem` finds them."""
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
    """Return the type in a BEGIN or END line, such as ``CERTIFICATE``.

    + line: the text of the line after "-----BEGIN " or "-----END "
    + ended: whether a line feed ends the line. Go ignores a carriage return only before a line feed

    Returns ``None`` if the line does not end with five dashes.
    """
    line = (line.removesuffix(b"\r") if ended else line).rstrip(b" \t")
    return line[:-5] if line.endswith(b"-----") else None


def byte_order_mark(data: bytes) -> str:
    """Return the name of the byte order mark at the beginning of a file, "" if there is none."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "")
