"""Put a copy of HAProxy's configuration and a link to its admin socket on the log share.

The log share is the Gluster volume or NFS export on ``/var/log``. The copy and the link are for
people. HAProxy does not use them.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import OperationValueError

from chaos_engine.facts.files import Files
from chaos_engine.facts.haproxy import RUN, CopyState, SharedCopy
from chaos_engine.facts.manifest import ORIGINALS
from chaos_engine.facts.mounts import Mount, Mounts, mounted_at
from chaos_engine.facts.observe import Read, current, observe, warn
from chaos_engine.facts.share import CONFINED, MOST_BYTES, TARGET, is_share, on_share
from chaos_engine.operations import log_mount
from chaos_engine.operations.engine.arguments import AbsolutePath, shown
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.shell import NOTES, PRELUDE, for_concern
from chaos_engine.operations.files import File
from chaos_engine.operations.haproxy.container import CONFIG, OWN

SOCKETS = f"{RUN}/socket"

# Copies the originals for undo: links, and files of at most MOST_BYTES. Anything else, such as a
# device or an endless file, is not copied. It may be a trap, because other machines can write to
# the share. `ulimit` ends the copy of a file that grows meanwhile
_SURVEY = f"""
c=$1 s=$2 l=$3 t=$4
ulimit -f {MOST_BYTES // 512}
for one in "$c" "$l"; do
  [ -n "$one" ] || continue
  above=${{one%/*}}
  until [ "$above" = {TARGET} ] || [ -d "$above" ]; do
    echo "folder $above"
    above=${{above%/*}}
  done
  state=created
  case $(find "$one" -maxdepth 0 -printf %y 2>/dev/null) in
    l) [ "$(readlink -- "$one")" = "$t" ] || state=original ;;
    f) [ "$(head -c {MOST_BYTES} -- "$one" | sha256sum)" = "$s  -" ] || state=original ;;
  esac
  [ $state = created ] || {{
    kept={ORIGINALS}$one
    mkdir -p -- "${{kept%/*}}" && cp -d --preserve=mode -- "$one" "$kept.chaos-new" &&
      {{ [ -L "$kept.chaos-new" ] || chmod a-s -- "$kept.chaos-new"; }} || state=created
  }}
  echo "$state $one"
done
"""

# Writes the copy and the link. Removes a file or a link in the place of a wanted folder. Follows no
# link
_PUBLISH = f"""
c=$1 l=$2 t=$3
umask 022
folder() {{
  at={TARGET} left=${{1#{TARGET}}}
  while [ -n "$left" ]; do
    left=${{left#/}}
    at=$at/${{left%%/*}}
    case $left in */*) left=/${{left#*/}} ;; *) left= ;; esac
    [ -d "$at" ] || {{ rm -f -- "$at" && mkdir -- "$at"; }} || return
  done
}}
copy() {{
  new=${{c%/*}}/.${{c##*/}}.chaos
  {{
    folder "${{c%/*}}" && [ ! -d "$c" ] && rm -f -- "$new" &&
      (set -C; cat {OWN}/{CONFIG} >"$new") && chown 0:0 -- "$new" && chmod 644 -- "$new" &&
      mv -fT -- "$new" "$c"
  }} || {{
    rm -f -- "$new"
    return 1
  }}
}}
lead() {{
  folder "${{l%/*}}" || return
  if [ -d "$l" ]; then
    # the folder may hold the configuration, so it is moved and not removed
    rm -f -- "$l/admin.sock"
    rmdir -- "$l" || mv -T -- "$l" "$l.old" ||
      mv -T -- "$l" "$(mktemp -u "$l.old.XXXXXX")" || return
  fi
  ln -sfT -- "$t" "$l"
}}
done=0
[ -z "$c" ] || copy || done=1
[ -z "$l" ] || lead || done=1
exit $done
"""

# Together, the two confined scripts take at most 5 s
_SCRIPT = f"""\
{PRELUDE}{NOTES}{CONFINED}
config=$1 sha256=$2 link=$3 leads_to=$4
left() {{ rm -rf -- "$ORIGINALS$config.chaos-new" "$ORIGINALS$link.chaos-new"; }}
left
trap left EXIT
found=$(confined 2 {TARGET} '{_SURVEY}' "$@") || {{ echo "the log share does not answer"; exit 0; }}
while read -r state path; do
  kept=$ORIGINALS$path
  if [ "$state" = folder ]; then
    note folder created "$path"
  elif [ -n "$(noted file "$path")" ]; then
    note file - "$path"
  elif [ "$state" = original ] && {{ [ -f "$kept.chaos-new" ] || [ -L "$kept.chaos-new" ]; }}; then
    [ -L "$kept.chaos-new" ] || sync -- "$kept.chaos-new"
    mv -fT -- "$kept.chaos-new" "$kept"
    sync -- "${{kept%/*}}"
    note file original "$path"
  else
    note file created "$path"
  fi
done <<END
$found
END
[ -z "$config" ] || wrote "$sha256" "$config"
settle
confined 3 {TARGET} '{_PUBLISH}' "$config" "$link" "$leads_to" || echo "not all could be written"
"""


def _asked(config: File | None, link: str | None) -> dict[str, str]:
    """Return the arguments of the fact `SharedCopy`, in the order in which `_SCRIPT` takes them."""
    return {
        "config": config.path if config else "",
        "sha256": config.sha256 if config else "",
        "link": link or "",
        "leads_to": SOCKETS,
    }


def reads(config: File | None = None, link: str | None = None) -> list[Read]:
    """Return the facts that `publish_copy` will read for the same arguments."""
    return [
        Read.of(SharedCopy, **_asked(config, link)),
        Read.of(Mounts, path=TARGET),
        Read.of(Files, paths=(log_mount.SERVICE,)),
    ]


@converge(reads=reads)
def publish_copy(config: File | None = None, link: AbsolutePath | None = None) -> Commands:
    """Put a copy of HAProxy's configuration and a link to its admin socket on the log share.

    + config: the wanted copy, with the owner root and the mode 644; ``None`` for no copy. The node
      copies the content from the configuration in `OWN`
    + link: path of the link; ``None`` for no link

    Other machines can write to the share, and may replace the copy with another file. So no program
    uses the copy, and the operation never shows the content of a file on the share. If the share is
    not mounted, the operation does nothing, and a later run writes the copy. If the copy cannot be
    written, the operation only warns, because HAProxy does not need the copy. Raises
    ``OperationValueError`` if a path is not on the share.

    **Example:** ``publish_copy(name="Copy HAProxy's configuration", config=File(...))``
    """
    asked = _asked(config, link)
    for key, path in (("config.path", asked["config"]), ("link", asked["link"])):
        # The script walks up from the path until it reaches the share
        if path and not on_share(path):
            raise OperationValueError(
                f"publish_copy: {key} = {shown(path)}: it has to be a path below {TARGET}"
            )
    mounts: tuple[Mount, ...] = observe(Mounts, path=TARGET)
    if share_is_away(mounts, log_mount.SERVICE in observe(Files, paths=(log_mount.SERVICE,))):
        current()[1].noop("the log share is not mounted; a later run will write the copy")
        return
    found = observe(SharedCopy, **asked)
    if found.noted and not can_be_written(found, config, link):
        if problem := obstacle(found, config, link):
            warn(problem)
        else:
            current()[1].noop("the log share has the copy")
        return
    if config and found.config == "other":
        because(f"write {config.path}")
    elif link and found.link == "other":
        # Not announced beside a new copy: HAProxy's start script may make the link first
        because(f"make {link} a link to {SOCKETS}")
    if not can_be_written(found, config, link):
        because(f"note for undo: {_names(config, link)}")
    words = (for_concern(_SCRIPT), "sh", *asked.values())
    yield StringCommand("sh -c", *(QuoteString(word) for word in words))
    found = observe(SharedCopy, **asked)
    if problem := obstacle(found, config, link) or write_failure(found, config, link):
        warn(problem)


def share_is_away(mounts: Iterable[Mount], shared: bool) -> bool:
    """Tell whether the node has a log share that is not mounted now. This is a pure function.

    + mounts: the mounts at ``/var/log``
    + shared: whether the node has a log share

    Without the mount, ``/var/log`` is a folder on the node's own card. The operation writes nothing
    to that folder. The copy belongs on the share, and the share may already have the copy.
    """
    found = mounted_at(mounts, TARGET)
    return shared and (found is None or not is_share(found.fstype, found.source))


def can_be_written(found: CopyState, config: File | None, link: str | None) -> bool:
    """Tell whether the copy or the link is not as wanted, but can be written.

    This is a pure function.
    """
    return bool((config and found.config == "other") or (link and found.link == "other"))


def obstacle(found: CopyState, config: File | None, link: str | None) -> str:
    """Return a message if the copy cannot be written, "" otherwise. This is a pure function.

    The message gives the reason, and says what to do.
    """
    if found.config == "unknown":
        return (
            f"the log share on {TARGET} did not answer in time, so {_names(config, link)} cannot "
            "be checked; a later run will try again. HAProxy itself is not affected"
        )
    if config and found.config == "folder":
        return (
            f"{config.path} is a folder, but has to be a file with a copy of HAProxy's "
            "configuration; move the folder away and run again. HAProxy itself is not affected"
        )
    return ""


def write_failure(found: CopyState, config: File | None, link: str | None) -> str:
    """Return a message if the copy or the link is not as wanted, "" otherwise.

    This is a pure function.

    + found: the state after the script has run
    """
    if not can_be_written(found, config, link):
        return ""
    return (
        f"{_names(config, link)} cannot be written, or another machine writes them too; find out "
        "which machine it is, and run again. HAProxy itself is not affected"
    )


def _names(config: File | None, link: str | None) -> str:
    """Return the paths of the copy and the link, for messages."""
    return " and ".join(path for path in (config.path if config else "", link) if path)
