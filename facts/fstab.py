"""``/etc/fstab`` as the two programs read it that act on it.

systemd-fstab-generator(8), which makes units of it at boot and at ``systemctl daemon-reload``,
reads with the C library's getmntent(3) (``src/fstab-generator/fstab-generator.c``; glibc,
``misc/mntent_r.c``):

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

libmount, with which ``mount -a`` and ``swapon -a`` read (util-linux, ``libmount/src/tab_parse.c``),
differs: each ``\\ooo`` of three octal digits is a character, a carriage return at the end of a line
is no part of it, and a line is passed over that has no type, or whose fifth or sixth field is no
number.
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


def entries(text: str) -> Iterator[Entry]:
    """The entries of a table as systemd-fstab-generator reads them, in their order."""
    for number, line in enumerate(text.split("\n"), 1):
        fields = _fields(line)
        if fields:
            read = (_ESCAPE.sub(lambda match: _ESCAPES[match[1]], field) for field in fields)
            source, target, kind = [*read, "", ""][:3]
            yield Entry(number, source, _simple(target), kind)


def mounted_at(text: str, target: str) -> Iterator[Entry]:
    """The entries that mount something at `target`, an absolute path.

    **Example:** ``next(mounted_at("tmpfs /var/log tmpfs\n", "/var/log")).number == 1``
    """
    return (
        entry
        for entry in entries(text)
        if entry.target == target and entry.kind not in ("swap", "autofs")
    )


def is_swap(line: str) -> bool:
    """Whether a line is for swap, as systemd or as ``swapon -a`` reads it."""
    fields, bare = _fields(line), _fields(line.removesuffix("\n").removesuffix("\r"))
    if fields[2:3] == ["swap"]:
        return True
    return [unescaped(field) for field in bare[2:3]] == ["swap"] and all(
        map(_NUMBER.fullmatch, bare[4:6])
    )


def _fields(line: str) -> list[str]:
    line = line.removesuffix("\n").strip(_BLANKS)
    return [] if line.startswith("#") or not line else re.split(f"[{_BLANKS}]+", line)


def _simple(path: str) -> str:
    """A path without the slashes and dots that do not count, as systemd simplifies it."""
    if not path.startswith("/"):
        return path
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
