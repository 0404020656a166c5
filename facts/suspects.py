"""Who on the node may be changing a thing back that runs fix again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.callers import COLLECT
from chaos_engine.facts.manifest import MANIFEST
from chaos_engine.facts.observe import SeveralFact, Value
from chaos_engine.facts.repairs import REPAIRS

_MORE = """/etc/NetworkManager/dispatcher.d/* /etc/NetworkManager/system-connections/* \\
    /etc/networkd-dispatcher/*/* /etc/netplan/*.yaml /etc/systemd/network/* \\
    /etc/network/interfaces /etc/network/interfaces.d/* /etc/network/if-*.d/* \\
    /etc/apt/apt.conf.d/* /etc/systemd/system-preset/*.preset /etc/ufw/*.conf \\
    /etc/tuned/*/tuned.conf /run/systemd/transient/*.service"""

_CLOUD_INIT = """/etc/cloud/cloud.cfg /etc/cloud/cloud.cfg.d/*.cfg /boot/firmware/user-data \\
    /var/lib/cloud/instance/cloud-config.txt /var/lib/cloud/scripts/per-boot/*"""

_MANAGERS = """puppet.service chef-client.service salt-minion.service cfengine3.service \\
    rudder-agent.service ansible-pull.service ansible-pull.timer"""

_ON_DEMAND = "ansible-pull|puppet +(agent|apply)|chef-client|salt-call|cf-agent"

_SCRIPT = rf"""
{COLLECT}
for file in {_MORE}; do [ ! -f "$file" ] || set -- "$@" "$file"; done
if command -v cloud-init >/dev/null && [ ! -e /etc/cloud/cloud-init.disabled ]; then
  for file in {_CLOUD_INIT}; do [ ! -f "$file" ] || set -- "$@" "$file"; done
fi
set -f
callers=$([ $# = 0 ] || printf '%s\n' "$@")
scripts=$([ -z "$scripts" ] || printf '%s\n' $scripts)
IFS='
'
own=$(
  awk -F '\t' '$2 == "wrote" && $5 == "." {{ sub(/^[^ ]* /, "", $4); print $4 }}' \
    {MANIFEST} 2>/dev/null | sort -u
)
among() {{ case "
$2
" in *"
$1
"*) ;; *) false ;; esac; }}
acts() {{ # FILE: whether it has an effect
  unit=${{1%.d/*.conf}} unit=${{unit##*/}} timer=
  case $1 in
    */systemd/*.service | */systemd/*.service.d/*)
      if systemctl is-enabled --quiet -- "${{unit%.service}}.timer" 2>/dev/null; then
        timer=${{unit%.service}}.timer
      else
        systemctl is-enabled --quiet -- "$unit" 2>/dev/null
      fi ;;
    */rc.local) [ -x "$1" ] ;;
  esac
}}
say() {{ ! acts "$1" || printf 'file\t%s\t%s\t%s\n' "$1" "$2" "$timer"; }} # FILE SCRIPT
mentions() {{ # PATTERN EXCEPT: files in which a line has the one and lacks the other
  for one in $(printf '%s\n' "$callers" "$scripts" | sort -u |
    xargs -r -d '\n' grep -IlsE -e "$1" --); do
    among "$one" "$own" && continue
    grep -hsE -e "$1" -- "$one" | grep -qvE -e "$2" || continue
    if among "$one" "$callers"; then
      say "$one" "$one"
    else
      for caller in $(printf '%s\n' "$callers" | xargs -r -d '\n' grep -IlsF -e "$one" --); do
        among "$caller" "$own" || say "$caller" "$one"
      done
    fi
  done
}}
managers() {{ # who manages all of the node, or is asked to from time to time
  systemctl show --property=Id,ActiveState -- {_MANAGERS} 2>/dev/null |
    awk -F= '$1 == "Id" {{ id = $2 }} $0 == "ActiveState=active" {{ print "manager\t" id }}'
  for one in $(printf '%s\n' "$callers" | xargs -r -d '\n' grep -IlsE -e '{_ON_DEMAND}' --); do
    ! acts "$one" || printf 'manager\t%s\n' "$one"
  done
  set +f
  for one in /root/.ansible/tmp /home/*/.ansible/tmp; do
    # used since the last repair
    [ ! "$one" -nt {REPAIRS} ] || printf 'ansible\t%s\n' "$one"
  done
  set -f
}}
packages() {{ # PATH: those that bring it or write it, and were installed since the last repair
  {{
    dpkg-query -S -- "$1" 2>/dev/null | sed 's/: .*//; s/, /\n/g'
    set +f
    grep -lsF -e "$1" -- /var/lib/dpkg/info/*.postinst | sed 's|.*/||; s|[.]postinst$||'
    set -f
  }} | sort -u | while read -r name; do
    case $name in diversion*) continue ;; esac
    [ ! "/var/lib/dpkg/info/$name.list" -nt {REPAIRS} ] || printf 'package\t%s\n' "$name"
  done
}}
link() {{ # NAME: who manages a network interface
  read -r index <"/sys/class/net/$1/ifindex" || return 0
  state=/run/systemd/netif/links/$index
  if grep -qs '^ADMIN_STATE=configur' "$state"; then
    printf 'networkd\t%s\n' "$(sed -n 's/^NETWORK_FILE=//p' "$state")"
  fi
  ! grep -qs '^managed=true' "/run/NetworkManager/devices/$index" || printf 'networkmanager\t\n'
}} 2>/dev/null
"""


KINDS = ("file", "manager", "ansible", "package", "networkd", "networkmanager")
"""What a `Suspect` may be."""


class Search(NamedTuple):
    """What to look for.

    + thing: its name in the answer
    + pattern: an extended regular expression that is in the lines that may change it
    + innocent: one of those among them that do not; "" for none
    + path: a file, of which packages are asked
    + link: a network interface, whose managers are asked
    """

    thing: str
    pattern: str
    innocent: str = ""
    path: str = ""
    link: str = ""


@dataclass(frozen=True)
class Suspect(Value):
    """Who may change a thing.

    + kind: "file", one that the node's owner has made; "manager", of configuration; "ansible", its
      folder; "package"; "networkd" and "networkmanager", which manage the network interface
    + name: path or name of it, of networkd that of its file
    + script: of a file: the script in which the line is, or the file itself
    + timer: of a unit's file: the timer that starts it
    """

    kind: str
    name: str
    script: str = ""
    timer: str = ""


class Suspects(SeveralFact[tuple[Suspect, ...]]):
    """Who may change things, by the name of the thing.

    + searches: a `Search` a thing

    This reads many files. It is asked only once a thing has changed again that was fixed before, so
    a run that changes nothing has no part in it.

    **Example:** ``host.get_fact(Suspects, searches=(Search("a", "lb-hairpin"),))``
    """

    argument = "searches"

    @override
    def command(self, searches: tuple[Search, ...]) -> StringCommand:
        lines = [StringCommand("(", _SCRIPT)]
        for thing, pattern, innocent, path, link in searches:
            q = QuoteString
            lines.append(StringCommand("echo", q(f"thing\t{thing}"), "\nmanagers"))
            lines.append(StringCommand("mentions", q(f"^[^#]*({pattern})"), q(innocent or "^$")))
            lines += [StringCommand("packages", q(path))] if path else []
            lines += [StringCommand("link", q(link))] if link else []
        return StringCommand(*lines, "true )", _separator="\n")

    @override
    def parse(self, lines: list[str]) -> dict[str, tuple[Suspect, ...]]:
        return parse_suspects(lines)


def parse_suspects(lines: list[str]) -> dict[str, tuple[Suspect, ...]]:
    """Read ``thing NAME`` lines, each followed by the lines ``KIND NAME [SCRIPT TIMER]`` of what is
    suspected; there are tabs between the words."""
    found: dict[str, tuple[Suspect, ...]] = {}
    thing = ""
    for line in lines:
        kind, name, *more = line.split("\t")
        if kind not in ("thing", *KINDS) or len(more) > 2:  # a name with a line break or a tab
            raise ValueError(line)
        if kind == "thing":
            thing = name
            found[thing] = ()
        elif (suspect := Suspect(kind, name, *more)) not in found[thing]:
            found[thing] += (suspect,)
    return found
