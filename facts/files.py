"""Read the state of files: type, mode, owner and checksum. `Texts` reads their content."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal
from urllib.parse import unquote, unquote_to_bytes

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import ComposedFact, Read, SeveralFact, Value, YesOrNo
from chaos_engine.facts.text import as_tuple, grouped

Kind = Literal["file", "directory", "link", "other"]
_KINDS: dict[str, Kind] = {"f": "file", "d": "directory", "l": "link"}

Fixed = Literal["", "immutable", "append-only", "unwritable", "mounted"]
"""Why root cannot replace a path by a rename; "" if root can.

- "immutable", "append-only": the path has this flag of chattr(1)
- "mounted": something is mounted on the path
- "unwritable": the file system is mounted read-only. On a node without lsattr, an immutable path
  also counts as unwritable
"""

PRINT_STATES = r"""
find "$@" -maxdepth 0 \( -writable -printf w -o -printf - \) -printf "%y%Y %m %u %g %s %p\n" \
  \( -type f -exec sha256sum -- {} + , \( -type f -o -type d \) -exec lsattr -d -- {} + \) \
  2>/dev/null
awk "BEGIN {
  while (--ARGC) asked[ARGV[ARGC]]
  while ((getline < \"/proc/self/mountinfo\") > 0) if (\$5 in asked) print \"mounted\", \$5
}" "$@"
"""
"""Shell commands that print the state of the paths in ``"$@"``, for `parse_files`.

They print no line for a path that does not exist. They contain no single quotes, so a script can
put them into single quotes.

``-writable`` of find calls access(2). For root, access(2) fails only if the path is immutable or
its file system is mounted read-only. It succeeds for an append-only path. Only lsattr shows the
flag append-only, and a node may lack lsattr (e2fsprogs).
"""

_STATE = re.compile(r"([w-])(.)(.) (\d+) (\S+) (\S+) (\d+) (.*)", re.DOTALL)
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.*)", re.DOTALL)
_FLAGS = re.compile(r"([-A-Za-z]{12,}) (/.*)", re.DOTALL)


@dataclass(frozen=True)
class FileState(Value):
    """The state of a path.

    + kind: the kind of the path itself; a link is not followed
    + leads_to: the kind of a link's target; ``None`` if the path is no link, or the target does not
      exist
    + mode: without leading zeros, such as "644"
    + size: in bytes
    + sha256: the checksum of a regular file's content, ``None`` for another kind
    + fixed: why root cannot replace the path; "" if root can
    """

    kind: Kind
    mode: str
    owner: str
    group: str
    size: int
    sha256: str | None = None
    leads_to: Kind | None = None
    fixed: Fixed = ""


class Files(SeveralFact[FileState]):
    """The state of each path that exists. The value is a dictionary from path to state.

    + paths: absolute paths, without newlines

    **Example:** ``host.get_fact(Files, paths=("/etc/docker/daemon.json",))``
    """

    argument = "paths"

    @override
    def command(self, paths: tuple[str, ...] | str) -> StringCommand:
        quoted = [QuoteString(path) for path in as_tuple(paths)]
        # The command ends with `true`, because a missing path is no error. `find` gives sha256sum
        # only paths that exist, because sha256sum of uutils 0.0.30 stops at a missing path
        return StringCommand("set --", *quoted, f"{PRINT_STATES}true")

    @override
    def parse(self, lines: list[str]) -> dict[str, FileState]:
        return parse_files(lines)


def parse_files(lines: Iterable[str]) -> dict[str, FileState]:
    """Return a dictionary from each path to its state.

    + lines: the output of `PRINT_STATES`: lines of find, sha256sum, lsattr and awk, in any order

    Raises ``ValueError`` for a line of unknown form.
    """
    found: dict[str, tuple[str, ...]] = {}
    sums: dict[str, str] = {}
    flags: dict[str, Fixed] = {}
    mounted: set[str] = set()
    for line in lines:
        if match := _STATE.fullmatch(line):
            *properties, path = match.groups()
            found[path] = tuple(properties)
        elif match := _SUM.fullmatch(line):
            sums[match[2]] = match[1]
        elif line.startswith("mounted "):
            mounted.add(line[8:])
        elif match := _FLAGS.fullmatch(line):
            if "i" in match[1] or "a" in match[1]:
                flags[match[2]] = "immutable" if "i" in match[1] else "append-only"
        else:
            raise ValueError(line)
    states: dict[str, FileState] = {}
    for path, (writable, letter, target, mode, owner, group, size) in found.items():
        kind = _KINDS.get(letter, "other")
        leads_to = _KINDS.get(target, None if target in "NL?" else "other")
        fixed = flags.get(path, "")
        # For a link, find's -writable tells about the link's target
        if not fixed and writable == "-" and (kind != "link" or leads_to == "directory"):
            fixed = "unwritable"
        if path in mounted and kind != "directory":  # the files in a mounted folder can be replaced
            fixed = "mounted"
        sha256 = sums.get(path) if kind == "file" else None
        leads_to = leads_to if kind == "link" else None
        states[path] = FileState(kind, mode, owner, group, int(size), sha256, leads_to, fixed)
    return states


class Present(YesOrNo):
    """Whether a path exists. A link whose target does not exist counts as not existing.

    The fact `Files` takes longer for a large file, because it computes a checksum.

    + path: absolute path

    **Example:** ``host.get_fact(Present, path="/usr/bin/docker")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        return StringCommand("if test -e", QuoteString(path), "; then echo yes; else echo no; fi")


# Each argument is a path, or "~" followed by a regular expression of perl. For the paths after a
# regular expression, the script prints only the text that matches it. All bytes of a text that are
# not printable ASCII are escaped as in a URL. A file in /proc or /sys counts as missing if the
# kernel does not let root read it
_PRINT_TEXTS = r"""
$only = qr/.+/s; @null = stat "/dev/null"; $/ = undef;
for (@ARGV) {
  if (s/^~//) { $only = qr/$_/m; next }
  if (-f) {
    $read = open($file, "<", $_) && defined($text = <$file>);
    next if !$read && m{^/(?:proc|sys)/};
    die "$_: $!\n" if !$read;
    $text = join "", $text =~ /$only/g;
  } elsif (-c _) {
    @found = stat _; next if "@found[0, 1]" ne "@null[0, 1]";
    $text = undef;
  } else { next }
  for ($_, $text) { s/([^ -\$&-~])/sprintf "%%%02x", ord $1/ge }
  s/ /%20/g;
  print defined $text ? "text $_ $text\n" : "null $_\n";
}
"""

Pattern = str | tuple[str, str]


class Texts(SeveralFact[bytes | None]):
    """The content of each regular file that matches a pattern, by path.

    A link to /dev/null has the value ``None``. Folders, FIFOs and other special files have no
    entry, because a read of a FIFO might not end. One process on the node reads the files for all
    facts of a batch.

    + patterns: absolute paths, or pairs of an absolute path and a regular expression of perl. In a
      path, ``*`` stands for any characters within a name, as in the shell. For a pair, the value
      has only the text that the regular expression matches. If another fact needs the whole text of
      the file, both facts get the whole text. The regular expression must not have capturing groups

    **Example:** ``host.get_fact(Texts, patterns=("/etc/fstab", ("/proc/meminfo", "^MemTotal.*")))``
    """

    argument = "patterns"

    @override
    def command(self, patterns: tuple[Pattern, ...]) -> StringCommand:
        everything = [expanding(one) for one in patterns if isinstance(one, str)]
        words: list[StringCommand | QuoteString | str] = []
        for path, only in (one for one in patterns if not isinstance(one, str)):
            words += [QuoteString(f"~{only}"), expanding(path)]
        # If a file's text is printed twice, the last one counts. So whole texts are printed last
        words += ["'~(?s).+'", *everything] if words and everything else everything
        return StringCommand("LC_ALL=C perl -e", QuoteString(_PRINT_TEXTS), "--", *words)

    @override
    def parse(self, lines: list[str]) -> dict[str, bytes | None]:
        """Parse the lines ``text PATH TEXT`` and ``null PATH``."""
        found = grouped(lines, "text null")
        texts = (line.split(" ", 1) for line in found["text"])
        return {unquote(path): None for path in found["null"]} | {
            unquote(path): unquote_to_bytes(text) for path, text in texts
        }

    @override
    @classmethod
    def share(cls, value: dict[str, bytes | None], names: Iterable[str]) -> dict[str, bytes | None]:
        own: dict[str, bytes | None] = {}
        for name in names:
            if "*" in name:
                own |= {path: text for path, text in value.items() if _matcher(name)(path)}
            elif name in value:
                own[name] = value[name]
        return own


def expanding(pattern: str) -> StringCommand:
    """Quote a pattern for the shell. In the result the shell expands only ``*``.

    + pattern: an absolute path; ``*`` stands for any characters within a name
    """
    quoted: list[str | QuoteString] = [QuoteString(piece) for piece in pattern.split("*")]
    words = [word for piece in quoted for word in ("*", piece)][1:]
    return StringCommand(*words, _separator="")


@cache
def _matcher(pattern: str) -> Callable[[str], object]:
    """Return a function that tells whether a path matches a pattern."""
    pieces = (re.escape(piece) for piece in pattern.split("*"))
    return re.compile("[^/]*".join(pieces), re.DOTALL).fullmatch


class Content(ComposedFact[bytes | None]):
    """The exact bytes of a file; ``None`` if there is no regular file at the path.

    + path: absolute path

    **Example:** ``host.get_fact(Content, path="/etc/fstab")``
    """

    @override
    def command(self, path: str) -> StringCommand:
        return super().command(path=path)

    @override
    def reads(self, path: str) -> tuple[Read, ...]:
        return (Read.of(Texts, patterns=(path,)),)

    @override
    def compose(self, texts: dict[str, bytes | None], path: str) -> bytes | None:
        return texts.get(path)
