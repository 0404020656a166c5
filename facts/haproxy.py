"""Read the state of HAProxy's servers, and the checksum of the configuration it has loaded.

Also read the state of the configuration's copy on the log share.
"""

from __future__ import annotations

import csv
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
"""The script that runs HAProxy on the only proxy."""

SEVERAL = "/usr/sbin/haproxy_several.sh"
"""The script that runs HAProxy on one of several proxies, and moves the API's address.

Each proxy has `SCRIPT` too. The systemd unit names one of the two scripts. So the rename of the
unit's file turns an only proxy into one of several in one step, and back."""

MARK = "Written by chaos-engine"
"""A text in this package's version of `SCRIPT`. Other versions have neither this text nor the
command ``check``."""

RUN = f"{RECORDS}/haproxy"
"""A folder in RAM. It has the container's folders ``config/`` and ``socket/``. It also has a file
``loaded`` with the checksum of the configuration that HAProxy has loaded."""

Found = Literal["same", "other", "folder", "unknown"]
"""What is at a path on the log share.

- "same": the wanted file or link
- "folder": a folder
- "other": anything else, or nothing
- "unknown": the share does not answer in time
"""

# The script reads a file only if the file has the wanted type, owner and mode. It never prints the
# file's content
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
    """The SHA-256 checksum of the configuration that HAProxy loaded most recently.

    HAProxy loads a configuration at its start and at a reload. The value is "" if HAProxy has not
    loaded one since the node's boot.

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
    """The state of two things on the log share: a copy of HAProxy's configuration, and a link.

    + noted: whether the node's manifest lists the copy and the link
    + config: what is at the path of the copy
    + link: what is at the path of the link
    """

    noted: bool
    config: Found
    link: Found


class SharedCopy(NodeFact[CopyState]):
    """The state of two things on the log share: a copy of HAProxy's configuration, and a link.

    Other machines can also write to the share. So the fact only tells whether the copy and the link
    are as wanted. It never returns the content of a file.

    + config: the copy's path, "" for no copy. The copy's owner has to be root, and its mode 644
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
        """Parse a line about the copy of HAProxy's configuration, then a line about the link.

        If the share cannot be read, there is one line ``unknown`` instead. Before these lines is a
        line ``new`` if the node's manifest does not list the copy, or does not list the link.
        """
        words: dict[str, Found] = {word: word for word in get_args(Found)}
        config, *link = (words[line] for line in lines if line != "new")
        return CopyState("new" not in lines, config, *(link or [config]))


# perl's module Socket is not needed: AF_UNIX and SOCK_STREAM are 1, and the address is a struct
# sockaddr_un (unix(7)). "-1 4 -1" stands for the servers of all backends (HAProxy's Management
# Guide, "show stat")
_SERVERS = f"""LC_ALL=C perl -e '
$SIG{{ALRM}} = sub {{ exit }};
alarm 3;
socket($haproxy, 1, 1, 0) && connect($haproxy, pack("Sa108", 1, "{RUN}/socket/admin.sock")) || exit;
syswrite($haproxy, "show stat -1 4 -1\n");
print grep(/\\S/, <$haproxy>);
'"""


@dataclass(frozen=True)
class ServerState(Value):
    """The state of one of HAProxy's servers.

    + name: the server's name, which is the name of a controller
    + status: HAProxy's word for the server's state, such as "UP" or "DOWN"
    + seconds: how long the server has had this status
    """

    name: str
    status: str
    seconds: int


class HaproxyServers(NodeFact["tuple[ServerState, ...] | None"]):
    """The state of each of HAProxy's servers; ``None`` if HAProxy does not run on the node.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.haproxy.HaproxyServers``
    """

    @override
    def command(self) -> str:
        return _SERVERS

    @override
    def parse(self, lines: list[str]) -> tuple[ServerState, ...] | None:
        """Parse the CSV of ``show stat``, whose first line has the names of the columns."""
        if not lines:
            return None
        rows = csv.DictReader([lines[0].removeprefix("# "), *lines[1:]])
        found = [(row["svname"], row["status"], int(row["lastchg"] or 0)) for row in rows]
        if any(seconds >> 32 for _, _, seconds in found):
            raise ValueError("a time is no number of 32 bits")
        return tuple(ServerState(*server) for server in found)


ADDRESS_ANSWERS = Check(
    "haproxy",
    # Only the proxy has the script; on other nodes the check succeeds
    f"! grep -qs '{MARK}' {SCRIPT} || {limited(f'{SCRIPT} check')}",
    "this node cannot connect to the Kubernetes API's address; look at: "
    "journalctl -u docker_haproxy",
)
