"""Read configuration files by the rules of systemd's programs.

These rules tell which files count (journald.conf(5), sysctl.d(5), "Configuration directories and
precedence"; systemd's ``src/basic/conf-files.c``):

- A file counts if its name ends with the suffix, such as ``.conf``, and does not begin with a dot.
  The folders are in ``/etc``, ``/run``, ``/usr/local/lib`` and ``/usr/lib``.
- If several folders have a file of the same name, only the file in the first of these folders
  counts. The other files of this name set nothing.
- An empty file, or a link to ``/dev/null``, sets nothing and masks the other files of its name.
- A folder, or a link that leads nowhere, may have the suffix too. systemd 262 skips it. In systemd
  252 and 257, it masks the other files of its name (found with ``systemd-analyze cat-config``).
- Files apply in the order of their names, compared byte by byte, whichever folder they are in. The
  last setting wins.

These rules tell what a file sets (systemd.syntax(7), ``src/shared/conf-parser.c``):

- A line feed, a carriage return or a NUL ends a line. Blanks around a line, a name and a value are
  ignored.
- A line whose first character is ``#`` or ``;`` is a comment, even between continued lines.
- A line that ends with an odd number of backslashes is continued by the next line that is not a
  comment. A blank replaces the last backslash.
- The first byte order mark at the beginning of a line is ignored.
- A setting belongs to the ``[Section]`` above it. Three kinds of lines are ignored: settings above
  the first section, settings in sections that the program does not know, and lines without ``=``.
- A program stops reading a file at a line that is not UTF-8, or at a header without ``]``.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

CONFIG_FOLDERS = ("/etc", "/run", "/usr/local/lib", "/usr/lib")
"""The folders where systemd's programs look for configuration, highest precedence first."""

_LINE_END = re.compile(r"\n\r?\0?|\r\n?\0?|\0")
BLANKS = " \t\n\r"

TRUE = frozenset(("1", "yes", "y", "true", "t", "on"))
FALSE = frozenset(("0", "no", "n", "false", "f", "off"))


class Setting(NamedTuple):
    """A setting ``name=value`` in a file. Above the first ``[Section]``, `section` is ""."""

    section: str
    name: str
    value: str


def folders(name: str) -> tuple[str, ...]:
    """Return the path of a folder in each of `CONFIG_FOLDERS`, highest precedence first.

    **Example:** ``folders("sysctl.d")[0] == "/etc/sysctl.d"``
    """
    return tuple(f"{top}/{name}" for top in CONFIG_FOLDERS)


def unit_folders(unit: str) -> tuple[str, ...]:
    """Return the folders of a unit's drop-ins, highest precedence first (systemd.unit(5)).

    Some folders are for several units: ``apt-.timer.d`` is for all timers whose names begin with
    ``apt-``, and ``timer.d`` is for all timers.

    **Example:** ``unit_folders("apt-daily.timer")`` has ``/etc/systemd/system/apt-daily.timer.d``,
    ``/etc/systemd/system/apt-.timer.d`` and ``/etc/systemd/system/timer.d``
    """
    name, _, kind = unit.rpartition(".")
    words = name.split("-")
    alike = (f"{'-'.join(words[:count])}-.{kind}" for count in range(len(words) - 1, 0, -1))
    names = (unit, *alike)
    named = (f"{top}/systemd/system/{one}.d" for top in CONFIG_FOLDERS for one in names)
    return (*named, *folders(f"systemd/system/{kind}.d"))


def files_in(folders: Iterable[str], suffix: str = ".conf") -> tuple[str, ...]:
    """Return a pattern for each folder, which matches the folder's files with a suffix.

    The fact `chaos_engine.facts.files.Texts` takes such patterns.

    + folders: paths of the folders
    + suffix: the end of the files' names
    """
    return tuple(f"{folder}/*{suffix}" for folder in folders)


def texts_of(found: Mapping[str, bytes | None]) -> dict[str, str]:
    """Return the text of each file, by the file's path.

    + found: the value of `chaos_engine.facts.files.Texts`

    Bytes that are not UTF-8 are escaped as by ``os.fsdecode``. A link to ``/dev/null`` has the text
    "". systemd ignores files of the link's name in folders of lower precedence.
    """
    return {path: os.fsdecode(text or b"") for path, text in found.items()}


def effective(found: Mapping[str, str], folders: Sequence[str]) -> list[tuple[str, str]]:
    """Return path and text of each file that systemd uses, in the order in which the files apply.

    + found: the text of each file in all folders, by the file's path
    + folders: paths of folders, highest precedence first
    """
    chosen: dict[str, str] = {}
    for folder in folders:
        for path in found:
            if posixpath.dirname(path) == folder:
                chosen.setdefault(posixpath.basename(path), path)
    return [(chosen[name], found[chosen[name]]) for name in sorted(chosen, key=os.fsencode)]


def settings(text: str) -> Iterator[Setting]:
    """Yield the settings in a file's text, in the order of the text.

    + text: the file's text, with bytes that are not UTF-8 escaped as by ``os.fsdecode``
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
    """Yield the lines of a text without surrounding blanks. A backslash does not join lines."""
    return (line.strip(BLANKS) for line in _LINE_END.split(text))


def logical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, without comments and surrounding blanks.

    A line that ends with a backslash is joined with the next line.
    """
    continued: list[str] = []
    had_mark = False
    for line in _LINE_END.split(text):
        if line.lstrip(BLANKS).startswith(("#", ";")):
            continue
        if not had_mark and line.startswith("\ufeff"):
            line, had_mark = line[1:], True
        # With an odd number of backslashes, the last one is not escaped, so it continues the line
        if (len(line) - len(line.rstrip("\\"))) % 2:
            continued.append(f"{line[:-1]} ")
            continue
        yield "".join([*continued, line]).strip(BLANKS)
        continued = []
    yield "".join(continued).strip(BLANKS)


def is_utf8(text: str) -> bool:
    """Tell whether ``os.fsdecode`` made a text from valid UTF-8.

    ``os.fsdecode`` turns each byte that is not UTF-8 into a surrogate.
    """
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def boolean(value: str) -> bool | None:
    """Return the boolean that systemd reads from a text, ``None`` if the text is not a boolean.

    The accepted words are those of systemd's ``src/basic/parse-util.c``.
    """
    word = value.lower()
    return True if word in TRUE else False if word in FALSE else None
