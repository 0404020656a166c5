"""Read ``/etc/fstab`` by the rules of systemd and of mount(8), which differ.

systemd-fstab-generator(8) makes units of the file at boot and at ``systemctl daemon-reload``. Up to
systemd 257 at least, it reads with the C library's getmntent(3) (``src/fstab-generator/
fstab-generator.c``; glibc, ``misc/mntent_r.c``). In systemd 262 it reads with libmount, as was
seen. These are the rules of getmntent and systemd:

- only a line feed ends a line; a line whose first character after blanks is ``#`` is a comment;
- space and tab separate the fields: source, target, type, options. Blanks may begin a line. Each
  field may be missing; there are no quotes and no continued lines; a carriage return belongs to the
  last field;
- in a field ``\\040``, ``\\011``, ``\\012``, ``\\134`` and ``\\\\`` stand for space, tab, line
  feed and backslash; there are no other escapes;
- a line of type ``swap`` is for swap, whatever its target is: ``none``, ``swap`` or a path;
- ``/var//log/.`` and ``var/log`` mean ``/var/log``; a target without any slash is no path. systemd
  follows links and ``..`` in a target. Of several lines for one target the first counts;
- ``noauto`` only keeps a mount out of ``local-fs.target``. A unit that needs a path below the
  target still mounts it, as systemd-journal-flush.service does with ``/var/log`` (systemd.unit(5),
  RequiresMountsFor).

``mount -a`` and ``swapon -a`` always read with libmount (util-linux,
``libmount/src/tab_parse.c``). The rules of libmount differ: each ``\\ooo`` of three octal digits is
a character; a carriage return at the end of a line does not belong to the line; a line is skipped
if it has no type, or if its fifth or sixth field is not a number.
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
    """A line as systemd reads it: its number from 1, and its first three fields.

    A missing field is "". `kind` is the type.
    """

    number: int
    source: str
    target: str
    kind: str


def entries(text: str, libmount: bool = False) -> Iterator[Entry]:
    """Yield the entries of a table as systemd reads them, in their order.

    + libmount: whether systemd reads with libmount, by default with getmntent
    """
    for number, line in enumerate(text.split("\n"), 1):
        fields = _by_libmount(line) if libmount else _by_getmntent(line)
        if fields:
            source, target, kind = [*fields, "", ""][:3]
            yield Entry(number, source, _simplified(target), kind)


def mounted_at(text: str, target: str) -> list[Entry]:
    """Return the entries that mount something at a target, by the rules of getmntent or libmount.

    + target: absolute path

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
    """Tell whether a line is for swap, by the rules of getmntent or libmount."""
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


def _simplified(path: str) -> str:
    """Return a target as systemd simplifies it: without repeated slashes and ``.`` folders.

    A target that contains a slash becomes an absolute path.
    """
    if "/" not in path:
        return path
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
