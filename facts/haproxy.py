"""Read the configuration that HAProxy has loaded, and the copy of it on the log share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.health import Check, limited
from chaos_engine.facts.manifest import MANIFEST
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.share import CONFINED, MOST_BYTES, SECONDS, TARGET
from chaos_engine.facts.systemd import RECORDS

SCRIPT = "/usr/sbin/haproxy_start.sh"
"""The program that runs HAProxy on the proxy."""

MARK = "Written by chaos-engine"
"""A text that only this package's version of `SCRIPT` contains. Only this version has a command
``check``."""

RUN = f"{RECORDS}/haproxy"
"""A folder in RAM with the container's ``config/`` and ``socket/``, and the file ``loaded``."""

Found = Literal["same", "other", "folder", "unknown"]
"""What is at a path on the log share: "same" if it is as wanted, "folder" for a folder, "other" for
anything else, or if there is nothing; "unknown" if the share does not answer in time."""

# The script reads a file only after it has seen the wanted type, owner and mode. It never prints
# the file's content
_STATES = f"""
c=$1 s=$2 l=$3 t=$4
case $(find "$c" -maxdepth 0 -printf "%y %m %U %G" 2>/dev/null) in
  "f 644 0 0")
    [ "$(head -c {MOST_BYTES + 1} -- "$c" | sha256sum)" = "$s  -" ] && echo same || echo other ;;
  "d "*) echo folder ;;
  *) echo other ;;
esac
[ "$(readlink -- "$l")" = "$t" ] && echo same || echo other
"""

_SCRIPT = f"""\
{CONFINED}
for one in "$1" "$3"; do
  [ -z "$one" ] || one=$one awk -F '\\t' '
    $2 == "file" && $4 == ENVIRON["one"] && $5 == "." {{ found = 1 }}
    END {{ exit ! found }}' {MANIFEST} 2>/dev/null || {{ echo new; break; }}
done
confined {SECONDS} {TARGET} '{_STATES}' "$@" || echo unknown
"""


class LoadedConfig(NodeFact[str]):
    """The sha256 of the configuration that HAProxy has loaded last, at a start or a reload.

    "" if it has loaded none since the node's boot.

    **Example:** ``host.get_fact(LoadedConfig)``
    """

    @override
    def command(self) -> str:
        return f"cat {RUN}/loaded 2>/dev/null; true"

    @override
    def parse(self, lines: list[str]) -> str:
        return "".join(lines)


@dataclass(frozen=True)
class CopyState(Value):
    """The state of the configuration's copy on the log share, and of a link there.

    + noted: whether the node's manifest has a line for the copy and one for the link
    + config, link: what is at their paths
    """

    noted: bool
    config: Found
    link: Found


class SharedCopy(NodeFact[CopyState]):
    """The state of the configuration's copy on the log share, and of a link there.

    Other machines write the share too. So the fact does not return what it finds there, only
    whether the copy and the link are as wanted.

    + config: the copy's path, "" for no copy. Wanted are the owner root and the mode 644
    + sha256: the copy's wanted checksum
    + link: the link's path, "" for no link
    + leads_to: the link's wanted target

    **Example:** ``host.get_fact(SharedCopy, config="/var/log/haproxy/haproxy.cfg", sha256="...",
    link="/var/log/haproxy/run", leads_to="/run/chaos-engine/haproxy/socket")``
    """

    @override
    def command(self, config: str, sha256: str, link: str, leads_to: str) -> StringCommand:
        words = (QuoteString(word) for word in (_SCRIPT, "sh", config, sha256, link, leads_to))
        return StringCommand("sh -c", *words)

    @override
    def parse(self, lines: list[str]) -> CopyState:
        """Read a line for the copy and a line for the link, or one line ``unknown`` for both.

        A line ``new`` before them means that the manifest lacks one of them.
        """
        words: dict[str, Found] = {word: word for word in get_args(Found)}
        config, *link = (words[line] for line in lines if line != "new")
        return CopyState("new" not in lines, config, *(link or [config]))


ADDRESS_ANSWERS = Check(
    "haproxy",
    # Only the proxy has the script; on other nodes the check succeeds
    f"! grep -qs '{MARK}' {SCRIPT} || {limited(f'{SCRIPT} check')}",
    "the API's address does not answer its own node; look at: journalctl -u docker_haproxy",
)
