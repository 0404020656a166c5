"""Read ``/etc/fstab`` as systemd reads it, and as mount(8) reads it: their rules differ.

systemd-fstab-generator(8) makes units from the file at boot and at ``systemctl daemon-reload``. It
reads the file with the C library's getmntent(3), at least up to systemd 257
(``src/fstab-generator/fstab-generator.c``; glibc, ``misc/mntent_r.c``). In a test, systemd 262 read
the file with libmount. These are the rules of getmntent and systemd:

- only a line feed ends a line; a line whose first character after blanks is ``#`` is a comment;
- the fields are source, target, type and options, in this order; blanks (space and tab) separate
  them; a line may begin with blanks, and any field may be missing;
- there are no quotes and no continued lines; a carriage return is part of the last field;
- in a field ``\\040``, ``\\011``, ``\\012``, ``\\134`` and ``\\\\`` stand for space, tab, line
  feed and backslash; there are no other escapes;
- a line of type ``swap`` describes swap, whether its target is ``none``, ``swap`` or a path;
- the targets ``/var//log/.`` and ``var/log`` mean ``/var/log``; a target without a slash is no
  path;
- systemd follows links and ``..`` in a target; if several lines have the same target, the first
  counts;
- ``noauto`` only removes a mount from ``local-fs.target``. A unit that needs a path below the mount
  point still causes the mount (systemd.unit(5), RequiresMountsFor). For example,
  systemd-journal-flush.service causes the mount of ``/var/log``.

``mount -a`` and ``swapon -a`` always read the file with libmount (util-linux,
``libmount/src/tab_parse.c``). These rules of libmount differ:

- ``\\ooo``, with any three octal digits, stands for a character;
- a carriage return at the end of a line is removed;
- a line is skipped if it has no type, or if its fifth or sixth field is not a number.
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
# The groups are: source, target and type; the blanks after them; options; the rest of the line
_WITH_OPTIONS = re.compile(
    rf"([{_BLANKS}]*(?:[^{_BLANKS}]+[{_BLANKS}]+){{2}}[^{_BLANKS}]+)"
    rf"([{_BLANKS}]*)([^{_BLANKS}]*)(.*)",
    re.DOTALL,
)


class Entry(NamedTuple):
    """The first three fields of a line, as systemd reads them. A missing field is "".

    + number: the line's number; the first line is 1
    + kind: the field "type"
    """

    number: int
    source: str
    target: str
    kind: str


def entries(text: str, libmount: bool = False) -> Iterator[Entry]:
    """Yield the entries of ``/etc/fstab`` in order, as systemd reads them.

    + text: the file's content
    + libmount: whether systemd reads the file with libmount; by default it reads with getmntent
    """
    for number, line in enumerate(text.split("\n"), 1):
        fields = _by_libmount(line) if libmount else _by_getmntent(line)
        if fields:
            source, target, kind = [*fields, "", ""][:3]
            yield Entry(number, source, _simplified(target), kind)


def mounted_at(text: str, target: str) -> list[Entry]:
    """Return the entries that mount something at a target, without swap and autofs.

    getmntent and libmount may read different targets in a line. An entry is returned if getmntent,
    libmount or both read this target.

    + text: the content of ``/etc/fstab``
    + target: absolute path

    **Example:** ``mounted_at("tmpfs /var/log tmpfs\\n", "/var/log")[0].number == 1``
    """
    found = {
        entry.number: entry
        for libmount in (True, False)
        for entry in entries(text, libmount)
        if entry.target == target and entry.kind not in ("swap", "autofs")
    }
    return [found[number] for number in sorted(found)]


def options(line: str) -> str:
    """Return the field "options" of an entry's line, "" if the line has no such field.

    Escapes in the field are not decoded.

    **Example:** ``options("/dev/sda1 / ext4 noatime,discard 0 1") == "noatime,discard"``
    """
    found = _WITH_OPTIONS.fullmatch(line)
    return found[3] if found else ""


def with_options(line: str, options: str) -> str:
    """Return an entry's line with a new field "options". The rest of the line does not change.

    + options: the new field, without blanks. It must not be empty
    """
    found = _WITH_OPTIONS.fullmatch(line)
    if not found:
        raise ValueError(f"the line has fewer than three fields: {line!r}")
    return f"{found[1]}{found[2] or ' '}{options}{found[4]}"


def is_swap(line: str) -> bool:
    """Tell whether getmntent or libmount reads a line of ``/etc/fstab`` as a line for swap."""
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
    """Simplify a target as systemd does: remove repeated slashes and the folders ``.``.

    A target that contains a slash becomes an absolute path. Any other target stays unchanged.
    """
    if "/" not in path:
        return path
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
