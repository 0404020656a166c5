"""rsyslog's configuration as it is on the node.

Its rules (rsyslog.conf(5); https://www.rsyslog.com/doc/configuration/basic_structure.html; its
``grammar/lexer.l`` and, for what is taken in, cnfDoInclude in ``grammar/rainerscript.c``):

- a line goes on in the next one after a backslash at its end, also a comment;
- ``#`` begins a comment that ends with the line, ``/* */`` one that may be longer;
- an object, ``include(...)`` or ``action(...)``, may be on several lines, its names in any case and
  its values in quotes;
- ``$IncludeConfig PATH`` and ``include(file="PATH")`` take in the files that a shell's pattern
  stands for, those that begin with a dot only if it does; of a folder, given or found, all of them,
  and of the folders in it too;
- rules apply in their order; what a ``stop`` has taken, no later one sees.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest

from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts.health import Check, limited
from chaos_engine.facts.observe import NodeFact

FOLDER = "/etc/rsyslog.d"
MAIN = "/etc/rsyslog.conf"


class Snippets(NodeFact[tuple[str, ...]]):
    """Paths of all files below ``/etc/rsyslog.d``, also of those that rsyslog does not take in.

    **Example:** ``host.get_fact(Snippets)``
    """

    @override
    def command(self) -> StringCommand:
        # Links that lead nowhere too: rsyslog complains of them
        return StringCommand(
            f"for f in {FOLDER}/* {FOLDER}/*/*; do",
            'if [ -f "$f" ] || { [ -L "$f" ] && [ ! -e "$f" ]; }; then printf "%s\\n" "$f"; fi;',
            "done",
        )

    @staticmethod
    @override
    def default() -> tuple[str, ...]:
        return ()

    @override
    def parse(self, lines: list[str]) -> tuple[str, ...]:
        for line in lines:
            if not line.startswith(f"{FOLDER}/"):
                raise ValueError(line)
        return tuple(lines)


@dataclass(frozen=True)
class Statement:
    """One statement of a configuration: its `text`, how many blocks are open around it, the `path`
    that it takes in, "" for none, and whether it `writes` a file of a disk."""

    text: str
    depth: int
    path: str = ""
    writes: bool = False


_STRING = r""""(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?"""
_COMMENT = r"/\*.*?(?:\*/|\Z)|#[^\n]*"
_SPACE = re.compile(rf"(?:\s|{_COMMENT})+", re.DOTALL)
_LEGACY = re.compile(r"\$IncludeConfig[ \t]+([^\s#]+)", re.IGNORECASE)
_OBJECT = re.compile(
    r"(include|action|module|input|global|template|ruleset|parser|main_queue|lookup_table|dyn_stats"
    r"|timezone|property|constant)\s*\(",
    re.IGNORECASE,
)
# What stands in an object: strings, comments, its end
_INSIDE = re.compile(rf"({_STRING})|{_COMMENT}|([()])|[^\"'/#()]+|.", re.DOTALL)
# What stands in another line: its end, a block's, an object that is its action
_LINE = re.compile(
    rf"(?P<string>{_STRING})|(?P<end>\n)|(?P<object>\b(?:action|include)[ \t]*\()|(?P<brace>[{{}}])"
    r"|\w+|.",
    re.IGNORECASE | re.DOTALL,
)
_VALUE = re.compile(r'\b(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
# A path or a template for one, as a legacy action: not behind ^, which runs it, nor | for a pipe
_WRITES = re.compile(r"(?:^|[\s}])(?:\|\s*\S+|-?(/(?!dev/)|\?)\S)")


def statements(text: str) -> Iterator[Statement]:
    """The statements of a configuration, in their order; what makes no sense is one, too."""
    text = text.replace("\\\n", "")
    place, depth = 0, 0
    while place < len(text):
        if space := _SPACE.match(text, place):
            place = space.end()
        elif text[place] in "{}":
            depth += 1 if text[place] == "{" else -1
            place += 1
        elif text[place] == "$":
            end = _end_of_line(text, place)
            legacy = _LEGACY.match(text, place, end)
            yield Statement(text[place:end].strip(), depth, legacy[1] if legacy else "")
            place = end
        elif head := _OBJECT.match(text, place):
            end = _end_of_object(text, head.end())
            yield _object(text[place:end], depth)
            place = end
        elif place < len(text):
            end, action = _end_of_rule(text, place)
            rule = text[place:end]
            writes = bool((found := _WRITES.search(re.sub(_STRING, "", rule))) and found[1])
            yield Statement(rule.strip(), depth, writes=writes)
            if action:
                place, end = end, _end_of_object(text, action)
                yield _object(text[place:end], depth, rule)
            place = end


def _end_of_line(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _end_of_object(text: str, place: int) -> int:
    """The place behind the parenthesis that closes one which was opened before `place`."""
    opened = 1
    for piece in _INSIDE.finditer(text, place):
        if piece[2]:
            opened += 1 if piece[2] == "(" else -1
        if not opened:
            return piece.end()
    return len(text)


def _end_of_rule(text: str, place: int) -> tuple[int, int]:
    """Where a rule's line ends, or the object begins that is its action, and what the object's
    inner part begins at, 0 if there is none."""
    for piece in _LINE.finditer(text, place):
        if piece["end"] or piece["brace"]:
            return piece.start(), 0
        if piece["object"]:
            return piece.start(), piece.end()
    return len(text), 0


def _object(text: str, depth: int, rule: str = "") -> Statement:
    inside = re.sub(
        rf"({_STRING})|{_COMMENT}", lambda piece: piece[1] or " ", text, flags=re.DOTALL
    )
    values = {name.lower(): value for name, value in _VALUE.findall(inside)}
    kind = text.partition("(")[0].strip().lower()
    file = values.get("file", "")
    writes = kind == "action" and values.get("type", "").lower() == "omfile"
    return Statement(
        f"{rule}{text}".strip(),
        depth,
        file if kind == "include" else "",
        writes and not file.startswith("/dev/"),
    )


def takes_in(pattern: str, path: str) -> bool:
    """Whether an included pattern stands for a file: as itself, or by a folder that it is in."""
    parts = posixpath.normpath(pattern).split("/")
    names = posixpath.normpath(path).split("/")
    # only a folder may have a slash behind it
    return len(parts) + pattern.endswith("/") <= len(names) and all(
        fnmatchcase(name, part.replace("[^", "[!"))
        and (not name.startswith(".") or part.startswith("."))
        for part, name in zip_longest(parts, names, fillvalue="*")
    )


def snippets_of(text: str | None, found: Iterable[str]) -> tuple[str, ...]:
    """Those of the files in `FOLDER` that a main configuration takes in.

    + text: of the main configuration, ``None`` for what distributions bring
    """
    patterns = [f"{FOLDER}/*.conf"]
    if text is not None:
        patterns = [one.path for one in statements(text) if one.path]
    return tuple(path for path in found if any(takes_in(one, path) for one in patterns))


def main_problem(text: str, path: str = f"{FOLDER}/10-all.conf") -> str | None:
    """Why a file in ``/etc/rsyslog.d`` cannot decide all, by the main configuration's `text`.

    It has to be taken in, not in a block, and before any rule of the main configuration's own that
    writes a file. All of Debian's and Ubuntu's releases do that.
    """
    before: list[Statement] = []
    for one in statements(text):
        if one.path and takes_in(one.path, path):
            break
        before.append(one)
    else:
        return f"{MAIN} does not take in {FOLDER}/*.conf"
    if one.depth:
        return f"{MAIN} takes in {FOLDER} inside a block, which not all messages reach"
    for earlier in before:
        if earlier.writes:
            line = " ".join(earlier.text.split())
            return f"{MAIN} writes a file before it takes in {FOLDER}: {line}"
    return None


RUNS = Check(
    "rsyslog",
    # /dev/log is journald's: that a message is taken says nothing of rsyslog.
    # Where it is not installed and should be, its operation says so
    "! command -v rsyslogd || "
    + limited("systemctl is-active --quiet rsyslog && logger --tag chaos-engine verify"),
    "rsyslog does not run, or no message can be logged; look at: systemctl status rsyslog",
)
