"""Read the files that list apt's package sources.

The rules are in sources.list(5) and apt's ``apt-pkg/sourcelist.cc``, ``apt-pkg/tagfile.cc`` and
``apt-pkg/contrib/strutl.cc``. In ``/etc/apt/sources.list.d`` apt reads a file if its name ends with
``.list`` or ``.sources`` and has only letters, digits and ``_-.:``.

A ``.list`` file has one line ``deb [options] URI suite components`` for each entry:

- ``#`` begins a comment, except between brackets;
- blanks separate words, except in quotes (``"a b"``) and in brackets (``[a b]``);
- quotes are removed from a word, and ``%2e`` stands for a full stop;
- the only way to disable an entry is to make it a comment.

A ``.sources`` file (deb822) has stanzas of fields:

- a line that begins with ``#`` is a comment, even between continued lines;
- a line that begins with a blank continues the field above, even if the line has only blanks;
- an empty line ends a stanza;
- names of fields are case-insensitive; if a name occurs several times, the last field counts;
- a stanza is disabled if ``Enabled`` is ``no``, ``false``, ``without``, ``off``, ``disable`` or 0,
  in upper or lower case; any other value enables the stanza;
- a stanza may have several URIs and types.

If one of the files is malformed, apt reads no sources at all.
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
    """A line of a ``.list`` file, or a stanza of a ``.sources`` file.

    apt fetches each suite from each URI.
    """

    uris: tuple[str, ...]
    suites: tuple[str, ...]


def entries(path: str, text: str) -> Iterator[Entry]:
    """Yield the enabled entries of a file. Yield none if apt ignores a file with this name.

    + path: the file's absolute path, or only its name
    + text: the file's content, which must not be malformed

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
    """Tell whether a value of ``Enabled`` disables a stanza."""
    return value.lower() in _NO or bool(re.fullmatch("[+-]?(0x)?0+", value, re.IGNORECASE))
