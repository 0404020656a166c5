"""Read OpenPGP keys and signatures without gpg: key IDs, expiry dates and signers.

RFC 9580 defines the format. This module verifies no signature, because apt verifies each package
index that apt downloads.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from chaos_engine.facts.observe import Value

_PUBLIC_KEY, _SIGNATURE, _PUBLIC_SUBKEY = 6, 2, 14
_CREATED, _KEY_LIFETIME, _ISSUER, _ISSUER_FINGERPRINT = 2, 9, 16, 33
_CERTIFICATIONS, _DIRECT = (0x10, 0x11, 0x12, 0x13), 0x1F


@dataclass(frozen=True)
class PublicKey(Value):
    """An OpenPGP primary key.

    + fingerprint: the key's fingerprint in upper case hexadecimal digits
    + ids: the key IDs of the key and of its subkeys, each with 16 upper case hexadecimal digits
    + expires: the time when the key expires, in seconds since 1970; ``None`` for never
    """

    fingerprint: str
    ids: tuple[str, ...]
    expires: int | None

    def expired(self, now: float) -> bool:
        """Return whether the key has expired at the time `now`, in seconds since 1970."""
        return self.expires is not None and self.expires <= now

    @property
    def expiry_date(self) -> str:
        """Return the date in UTC when the key expires, such as "2026-11-28", or "never"."""
        if self.expires is None:
            return "never"
        return datetime.fromtimestamp(self.expires, timezone.utc).strftime("%Y-%m-%d")


def dearmor(text: bytes, kind: str = "PUBLIC KEY BLOCK") -> bytes:
    """Return the binary content of the first ASCII-armoured block of the given kind.

    + text: the block, perhaps with other text around it
    + kind: the words after ``BEGIN PGP`` in the block's first line

    Raises ``ValueError`` if there is no such block, or if the block is damaged.
    """
    lines = [line.strip() for line in text.decode("ascii", errors="replace").splitlines()]
    begin, end = (f"-----{word} PGP {kind}-----" for word in ("BEGIN", "END"))
    if begin not in lines or end not in lines:
        raise ValueError(f"there is no {begin}")
    block = lines[lines.index(begin) + 1 : lines.index(end)]
    body = block[block.index("") + 1 :] if "" in block else block  # headers end at an empty line
    try:
        return base64.b64decode("".join(line for line in body if line[:1] != "="), validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is damaged: {error}") from None


def parse_keys(data: bytes) -> list[PublicKey]:
    """Return the primary keys of a binary keyring.

    Raises ``ValueError`` if the data is not an OpenPGP keyring or has no key.
    """
    try:
        return _keys(data)
    except LookupError:
        raise ValueError("it is damaged") from None


def parse_signers(data: bytes) -> list[str]:
    """Return the IDs of the keys that made the signatures in a binary signature block.

    Skips signatures that do not name their key. Raises ``ValueError`` if the data is not valid
    OpenPGP data.
    """
    try:
        issuers = [_issuer(body) for tag, body in _packets(data) if tag == _SIGNATURE]
    except LookupError:
        raise ValueError("it is damaged") from None
    return [issuer for issuer in issuers if issuer is not None]


def _keys(data: bytes) -> list[PublicKey]:
    """Return the primary keys of a binary keyring. Raises ``LookupError`` for a damaged keyring."""
    keys: list[PublicKey] = []
    ids: list[list[str]] = []
    for tag, body in _packets(data):
        if tag == _PUBLIC_KEY:
            ids.append([_key_id(body)])
            keys.append(PublicKey(_fingerprint(body), (), None))
            created, newest = int.from_bytes(body[1:5], "big"), -1
        elif not keys:
            raise ValueError("the first packet is not a public key")
        elif tag == _PUBLIC_SUBKEY:
            ids[-1].append(_key_id(body))
        elif tag == _SIGNATURE and body[:1] >= b"\4":
            found = dict(_subpackets(body))
            # A direct-key signature counts only if it has a lifetime. Others have another purpose,
            # such as to say who may revoke the key
            of_key = body[1] in _CERTIFICATIONS or (body[1] == _DIRECT and _KEY_LIFETIME in found)
            signed_at = int.from_bytes(found.get(_CREATED, b""), "big")
            if of_key and _issuer(body) in (None, ids[-1][0]) and signed_at >= newest:
                newest = signed_at
                lifetime = int.from_bytes(found.get(_KEY_LIFETIME, b""), "big")
                keys[-1] = replace(keys[-1], expires=created + lifetime if lifetime else None)
    if not keys:
        raise ValueError("it is empty")
    return [replace(key, ids=tuple(key_ids)) for key, key_ids in zip(keys, ids, strict=True)]


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each packet's tag and body (RFC 9580, section 4.2)."""
    position = 0
    while position < len(data):
        head = data[position]
        if not head & 0x80:
            raise ValueError("it is no binary OpenPGP data")
        position += 1
        if head & 0x40:
            tag = head & 0x3F
            size, length = _length(data[position : position + 5], 224)
        else:
            tag, size = head >> 2 & 0xF, 1 << (head & 3)
            if size == 8:
                raise ValueError("a packet has no length")
            length = int.from_bytes(data[position : position + size], "big")
        begin, position = position + size, position + size + length
        body = data[begin:position]
        if begin > len(data) or len(body) < length or not body:
            raise ValueError("it is cut short")
        yield tag, body


