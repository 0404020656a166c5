"""``/etc/fstab`` as the two programs read it that act on it.

systemd-fstab-generator(8), which makes units of it at boot and at ``systemctl daemon-reload``,
reads with the C library's getmntent(3) up to systemd 257 at least (``src/fstab-generator/
fstab-generator.c``; glibc, ``misc/mntent_r.c``), and with libmount in systemd 262, as was seen:

- lines end with a line feed alone; one that begins with ``#``, or blanks and ``#``, is a comment;
- space and tab separate fields, also at the head of a line: source, target, type, options. Each may
  be missing, a carriage return is a part of the last one, nothing is quoted, no line goes on;
- in a field ``\\040``, ``\\011``, ``\\012``, ``\\134`` and ``\\\\`` stand for space, tab, line
  feed and backslash, no other escape for anything;
- a line of type ``swap`` is for swap, whatever its target is, ``none``, ``swap`` or a path;
- ``/var//log/.`` is ``/var/log``, and a target that is reached by links or ``..`` is where it
  leads; of several lines for one target the first counts;
- ``noauto`` keeps a mount from ``local-fs.target`` only: units that need what is below it, as
  systemd-journal-flush.service does ``/var/log``, pull it in (systemd.unit(5), RequiresMountsFor).

libmount, with which ``mount -a`` and ``swapon -a`` read too (util-linux,
``libmount/src/tab_parse.c``), differs: each ``\\ooo`` of three octal digits is a character, a
carriage return at the end of a line is no part of it, and a line is passed over that has no type,
or whose fifth or sixth field is no number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from chaos_engine.facts.text import unescaped

PATH = "/etc/fstab"

_BLANKS = " \t"
_ESCAPE = re.compile(r"\\(040|011|012|134|\\)")
_ESCAPES = {"040": " ", "011": "\t", "012": "\n", "134": "\\", "\\": "\\"}
_NUMBER = re.compile(r"[+-]?[0-9]+")


class Entry(NamedTuple):
    """A line as systemd reads it: its number from 1, and its first three fields, "" of one that is
    missing."""

    number: int
    source: str
    target: str
    kind: str


def entries(text: str, libmount: bool = False) -> Iterator[Entry]:
    """The entries of a table as systemd reads them, in their order.

    + libmount: whether it reads with libmount
    """
    for number, line in enumerate(text.split("\n"), 1):
        fields = _by_libmount(line) if libmount else _by_getmntent(line)
        if fields:
            source, target, kind = [*fields, "", ""][:3]
            yield Entry(number, source, _simple(target), kind)


def mounted_at(text: str, target: str) -> list[Entry]:
    """The entries that mount something at `target`, an absolute path, in one reading or the other.

    **Example:** ``mounted_at("tmpfs /var/log tmpfs\n", "/var/log")[0].number == 1``
    """
    found = {
        entry.number: entry
        for libmount in (True, False)
        for entry in entries(text, libmount)
        if entry.target == target and entry.kind not in ("swap", "autofs")
    }
    return [found[number] for number in sorted(found)]


def is_swap(line: str) -> bool:
    """Whether a line is for swap, in one reading or the other."""
    return any(fields[2:3] == ["swap"] for fields in (_by_getmntent(line), _by_libmount(line)))


def _by_getmntent(line: str) -> list[str]:
    return [
        _ESCAPE.sub(lambda match: _ESCAPES[match[1]], field)
        for field in _fields(line.removesuffix("\n"))
    ]


def _by_libmount(line: str) -> list[str]:
    fields = _fields(line.removesuffix("\n").removesuffix("\r"))
    if len(fields) < 3 or not all(map(_NUMBER.fullmatch, fields[4:6])):
        return []
    return [unescaped(field) for field in fields]


def _fields(line: str) -> list[str]:
    line = line.strip(_BLANKS)
    return [] if line.startswith("#") or not line else re.split(f"[{_BLANKS}]+", line)


def _simple(path: str) -> str:
    """A path without the slashes and dots that do not count, as systemd simplifies it."""
    if not path.startswith("/"):
        return path
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
