"""Where apt fetches packages from: its files of sources, as apt reads them.

The rules of sources.list(5) and apt's ``apt-pkg/sourcelist.cc``, ``apt-pkg/tagfile.cc`` and
``apt-pkg/contrib/strutl.cc``. Of ``/etc/apt/sources.list.d`` the files count whose names end with
``.list`` or ``.sources`` and have no other characters than letters, digits and ``_-.:``.

One line an entry, ``deb [options] URI suite components`` (``.list``):

- ``#`` begins a comment anywhere but between brackets;
- words are separated by blanks, of which ``"a b"`` and ``[a b]`` have none; quotes are no part of a
  word, and ``%2e`` is a full stop;
- there is no way to switch an entry off but a comment.

Stanzas of fields (deb822, ``.sources``):

- a line that begins with ``#`` is a comment, also among continued lines; one that begins with a
  blank continues the field above it, also if there is nothing but blanks on it;
- a line that is empty ends a stanza;
- names of fields are the same in upper and lower case, and of several of one name the last counts;
- ``Enabled`` is no for ``no``, ``false``, ``without``, ``off``, ``disable`` and 0, in any case, and
  yes for all else;
- a stanza may have several URIs and types.

apt takes no source at all if one file is malformed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

_NAME = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]*")
_WORD = r'((?:"[^"]*"|\[[^\]]*\]|[^\s"\[#])+)'
_ENTRY = re.compile(rf"\s*(?:deb|deb-src)\s+(?:\[[^\]]*\]\s*)?{_WORD}\s+{_WORD}")
_NO = frozenset(("no", "false", "without", "off", "disable"))


class Entry(NamedTuple):
    """A line or a stanza: each of its suites is fetched from each of its URIs."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]


def entries(path: str, text: str) -> Iterator[Entry]:
    """The entries of a file that are not switched off; none if apt does not read it.

    + path: absolute, or a name alone
    + text: of a file that apt takes

    **Example:** ``list(entries("a.list", "deb http://deb.debian.org/debian trixie main"))``
    """
    name = posixpath.basename(path)
    if _NAME.fullmatch(name):
        yield from _stanzas(text) if name.endswith(".sources") else _lines(text)


def _lines(text: str) -> Iterator[Entry]:
    for line in text.split("\n"):
        if entry := _ENTRY.match(line):
            uri, suite = (unquote(word.replace('"', "")) for word in entry.groups())
            yield Entry((uri,), (suite,))


def _stanzas(text: str) -> Iterator[Entry]:
    lines = [line for line in text.split("\n") if not line.startswith("#")]
    for stanza in re.split(r"\n\r?(?:\n\r?)+", "\n".join(lines)):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.split("\n"):
            if line[:1] in (" ", "\t"):
                fields[last] = f"{fields.get(last, '')} {line}"
            else:
                last, _, value = line.partition(":")
                last = last.lower()
                fields[last] = value
        uris, suites = (tuple(fields.get(name, "").split()) for name in ("uris", "suites"))
        if uris and not _is_no(fields.get("enabled", "").strip()):
            yield Entry(uris, suites)


def _is_no(value: str) -> bool:
    return value.lower() in _NO or bool(re.fullmatch("[+-]?(0x)?0+", value, re.IGNORECASE))
