"""Read configuration files by the rules of systemd's programs.

These rules tell which files count (journald.conf(5), sysctl.d(5), "Configuration directories and
precedence"; systemd's ``src/basic/conf-files.c``):

- files whose name ends with the suffix and does not begin with a dot, in ``/etc``, ``/run``,
  ``/usr/local/lib`` and ``/usr/lib``;
- of files with the same name, only the one in the first of these folders, even if it sets less;
- an empty file, or a link to ``/dev/null``, masks the others of its name and sets nothing;
- a link that leads nowhere, and a folder, are skipped (by systemd 262; with 252 and 257 they mask
  others of their name, as seen with ``systemd-analyze cat-config``);
- files apply in the order of their names, byte by byte, whichever folder they are in: the last one
  wins.

These rules tell what a file sets (systemd.syntax(7), ``src/shared/conf-parser.c``):

- a line feed, a carriage return or a NUL ends a line; blanks around a line, a name and a value are
  ignored;
- a line whose first character is ``#`` or ``;`` is a comment, even between continued lines;
- a line that ends with an odd number of backslashes is continued by the next line that is not a
  comment; the last backslash becomes a blank;
- the byte order mark of the first line that has one is ignored;
- a setting belongs to the ``[Section]`` above it. It is ignored before the first section, and in a
  section that the program does not know. A line without ``=`` is ignored too;
- a line that is not UTF-8, or a header without its ``]``, ends the reading of its file.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

CONFIG_FOLDERS = ("/etc", "/run", "/usr/local/lib", "/usr/lib")
"""The folders where systemd's programs look for configuration, the strongest first."""

_LINE_END = re.compile(r"\n\r?\0?|\r\n?\0?|\0")
BLANKS = " \t\n\r"

TRUE = frozenset(("1", "yes", "y", "true", "t", "on"))
FALSE = frozenset(("0", "no", "n", "false", "f", "off"))


class Setting(NamedTuple):
    """One ``name=value`` of a file; `section` is "" before the first header."""

    section: str
    name: str
    value: str


def folders(name: str) -> tuple[str, ...]:
    """Return the paths of a folder in each of `CONFIG_FOLDERS`, the strongest first.

    **Example:** ``folders("sysctl.d")[0] == "/etc/sysctl.d"``
    """
    return tuple(f"{top}/{name}" for top in CONFIG_FOLDERS)


def files_in(folders: Iterable[str], suffix: str = ".conf") -> tuple[str, ...]:
    """Return the patterns of the files in folders, for `chaos_engine.facts.files.Texts`.

    + suffix: how the files' names end
    """
    return tuple(f"{folder}/*{suffix}" for folder in folders)


def texts_of(found: Mapping[str, bytes | None]) -> dict[str, str]:
    """Return the text of each file by its path, "" for a link to /dev/null.

    To systemd, such a link masks the files of its name in weaker folders. Bytes that are not UTF-8
    are escaped as by ``os.fsdecode``.

    + found: the value of `chaos_engine.facts.files.Texts`
    """
    return {path: os.fsdecode(text or b"") for path, text in found.items()}


def effective(found: Mapping[str, str], folders: Sequence[str]) -> list[tuple[str, str]]:
    """Return the path and the text of each file that counts, in the order in which they apply.

    + found: the text of each file in all folders, by its path
    + folders: the strongest first
    """
    chosen: dict[str, str] = {}
    for folder in folders:
        for path in found:
            if posixpath.dirname(path) == folder:
                chosen.setdefault(posixpath.basename(path), path)
    return [(chosen[name], found[chosen[name]]) for name in sorted(chosen, key=os.fsencode)]


def settings(text: str) -> Iterator[Setting]:
    """Yield the settings of a file, in their order.

    + text: with bytes that are not UTF-8 escaped as by ``os.fsdecode``
    """
    section = ""
    for line in logical_lines(text):
        if not is_utf8(line) or (line.startswith("[") and not line.endswith("]")):
            return
        if line.startswith("["):
            section = line[1:-1]
            continue
        name, equals, value = line.partition("=")
        if equals:
            yield Setting(section, name.strip(BLANKS), value.strip(BLANKS))


def physical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text without the blanks around them. A backslash continues no line."""
    return (line.strip(BLANKS) for line in _LINE_END.split(text))


def logical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, without comments and the blanks around lines.

    A continued line and its continuations are one line.
    """
    continued: list[str] = []
    had_mark = False
    for line in _LINE_END.split(text):
        if line.lstrip(BLANKS).startswith(("#", ";")):
            continue
        if not had_mark and line.startswith("\ufeff"):
            line, had_mark = line[1:], True
        # An odd number: the last backslash is not escaped itself, and escapes the end of the line
        if (len(line) - len(line.rstrip("\\"))) % 2:
            continued.append(f"{line[:-1]} ")
            continue
        yield "".join([*continued, line]).strip(BLANKS)
        continued = []
    yield "".join(continued).strip(BLANKS)


def is_utf8(text: str) -> bool:
    """Tell whether a text came from valid UTF-8.

    ``os.fsdecode`` turns every other byte into a surrogate.
    """
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def boolean(value: str) -> bool | None:
    """Return the boolean that systemd reads a text as, ``None`` if it is no boolean to systemd.

    The words are those of systemd's ``src/basic/parse-util.c``.
    """
    word = value.lower()
    return True if word in TRUE else False if word in FALSE else None
