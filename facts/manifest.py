"""Read a node's manifest, and the present state of the files in it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field

from typing_extensions import override

from chaos_engine.facts.files import PRINT_STATES, FileState, parse_files
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.share import CONFINED, MOST_BYTES, SECONDS, TARGET
from chaos_engine.facts.text import grouped

DIRECTORY = "/var/lib/chaos-engine"

MANIFEST = f"{DIRECTORY}/manifest"
"""A file with a line for each thing that a concern has changed. The line is on the disk before the
change begins. It has concern, kind, state before the change, name and a dot, with tabs between
them. A line without its dot was cut short, so its change has not begun. The kinds and their states:

- ``file``: ``original`` (kept in `ORIGINALS`) or ``created``. More lines may tell about a file:
  ``secret`` (undo overwrites it before it removes it), ``merged`` (it is a merged file) and
  ``wrote`` (the name is the sha256 of what the concern wrote, and the file's path)
- ``folder``: ``created``
- ``unit``: systemd's ActiveState and UnitFileState
- ``package``, installed or upgraded: the version before, ``absent``, or ``config`` if only its
  configuration was there
- ``removed``, a package: version, ``manual`` or ``auto``, ``hold`` or ``-``
- ``hold``, a package that the concern holds: ``set``
- ``manual``, a package that the concern has marked as manually installed: ``auto``
- ``sysctl``: its value; the name is a path below ``/proc/sys``
- ``swap``: its priority; ``link``, a network interface: ``created``
- ``image``: ``pulled``; ``network``, of Docker: ``created``, or the command that recreates it
"""

REPACKED = f"{DIRECTORY}/packages"
"""A folder with the ``.deb`` of each removed package that no archive offered any more."""

ORIGINALS = f"{DIRECTORY}/originals"
"""A folder with the original of each file that was replaced or removed, under the file's path."""

WRITTEN = f"{DIRECTORY}/written"
"""A folder with each merged file as a run wrote it last, under the file's path."""

ASIDE = f"{DIRECTORY}/aside"
"""A folder with versions of files that are neither the original nor this package's."""

STAGED = f"{DIRECTORY}/staged"
"""A file with the paths of staged files that have not been removed yet, a line each."""

CHANGING = f"{DIRECTORY}/packages-changing"
"""A file with the packages that apt is changing, a line each. A line stays there until all files of
the package are on the card. It is the name, or ``+NAME=VERSION`` for a new package that dpkg may
not know after a power cut, because dpkg's own notes of it are in RAM until its work is done. After a power cut such a package may look complete and have
empty files: dpkg calls fsync neither for configuration files nor for files that maintainer scripts
write (dpkg's ``src/main/archives.c``, tar_deferred_extract)."""

PULLING = f"{DIRECTORY}/images-pulling"
"""A file with the names of images that Docker is pulling, a line each. A name stays there until the
image is on the card, because Docker does not synchronise the files of an image's layers."""

NOBODY = "-"
"""What a line of the manifest has in place of a concern that was undone, if the line's change was
kept because other concerns needed it."""

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
    + files: by path, the state of the manifest's files, of the folders above them, and of the
      files' originals; paths that do not exist are missing
    + texts: by path, the content of merged files, of their originals, and of their copies in
      `WRITTEN`
    + holds: the names of the files and folders in `DIRECTORY`
    """

    entries: tuple[Entry, ...] = ()
    files: dict[str, FileState] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    holds: tuple[str, ...] = ()

    def of(self, concern: str, kind: str) -> Iterator[Entry]:
        """Yield the manifest's lines of one concern and kind."""
        return (e for e in self.entries if (e.concern, e.kind) == (concern, kind))

    @property
    def concerns(self) -> tuple[str, ...]:
        """Return the concerns that have changed something, in the order of their changes."""
        return tuple(dict.fromkeys(e.concern for e in self.entries if e.concern != NOBODY))


class Manifest(NodeFact[Remembered]):
    """What the node has noted of this package's changes.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.manifest.Manifest``
    """

    @override
    def command(self) -> str:
        return _SCRIPT

    @override
    def parse(self, lines: list[str]) -> Remembered:
        """Read the script's ``KEY VALUE`` lines. Skip lines of the manifest that are cut short."""
        found = grouped(lines, "there holds line state text")
        entries = (line.split("\t") for line in found["line"])
        return Remembered(
            entries=tuple(
                Entry(*fields[:4]) for fields in entries if len(fields) == 5 and fields[4] == "."
            ),
            files=parse_files(found["state"]),
            texts={
                path: base64.b64decode(encoded, validate=True)
                for encoded, _, path in (text.partition(" ") for text in found["text"])
            },
            holds=tuple(found["holds"]),
        )
