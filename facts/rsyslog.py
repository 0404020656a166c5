"""Read rsyslog's configuration.

The syntax is described in rsyslog.conf(5), at
https://www.rsyslog.com/doc/configuration/basic_structure.html, and in rsyslog's source:
``grammar/lexer.l`` and ``grammar/rainerscript.c`` (cnfDoInclude).

- A backslash at the end of a line joins the next line to it, even in a comment.
- ``#`` begins a comment that ends with the line. A comment ``/* */`` may have several lines.
- An object, such as ``include(...)`` or ``action(...)``, may have several lines. Its parameters
  have case-insensitive names, and values in quotes.
- ``$IncludeConfig PATH`` and ``include(file="PATH")`` include the files that match a shell pattern.
  A name that begins with a dot matches only a pattern that begins with a dot. If a pattern matches
  a folder, all files below the folder are included.
- Rules are applied in the order of the text. ``stop`` hides a message from all later rules.
"""

from __future__ import annotations

import posixpath
import re
import shlex
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
    """The paths of all files in ``/etc/rsyslog.d`` and its direct subfolders.

    rsyslog may include only some of these files.

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
    """A statement of an rsyslog configuration.

    + text: the statement's text
    + depth: the number of blocks ``{...}`` around the statement
    + path: the pattern of the files that the statement includes, "" if it includes none
    + writes: whether the statement writes messages to a file outside ``/dev``
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
# The pieces of a rule: the line's end, a brace, the head of an object that is the rule's action
_LINE = re.compile(
    rf"(?P<string>{_STRING})|(?P<end>\n)|(?P<object>\b(?:action|include)[ \t]*\()|(?P<brace>[{{}}])"
    r"|\w+|.",
    re.IGNORECASE | re.DOTALL,
)
_VALUE = re.compile(r'\b(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
# An action of the legacy syntax that writes a file: either a path, or ? and the name of a template
# that makes the path. ^ before a path means a program, and | means a pipe. Both do not match
_WRITES = re.compile(r"(?:^|[\s}])(?:\|\s*\S+|-?(/(?!dev/)|\?)\S)")


def statements(text: str) -> Iterator[Statement]:
    """Yield the statements of an rsyslog configuration, in the order of the text.

    Unrecognized text is yielded as a statement too.
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
    """Return the index of the next line feed, or the text's length if there is none.

    + place: the index at which the search begins
    """
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _end_of_object(text: str, place: int) -> int:
    """Return the index after an object's closing parenthesis.

    + place: the index after the object's opening parenthesis
    """
    depth = 1
    for piece in _INSIDE.finditer(text, place):
        if piece[2]:
            depth += 1 if piece[2] == "(" else -1
        if not depth:
            return piece.end()
    return len(text)


def _end_of_rule(text: str, place: int) -> tuple[int, int]:
    """Find where a rule's own text ends. A rule may end with an object, such as ``action(...)``.

    + place: the index where the rule begins

    Returns two indexes:

    - for a rule with an object: where the object begins, and the index after the object's opening
      parenthesis
    - for a rule without an object: where the rule ends, and 0
    """
    for piece in _LINE.finditer(text, place):
        if piece["end"] or piece["brace"]:
            return piece.start(), 0
        if piece["object"]:
            return piece.start(), piece.end()
    return len(text), 0


def _object(text: str, depth: int, rule: str = "") -> Statement:
    """Join a rule and the object at the rule's end, such as ``action(...)``, to one statement.

    + text: the object's text
    + depth: the number of blocks ``{...}`` around the object
    + rule: the text of the rule before the object, "" for an object without a rule
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
    """Tell whether a pattern in an include statement matches a file or one of its parent folders.

    + pattern: a shell pattern of absolute paths
    + path: the file's absolute path
    """
    parts = posixpath.normpath(pattern).split("/")
    names = posixpath.normpath(path).split("/")
    # A pattern that ends with a slash matches only folders
    return len(parts) + pattern.endswith("/") <= len(names) and all(
        fnmatchcase(name, part.replace("[^", "[!"))
        and (not name.startswith(".") or part.startswith("."))
        for part, name in zip_longest(parts, names, fillvalue="*")
    )


def snippets_of(text: str | None, found: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of the files in ``/etc/rsyslog.d`` that ``/etc/rsyslog.conf`` includes.

    + text: the text of ``/etc/rsyslog.conf``, ``None`` if the file is missing. For ``None``, the
      function assumes the distribution's own file, which includes ``/etc/rsyslog.d/*.conf``
    + found: the paths of all files in ``/etc/rsyslog.d``
    """
    patterns = [f"{FOLDER}/*.conf"]
    if text is not None:
        patterns = [one.path for one in statements(text) if one.path]
    return tuple(path for path in found if any(includes(one, path) for one in patterns))


def main_problem(text: str, path: str = f"{FOLDER}/10-all.conf") -> str | None:
    """Return why the rules of a file in ``/etc/rsyslog.d`` may miss messages, or apply too late.

    + text: the text of ``/etc/rsyslog.conf``
    + path: the path of the file in ``/etc/rsyslog.d``

    ``/etc/rsyslog.conf`` has to include the file outside of blocks. The include has to be above all
    rules in ``/etc/rsyslog.conf`` that write to files. All releases of Debian and Ubuntu ship an
    ``/etc/rsyslog.conf`` that fulfils both conditions. Returns ``None`` if both are fulfilled.
    """
    before: list[Statement] = []
    for one in statements(text):
        if one.path and includes(one.path, path):
            break
        before.append(one)
    else:
        return f"{MAIN} does not include {FOLDER}/*.conf"
    if one.depth:
        return f"{MAIN} includes {FOLDER} inside a block, so some messages may be missed"
    for earlier in before:
        if earlier.writes:
            line = " ".join(earlier.text.split())
            return f"a rule in {MAIN} writes to a file before {FOLDER} is included: {line}"
    return None


class Canary(NodeFact[bool]):
    """Log a message with a token, and tell whether the logging worked.

    `verify` and `report` then look for the token on the log server.

    + token: the word that the message contains

    **Example:** ``host.get_fact(Canary, token="chaos-engine-1f")``
    """

    @override
    def command(self, token: str) -> StringCommand:
        return StringCommand(
            limited(f"logger --tag chaos-engine -- {shlex.quote(f'canary {token}')}"),
            "&& echo logged || true",
        )

    @override
    def parse(self, lines: list[str]) -> bool:
        return lines == ["logged"]


RSYSLOG_RUNS = Check(
    "rsyslog",
    # `logger` also succeeds if rsyslog does not run, because journald reads /dev/log. The check
    # succeeds if rsyslog is not installed, because the operation reports a missing rsyslog
    "! command -v rsyslogd || "
    + limited("systemctl is-active --quiet rsyslog && logger --tag chaos-engine verify"),
    "rsyslog does not run, or no message can be logged; look at: systemctl status rsyslog",
)