def _length(data: bytes, partial: int) -> tuple[int, int]:
    """Read a length field. Return the field's own size in octets, and the length in the field.

    + partial: a number of at most 255. If the field's first octet is from `partial` to 254, the
      field has a partial length. With 255, no field has a partial length

    Raises ``ValueError`` for a partial length.

    The forms of the field are in RFC 9580, sections 4.2.1 and 5.2.3.7.
    """
    first = data[0] if data else 255
    if first < 192:
        return 1, first
    if first < partial:
        return 2, (first - 192 << 8) + int.from_bytes(data[1:2], "big") + 192
    if first < 255:
        raise ValueError("a packet comes in parts")
    return 5, int.from_bytes(data[1:5], "big")


def _subpackets(body: bytes, hashed_only: bool = True) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each subpacket of a signature (RFC 9580, section 5.2.3.7).

    + body: the signature's body
    + hashed_only: whether to yield only the subpackets that the signature protects
    """
    wide = 4 if body[0] == 6 else 2
    start = 4
    for _ in range(1 if hashed_only else 2):
        size = int.from_bytes(body[start : start + wide], "big")
        area = body[start + wide : start + wide + size]
        start += wide + size
        at = 0
        while at < len(area):
            octets, length = _length(area[at : at + 5], 255)
            if not length:
                raise ValueError("a signature is damaged")
            at += octets
            yield area[at] & 0x7F, area[at + 1 : at + length]
            at += length


def _issuer(body: bytes) -> str | None:
    """Return the ID of the key that made a signature, ``None`` if the signature names no key.

    + body: the body of the signature's packet
    """
    if body[0] < 4:
        return body[7:15].hex().upper()
    found = dict(_subpackets(body, hashed_only=False))
    if _ISSUER_FINGERPRINT in found:
        version, fingerprint = found[_ISSUER_FINGERPRINT][0], found[_ISSUER_FINGERPRINT][1:]
        return (fingerprint[:8] if version == 6 else fingerprint[-8:]).hex().upper()
    return found[_ISSUER].hex().upper() if _ISSUER in found else None


def _fingerprint(body: bytes) -> str:
    """Return a key's fingerprint in upper case hexadecimal digits (RFC 9580, section 5.5.4).

    + body: the body of the key's packet
    """
    if body[0] == 4:
        prefix = b"\x99" + len(body).to_bytes(2, "big")
        return hashlib.sha1(prefix + body, usedforsecurity=False).hexdigest().upper()
    if body[0] == 6:
        prefix = b"\x9b" + len(body).to_bytes(4, "big")
        return hashlib.sha256(prefix + body).hexdigest().upper()
    raise ValueError(f"a key has version {body[0]}")


def _key_id(body: bytes) -> str:
    """Return a key's ID, which is a part of the key's fingerprint.

    The ID is the last 16 hexadecimal digits for a key of version 4, the first 16 for version 6.

    + body: the body of the key's packet
    """
    fingerprint = _fingerprint(body)
    return fingerprint[:16] if body[0] == 6 else fingerprint[-16:]
