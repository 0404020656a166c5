"""Read a node's manifest, which lists the changes that this package has made on the node.

The fact also reads the current state of the files that the manifest names.
"""

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
"""The file with the manifest. It has a line for each thing that a concern has changed. The line is
on the disk before the change begins. A line has five fields, separated by tabs: the concern (such
as ``docker``), the kind of thing, the thing's state before the change, the thing's name, and a dot.
A line without the dot was cut short, so the change has not begun.

This list gives the name of each kind, its meaning, and after a colon the state before the change.
If no state is needed, the field is ``-``.

- ``file``, a file: ``original`` (a copy is in `ORIGINALS`) or ``created``
- ``secret``, a file that undo has to overwrite before its removal: ``-``
- ``merged``, a file of which this package has written only a part: ``-``
- ``wrote``, a file that the concern has written: ``-``. The name is the SHA-256 checksum of the new
  content, and the file's path
- ``folder``, a folder: ``created``
- ``unit``, a systemd unit: its ActiveState and UnitFileState
- ``package``, an installed or upgraded package: the old version, or ``absent``. It is ``config`` if
  the node had only the package's configuration files
- ``removed``, a removed package: its version, ``manual`` or ``auto``, and ``hold`` or ``-``
- ``hold``, a package that the concern holds: ``set``
- ``manual``, a package that the concern has marked as manually installed: ``auto``
- ``sysctl``, a kernel parameter: its value. The name is a path below ``/proc/sys``
- ``mount``, an option of a mounted file system: the old option. The name is the option's family and
  the mount point, such as ``atime /``
- ``option``, options of an entry in ``/etc/fstab``: the entry's old options of one family, or ``-``
  if it had none. The name is the options' family and the mount point
- ``swap``, an area of swap: its priority
- ``link``, a network interface: ``created``
- ``image``, an image of Docker: ``pulled``
- ``network``, a network of Docker: ``created``, or the command that recreates the old network
"""

REPACKED = f"{DIRECTORY}/packages"
"""The folder with a ``.deb`` of each removed package that no apt archive offered. The ``.deb`` was
built from the package's installed files."""

ORIGINALS = f"{DIRECTORY}/originals"
"""The folder with the original of each file that this package has replaced or removed. The
original's path is this folder followed by the file's full path."""

WRITTEN = f"{DIRECTORY}/written"
"""The folder with copies of merged files: files of which this package has written only a part. Each
copy has the content that a run wrote most recently. The copy's path is this folder followed by the
file's full path."""

ASIDE = f"{DIRECTORY}/aside"
"""The folder for copies of files that somebody else has changed since this package's first change.
Such a copy differs from the original and from what this package wrote."""

STAGED = f"{DIRECTORY}/staged"
"""The file that lists staged files, one path a line. A staged file has new content and waits to be
renamed to its final path. The list may contain files that were already renamed or removed."""

CHANGING = f"{DIRECTORY}/packages-changing"
"""The file that lists the packages that apt is changing, one a line. A package stays in the list
until all its files are on the card. After a power cut a listed package may look complete but have
empty files. This happens because dpkg does not call fsync for configuration files, or for files
that maintainer scripts write (dpkg's ``src/main/archives.c``, tar_deferred_extract).

A line is the package's name. For a new package it is ``+NAME=VERSION``, because dpkg may not know
the package after a power cut. The reason is that dpkg's journal is in RAM during the
installation."""

PULLING = f"{DIRECTORY}/images-pulling"
"""The file that lists the images that Docker is pulling, one name a line. A name stays in the list
until the image is on the card, because Docker does not call fsync for the files of a layer."""

NOBODY = "-"
"""A name that stands for no concern. Undo of a concern does not revert a change that something else
needs. Undo then keeps the change's line in the manifest, and replaces the concern's name by this
name."""

# Other machines can write to the log share. So the script does not read a file that is too large to
# be from this package
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
    """A line of the manifest: a thing that a concern has changed (`MANIFEST`).

    + concern: the name of the concern, such as "docker"
    + kind: the kind of thing, such as "file"
    + state: the thing's state before the change
    + name: the thing's name, such as a file's path
    """

    concern: str
    kind: str
    state: str
    name: str


@dataclass(frozen=True)
class Remembered(Value):
    """The changes that a node's manifest lists, and the current state of the changed files.

    + entries: the lines of the manifest, in their order
    + files: a dictionary from path to current state. The paths are each file in the manifest, the
      file's original, and the folders above the file. Paths that do not exist are left out
    + texts: a dictionary from path to content. The paths are each merged file, the file's original,
      and the file's copy in `WRITTEN`
    + holds: the names of the files and folders in `DIRECTORY`
    """

    entries: tuple[Entry, ...] = ()
    files: dict[str, FileState] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    holds: tuple[str, ...] = ()

    def of(self, concern: str, kind: str) -> Iterator[Entry]:
        """Return the lines of the manifest that have this concern and this kind."""
        return (e for e in self.entries if (e.concern, e.kind) == (concern, kind))

    @property
    def concerns(self) -> tuple[str, ...]:
        """Return the names of the concerns in the manifest, in the order of their first changes."""
        return tuple(dict.fromkeys(e.concern for e in self.entries if e.concern != NOBODY))


class Manifest(NodeFact[Remembered]):
    """The changes that the node's manifest lists, and the current state of the changed files.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.manifest.Manifest``
    """

    @override
    def command(self) -> str:
        return _SCRIPT

    @override
    def parse(self, lines: list[str]) -> Remembered:
        """Parse the script's lines ``KEY VALUE``. Skip manifest lines that were cut short."""
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
