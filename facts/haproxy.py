"""The configuration that the running HAProxy has loaded, and its copy on the log share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
"""What that program says of itself. Another one under its name does something else when called."""

RUN = f"{RECORDS}/haproxy"
"""In RAM: ``config/`` and ``socket/`` of the container, and ``loaded``."""

Copied = Literal["same", "other", "folder", "unknown"]
"""What lies in the place of something on the log share: what is wanted, something else or nothing,
a folder; or the share does not say so in time."""

# A file is read only if it may be ours, and what it holds is never said
_COPIES = f"""
c=$1 s=$2 l=$3 t=$4
case $(find "$c" -maxdepth 0 -printf "%y %m %U %G" 2>/dev/null) in
  "f 644 0 0")
    [ "$(head -c {MOST_BYTES + 1} -- "$c" | sha256sum)" = "$s  -" ] && echo same || echo other ;;
  "d "*) echo folder ;;
  *) echo other ;;
esac
[ "$(readlink -- "$l")" = "$t" ] && echo same || echo other
"""

_LOOK = f"""\
{CONFINED}
for one in "$1" "$3"; do
  [ -z "$one" ] || one=$one awk -F '\\t' '
    $2 == "file" && $4 == ENVIRON["one"] && $5 == "." {{ found = 1 }}
    END {{ exit ! found }}' {MANIFEST} 2>/dev/null || {{ echo new; break; }}
done
confined {SECONDS} {TARGET} '{_COPIES}' "$@" || echo unknown
"""


class LoadedConfig(NodeFact[str]):
    """The sha256 of the configuration that HAProxy was last started or reloaded with since the
    node's boot, "" if it was not.

    **Example:** ``host.get_fact(LoadedConfig)``
    """

    @override
    def command(self) -> str:
        return f"cat {RUN}/loaded 2>/dev/null; true"

    @staticmethod
    @override
    def default() -> str:
        return ""

    @override
    def parse(self, lines: list[str]) -> str:
        return lines[0]


@dataclass(frozen=True)
class CopyState(Value):
    """How the copy on the log share is.

    + noted: whether the node has noted that it makes it
    + config, link: what lies in their places
    """

    noted: bool
    config: Copied
    link: Copied


class SharedCopy(NodeFact[CopyState]):
    """How a file and a link on the log share are, which others write too. What they hold is not
    told, only whether it is what is wanted.

    + config: path of the file, of root and with the mode 644; "" for none
    + sha256: the checksum that it shall have
    + link: path of the link, "" for none
    + leads_to: where it shall lead

    **Example:** ``host.get_fact(SharedCopy, config="/var/log/haproxy/haproxy.cfg", sha256="...",
    link="/var/log/haproxy/run", leads_to="/run/chaos-engine/haproxy/socket")``
    """

    @override
    def command(self, config: str, sha256: str, link: str, leads_to: str) -> StringCommand:
        words = (QuoteString(word) for word in (_LOOK, "sh", config, sha256, link, leads_to))
        return StringCommand("sh -c", *words)

    @override
    def parse(self, lines: list[str]) -> CopyState:
        return parse_copy(lines)


def parse_copy(lines: list[str]) -> CopyState:
    """Read ``new`` where something is not noted, and then what lies in the places of file and link,
    or ``unknown``."""
    words: dict[str, Copied] = {
        "same": "same",
        "other": "other",
        "folder": "folder",
        "unknown": "unknown",
    }
    config, *link = (words[line] for line in lines if line != "new")
    return CopyState("new" not in lines, config, *(link or [config]))


ADDRESS_ANSWERS = Check(
    "haproxy",
    # on the proxy only: no other node has the script
    f"! grep -qs '{MARK}' {SCRIPT} || {limited(f'{SCRIPT} check')}",
    "the API's address does not answer its own node; look at: journalctl -u docker_haproxy",
)
