"""Read what a node has noted of this package's changes, and the present state of those files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

from typing_extensions import override

from chaos_engine.facts.files import PRINT_STATES, FileState, parse_files
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.share import CONFINED, MOST_BYTES, SECONDS, TARGET

DIRECTORY = "/var/lib/chaos-engine"

MANIFEST = f"{DIRECTORY}/manifest"
"""A file with a line for each thing that a concern has changed. The line is on the disk before the
change begins. It has concern, kind, state before, name and a dot, with tabs between them. A line
without its dot was cut short, so its change has not begun. These are the kinds and their states:

- ``file``: ``original`` (kept in `ORIGINALS`) or ``created``; lines ``secret``, ``merged`` and
  ``wrote`` (its name is sha256 and path) tell more about a file
- ``folder``: ``created``
- ``unit``: systemd's ActiveState and UnitFileState
- ``package``, installed or upgraded: the version before, ``absent``, or ``config`` if only its
  configuration was there
- ``removed``, a package: version, ``manual`` or ``auto``, ``hold`` or ``-``
- ``hold``: ``set``; ``manual``, a package that was marked as manually installed: ``auto``
- ``sysctl``: its value; the name is a path below ``/proc/sys``
- ``swap``: its priority; ``link``, a network interface: ``created``
- ``image``: ``pulled``; ``network``, of Docker: ``created``, or the command that recreates it
"""

KEPT = f"{DIRECTORY}/packages"
"""The ``.deb`` of each removed package that no archive offered any more."""

ORIGINALS = f"{DIRECTORY}/originals"
"""The original of each file that was replaced or removed, under its own path."""

WRITTEN = f"{DIRECTORY}/written"
"""The merged files (``merged``), as they were written last."""

ASIDE = f"{DIRECTORY}/aside"
"""Versions of files that are neither the original nor this package's."""

STAGED = f"{DIRECTORY}/staged"
"""The paths of the staged files that a script has not removed yet, a line each."""

CHANGING = f"{DIRECTORY}/packages-changing"
"""The names of packages that apt is changing, a line each. They stay there until all is on the
card. After a power cut such a package may look complete and have empty files: dpkg synchronises
neither configuration files nor what maintainer scripts write. It calls fsync only for other files
(dpkg's ``src/main/archives.c``, tar_deferred_extract)."""

PULLING = f"{DIRECTORY}/images-pulling"
"""The names of images that Docker is pulling, a line each. They stay there until the images are on
the card, because Docker does not synchronise the files of their layers."""

LEFT = "-"
"""The concern of things that undo of their concern kept, because other concerns needed them."""

# Others write the log share. A file that is too large to be ours is not read
_ON_SHARE = f"""
  find "$@" -maxdepth 0 -printf "state w%y%y %m %u %g %s %p\\n"
  find "$@" -maxdepth 0 -type f -size -{MOST_BYTES + 1}c -exec sha256sum -- {{}} + |
    sed "s/^/state /"
"""

_SCRIPT = rf"""
[ -d {DIRECTORY} ] || exit 0
echo there
for one in {DIRECTORY}/*; do [ ! -e "$one" ] || echo "holds ${{one##*/}}"; done
[ -s {MANIFEST} ] || exit 0
sed 's/^/line /' {MANIFEST}
{CONFINED}
look() {{
  xargs -r -d '\n' timeout -k 1 8 sh -c 'sh -c "$@"; exit $?' sh '{{ {PRINT_STATES} }} |
    sed "s/^/state /"' sh
}}
files=$(awk -F '\t' '$2 == "file" && $5 == "." {{ print $4 }}' {MANIFEST} | sort -u)
# with the folders that they are in
printf '%s\n' "$files" | grep -v '^{TARGET}/' | awk -F / '{{
  path = ""
  for (n = 2; n <= NF; n++) {{ path = path "/" $n; if (!(path in seen)) print path; seen[path] }}
}}' | look
(
  set -f
  IFS='
'
  set -- $(printf '%s\n' "$files" | grep '^{TARGET}/')
  unset IFS
  [ $# = 0 ] || confined {SECONDS} {TARGET} '{_ON_SHARE}' "$@"
)
printf '%s\n' "$files" | sed 's|^|{ORIGINALS}|' | look
awk -F '\t' '$2 == "merged" && $5 == "." {{ print $4 }}' {MANIFEST} | sort -u |
  grep -v '^{TARGET}/' | while IFS= read -r path; do
    for one in "$path" "{ORIGINALS}$path" "{WRITTEN}$path"; do
      [ ! -f "$one" ] || echo "text $(base64 -w 0 -- "$one") $one"
    done
  done
true
"""


@dataclass(frozen=True)
class Entry(Value):
    """A line of the manifest."""

    concern: str
    kind: str
    state: str
    name: str


@dataclass(frozen=True)
class Remembered(Value):
    """What a node has noted of this package's changes.

    + entries: the lines of the manifest, in their order
    + files: state by path of the files in it, of the folders above them, and of their originals;
      those that do not exist are missing
    + texts: content by path of merged files, of their originals, and of their copies in `WRITTEN`
    + holds: the names in `DIRECTORY`
    """

    entries: tuple[Entry, ...] = ()
    files: dict[str, FileState] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    holds: tuple[str, ...] = ()

    def of(self, concern: str, kind: str) -> Iterator[Entry]:
        """Yield the lines of a concern that have this kind."""
        return (e for e in self.entries if (e.concern, e.kind) == (concern, kind))

    @property
    def concerns(self) -> tuple[str, ...]:
        """Return the concerns that have changed something, in the order of their changes."""
        return tuple(dict.fromkeys(e.concern for e in self.entries if e.concern != LEFT))


class Manifest(NodeFact[Remembered]):
    """What the node has noted of this package's changes.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.manifest.Manifest``
    """

    @override
    def command(self) -> str:
        return _SCRIPT

    @staticmethod
    @override
    def default() -> Remembered:
        return Remembered()

    @override
    def parse(self, lines: list[str]) -> Remembered:
        return parse_manifest(lines)


def parse_manifest(lines: list[str]) -> Remembered:
    """Read the script's ``KEY VALUE`` lines. Skip lines of the manifest that are cut short."""
    values: dict[str, list[str]] = {key: [] for key in ("there", "holds", "line", "state", "text")}
    for line in lines:
        key, _, value = line.partition(" ")
        values[key].append(value)
    split = (line.split("\t") for line in values["line"])
    return Remembered(
        entries=tuple(
            Entry(fields[0], fields[1], fields[2], fields[3])
            for fields in split
            if len(fields) == 5 and fields[4] == "."
        ),
        files=parse_files(values["state"]),
        texts={
            path: base64.b64decode(encoded, validate=True)
            for encoded, _, path in (text.partition(" ") for text in values["text"])
        },
        holds=tuple(values["holds"]),
    )
