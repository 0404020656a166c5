"""Configuration files as systemd's programs read them: which count, and what they say.

Which count (journald.conf(5), sysctl.d(5), "Configuration directories and precedence"; systemd's
``src/basic/conf-files.c``):

- files whose name ends with the suffix and does not begin with a dot, in ``/etc``, ``/run``,
  ``/usr/local/lib`` and ``/usr/lib``;
- of files of one name only that of the first of these folders, also where it says less;
- one that is empty, or a link to ``/dev/null``, hides the others and says nothing;
- a link that leads nowhere, and a folder, are passed over (by systemd 262; 252 and 257 have
  them hide others of their name, as seen with ``systemd-analyze cat-config``);
- in the order of their names, byte by byte, whichever folder they are in: the last one wins.

What they say (systemd.syntax(7), ``src/shared/conf-parser.c``):

- lines end with a line feed, a carriage return or a NUL; blanks around a line, a name and a value
  count for nothing;
- a line whose first character is ``#`` or ``;`` is a comment, also among continued lines;
- a line that ends with an odd number of backslashes goes on in the next one that is no comment;
  the backslash is then a blank;
- the byte order mark of the first line that has one is no part of it;
- a setting belongs to the ``[Section]`` above it; before the first one, and in one that the program
  does not know, it is ignored, as is a line without ``=``;
- of a file nothing is read from a line on that is not UTF-8, or is a header without its ``]``.
"""

from __future__ import annotations

import base64
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pyinfra.api.command import QuoteString, StringCommand

TOPS = ("/etc", "/run", "/usr/local/lib", "/usr/lib")
"""Where systemd's programs look for configuration, what counts most first."""

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
    """The folders of drop-ins for a file: ``systemd/journald.conf.d``, ``sysctl.d``."""
    return tuple(f"{top}/{name}" for top in TOPS)


def listing(folders: Iterable[str], suffix: str = ".conf") -> str:
    """The shell command that prints all files of these folders, in one line of base64."""
    globs = []
    for folder in folders:
        quoted = StringCommand(QuoteString(f"{folder}/")).get_raw_value()
        globs.append(f"{quoted}*{suffix}")
    # One process for all files that there are; the names before, for one may be empty
    return (
        "{ set --; "
        f"for f in {' '.join(globs)}; do "
        'if [ -f "$f" ]; then echo "file $f"; set -- "$@" "$f"; '
        'elif [ "$f" -ef /dev/null ]; then echo "file $f"; fi; done; echo; '
        "[ $# = 0 ] || grep -aH '' -- \"$@\"; } | base64 -w0"
    )


def parse_listing(encoded: str) -> dict[str, str]:
    """Read the line of `listing`: the text of each file by its path, "" of one that masks."""
    names, _, rest = base64.b64decode(encoded, validate=True).partition(b"\n\n")
    if not names:
        rest = b""
    paths = [line.removeprefix(b"file ") for line in names.split(b"\n") if line]
    texts: dict[bytes, list[bytes]] = {path: [] for path in paths}
    order, at = list(texts), 0
    for line in rest.split(b"\n")[:-1]:
        # grep goes through the files in their order
        while not line.startswith(order[at] + b":"):
            at += 1
            if at == len(order):
                raise ValueError(line)
        texts[order[at]].append(line[len(order[at]) + 1 :])
    return {os.fsdecode(path): os.fsdecode(b"\n".join(lines)) for path, lines in texts.items()}


def effective(found: Mapping[str, str], folders: Sequence[str]) -> list[tuple[str, str]]:
    """The files that count, as pairs of path and text, in the order in which they apply.

    + found: text by path, of all folders
    + folders: what counts most first
    """
    chosen: dict[str, str] = {}
    for folder in folders:
        for path in found:
            if posixpath.dirname(path) == folder:
                chosen.setdefault(posixpath.basename(path), path)
    return [(chosen[name], found[chosen[name]]) for name in sorted(chosen, key=os.fsencode)]


def settings(text: str) -> Iterator[Setting]:
    """The settings of a file, in their order.

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
    """Lines without the blanks around them, for programs that do not continue them."""
    return (line.strip(BLANKS) for line in _LINE_END.split(text))


def logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, those that are continued joined, without the blanks around them."""
    begun: list[str] = []
    marked = False
    for line in _LINE_END.split(text):
        if line.lstrip(BLANKS).startswith(("#", ";")):
            continue
        if not marked and line.startswith("\ufeff"):
            line, marked = line[1:], True
        # what a backslash escapes is of no matter here, but for the end of the line
        if (len(line) - len(line.rstrip("\\"))) % 2:
            begun.append(f"{line[:-1]} ")
            continue
        yield "".join([*begun, line]).strip(BLANKS)
        begun = []
    yield "".join(begun).strip(BLANKS)


def is_utf8(text: str) -> bool:
    """Whether the bytes behind a text are UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def boolean(value: str) -> bool | None:
    """What systemd takes a text for; ``None`` if for neither (``src/basic/parse-util.c``)."""
    word = value.lower()
    return True if word in TRUE else False if word in FALSE else None
