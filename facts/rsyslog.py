"""Read rsyslog's configuration.

The rules are in rsyslog.conf(5), at https://www.rsyslog.com/doc/configuration/basic_structure.html,
and in rsyslog's ``grammar/lexer.l`` and ``grammar/rainerscript.c`` (cnfDoInclude):

- a backslash at the end of a line continues the line, even if it is a comment;
- ``#`` begins a comment that ends with the line; a comment ``/* */`` may have several lines;
- an object, such as ``include(...)`` or ``action(...)``, may have several lines; its names are
  case-insensitive, its values are in quotes;
- ``$IncludeConfig PATH`` and ``include(file="PATH")`` include the files that match a shell pattern.
  A name that begins with a dot matches only a pattern that begins with a dot. If a folder matches,
  all files in it and in its folders are included;
- rules apply in their order; a message that reaches ``stop`` reaches no later rule.
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
    """The paths of all files below ``/etc/rsyslog.d``, whether rsyslog includes them or not.

    **Example:** ``host.get_fact(Snippets)``
    """

    @override
    def command(self) -> StringCommand:
        # A link that leads nowhere counts too: rsyslog reports an error for it
        return StringCommand(
            f"for f in {FOLDER}/* {FOLDER}/*/*; do",
            'if [ -f "$f" ] || { [ -L "$f" ] && [ ! -e "$f" ]; }; then printf "%s\\n" "$f"; fi;',
            "done",
        )

    @override
    def parse(self, lines: list[str]) -> tuple[str, ...]:
        for line in lines:
            if not line.startswith(f"{FOLDER}/"):
                raise ValueError(line)
        return tuple(lines)


@dataclass(frozen=True)
class Statement:
    """A statement of a configuration.

    + depth: how many blocks it is in
    + path: what it includes, "" for nothing
    + writes: whether it writes a file on a disk
    """

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
# The pieces of an object: strings, comments, parentheses
_INSIDE = re.compile(rf"({_STRING})|{_COMMENT}|([()])|[^\"'/#()]+|.", re.DOTALL)
# The pieces of another line: its end, a brace, an object that is the rule's action
_LINE = re.compile(
    rf"(?P<string>{_STRING})|(?P<end>\n)|(?P<object>\b(?:action|include)[ \t]*\()|(?P<brace>[{{}}])"
    r"|\w+|.",
    re.IGNORECASE | re.DOTALL,
)
_VALUE = re.compile(r'\b(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
# An action of the legacy syntax that writes a file: a path, or ? and the name of a template for a
# path. A path after ^ would be a program, and one after | a pipe
_WRITES = re.compile(r"(?:^|[\s}])(?:\|\s*\S+|-?(/(?!dev/)|\?)\S)")


def statements(text: str) -> Iterator[Statement]:
    """Yield the statements of a configuration, in their order.

    Text of unknown form is a statement too.
    """
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
        else:
            end, action = _end_of_rule(text, place)
            rule = text[place:end]
            writes = bool((found := _WRITES.search(re.sub(_STRING, "", rule))) and found[1])
            yield Statement(rule.strip(), depth, writes=writes)
            if action:
                place, end = end, _end_of_object(text, action)
                yield _object(text[place:end], depth, rule)
            place = end


def _end_of_line(text: str, place: int) -> int:
    """Return the place of the next line feed, or the end of the text."""
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _end_of_object(text: str, place: int) -> int:
    """Return the place after an object's closing parenthesis.

    + place: after its opening parenthesis
    """
    depth = 1
    for piece in _INSIDE.finditer(text, place):
        if piece[2]:
            depth += 1 if piece[2] == "(" else -1
        if not depth:
            return piece.end()
    return len(text)


def _end_of_rule(text: str, place: int) -> tuple[int, int]:
    """Return the place where a rule ends, or where its action begins if the action is an object.

    Also returns the place after that object's opening parenthesis, 0 if there is no object.
    """
    for piece in _LINE.finditer(text, place):
        if piece["end"] or piece["brace"]:
            return piece.start(), 0
        if piece["object"]:
            return piece.start(), piece.end()
    return len(text), 0


def _object(text: str, depth: int, rule: str = "") -> Statement:
    """Return the statement of an object, or of a rule whose action is the object.

    + text: the object's text
    + depth: how many blocks it is in
    + rule: the rule's text before the object, "" for an object without a rule
    """
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


def includes(pattern: str, path: str) -> bool:
    """Tell whether an included pattern matches a file, or a folder above the file."""
    parts = posixpath.normpath(pattern).split("/")
    names = posixpath.normpath(path).split("/")
    # A pattern that ends with a slash matches only folders
    return len(parts) + pattern.endswith("/") <= len(names) and all(
        fnmatchcase(name, part.replace("[^", "[!"))
        and (not name.startswith(".") or part.startswith("."))
        for part, name in zip_longest(parts, names, fillvalue="*")
    )


def snippets_of(text: str | None, found: Iterable[str]) -> tuple[str, ...]:
    """Return the files in `FOLDER` that a main configuration includes.

    + text: the main configuration's text, ``None`` if it is the distribution's own
    + found: the files in `FOLDER`
    """
    patterns = [f"{FOLDER}/*.conf"]
    if text is not None:
        patterns = [one.path for one in statements(text) if one.path]
    return tuple(path for path in found if any(includes(one, path) for one in patterns))


def main_problem(text: str, path: str = f"{FOLDER}/10-all.conf") -> str | None:
    """Return why a file in ``/etc/rsyslog.d`` does not get all messages first, or ``None``.

    + text: the main configuration's text
    + path: the file

    The main configuration must include the file outside of blocks, and before any rule of its own
    that writes a file. In all releases of Debian and Ubuntu it does.
    """
    before: list[Statement] = []
    for one in statements(text):
        if one.path and includes(one.path, path):
            break
        before.append(one)
    else:
        return f"{MAIN} does not include {FOLDER}/*.conf"
    if one.depth:
        return f"{MAIN} includes {FOLDER} inside a block, which not all messages reach"
    for earlier in before:
        if earlier.writes:
            line = " ".join(earlier.text.split())
            return f"{MAIN} writes a file before it includes {FOLDER}: {line}"
    return None


RSYSLOG_RUNS = Check(
    "rsyslog",
    # `logger` alone is not enough: journald takes messages at /dev/log, even without rsyslog.
    # The check succeeds if rsyslog is missing: its operation tells that
    "! command -v rsyslogd || "
    + limited("systemctl is-active --quiet rsyslog && logger --tag chaos-engine verify"),
    "rsyslog does not run, or no message can be logged; look at: systemctl status rsyslog",
)
