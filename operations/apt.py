"""Install packages, at a version where one is wanted, and hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.manifest import CHANGING, DIRECTORY
from chaos_engine.facts.observe import Read, current, observe
from chaos_engine.facts.share import TARGET
from chaos_engine.operations.engine.arguments import PackageName, PackageVersion
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.originals import KEEP, recorded
from chaos_engine.operations.engine.prelude import PRELUDE
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.shell import quote

LOCK_SECONDS = 300

LISTS = "/var/lib/apt/lists"

# pyinfra's apt operations neither wait for the lock nor keep needrestart from restarting Docker
# in the middle of a run.
APT = f"""\
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
retries=Acquire::Retries=1 # a silent server is waited for a minute each time; apt's own number is 3
{KEEP}
apart() {{ # COMMAND...: run a package tool with the umask that packages expect and no lock of ours.
  # Others can write the log share, or it hangs: the tool gets a /var/log in RAM in its place, and
  # what apt writes there goes to the log server
  (
    umask 022
    exec </dev/null 9>&-
    case $(awk '$5 == "{TARGET}" {{ sub(/.* - /, ""); on = $1 }} END {{ print on }}' \
      /proc/self/mountinfo) in
      fuse.* | nfs*)
        unshare -m sh -c 'mount -t tmpfs -o size=16m,mode=755,nosuid,nodev apart {TARGET} ||
            exit
          mkdir {TARGET}/apt
          "$@" && status=0 || status=$?
          cat {TARGET}/apt/history.log 2>/dev/null | timeout -k 1 5 logger -t apt || :
          exit $status' sh "$@"
        ;;
      *) "$@" ;;
    esac
  )
}}
apt_get() {{ # apt-get, waiting for dpkg's lock, never asking
  apart apt-get -y -q -o DPkg::Lock::Timeout={LOCK_SECONDS} -o Dpkg::Use-Pty=0 -o $retries \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}}
apt() {{ # apt-get; what it will change is noted before, and is on the card afterwards
  foresee "$@"
  apt_get "$@" || {{
    ended=$?
    finished # dpkg's own notes are on the card then, and tell what is left to do
    echo "apt-get failed: fix what it says, on the node or on its way to the archives, and run" \
      "again" >&2
    return $ended
  }}
  finished
}}
foresee() {{ # what apt-get says that it would do: "Inst NAME [OLD] (NEW ...", "Remv NAME [OLD]"
  plan=$(apart apt-get -s -q -y "$@" 2>/dev/null | grep -E '^(Inst|Remv) ') || plan=
  configured=$(dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\\n' |
    sed -n 's/^config-files //p')
  case $plan in *Remv*) auto=$(apart apt-mark showauto) ;; esac
  while read -r what package old _; do
    case $old in "["*) old=${{old#[}}; old=${{old%%]*}} ;; *) old=absent ;; esac
    case $what in
      Inst)
        if among "${{package%%:*}}" "$configured"; then old=config; fi
        note package "$old" "$package"
        ;;
      Remv)
        if among "$package" "$auto"; then mark=auto; else mark=manual; fi
        note removed "$old $mark -" "$package"
        ;;
    esac
  done <<PLAN
$plan
PLAN
  settle
  begun $(printf '%s\\n' "$plan" | awk '$2 {{ print $2 }}' | cut -d : -f 1)
}}
hold() {{ # PACKAGE...: have apt leave them at their version
  held=$(apart apt-mark showhold)
  for package in "$@"; do
    among "$package" "$held" || note hold set "$package"
  done
  settle
  apart apt-mark hold "$@" >/dev/null
}}
begun() {{ # PACKAGE...: note that apt is changing them, until that is on the card
  [ $# -gt 0 ] || return 0
  jot {CHANGING} "$@"
}}
finished() {{ # what apt was changing is on the card
  [ -e {CHANGING} ] || return 0
  durable
  rm -f -- {CHANGING}; sync -- {DIRECTORY}
}}
locked() {{ # TEXT: whether it says that another program holds a lock
  case $1 in *"Could not get lock"* | *" locked by "*) ;; *) false ;; esac
}}
holder() {{ # TEXT: who holds the lock, by what apt-get or dpkg says of it
  number=$(printf '%s\\n' "$1" | sed -nE 's/.* (process|pid) ([0-9]+).*/\\2/p' | head -n 1)
  name=$(cat "/proc/${{number:-none}}/comm" 2>/dev/null) || name="another program"
  echo "$name${{number:+ (process $number)}}"
}}
patiently() {{ # COMMAND: run it, again and again while another program holds the lock it wants;
  # what it said is in $log
  deadline=$(($(cut -d. -f1 /proc/uptime) + {LOCK_SECONDS}))
  told=
  until log=$(apart "$@" 2>&1); do
    if locked "$log" && [ "$(cut -d. -f1 /proc/uptime)" -lt "$deadline" ]; then
      held=$(holder "$log")
      [ "$held" = "$told" ] ||
        tell "waiting for apt's lock, held by $held, at most {LOCK_SECONDS} s"
      told=$held
      sleep 2
      continue
    fi
    ! locked "$log" || log="$log
that lasted for {LOCK_SECONDS} s: wait for its end, or end it, and run again"
    return 1
  done
}}
refresh() {{ # the package lists anew, those that can be had: one bad source is no reason to stop,
  # what is installed next may not need it. apt-get waits for dpkg's lock only, not for theirs
  drop_torn_lists
  tell "refreshing the package lists"
  patiently apt-get -q -o $retries update || {{
    if locked "$log"; then printf '%s\\n' "$log" >&2; return 1; fi
    {{
      echo "warning: not all package lists could be refreshed:"
      printf '%s\\n' "$log" | grep -E '^[EW]: ' || printf '%s\\n' "$log"
    }} >&2
  }}
  sync -f {LISTS} # apt does not, and takes an empty list for current when it sees it again
}}
drop_torn_lists() ( # remove package lists of another length than their release file says, with
  # that file: apt asks a server only whether it has changed
  for release in {LISTS}/*_InRelease {LISTS}/*_Release; do
    [ -e "$release" ] || continue
    source=${{release%_*}}_
    for list in "$source"*Packages*; do
      [ -e "$list" ] || continue
      name=${{list#"$source"}}
      case $name in
        *Packages) size=$(stat -c %s -- "$list") ;;
        *) size=$(/usr/lib/apt/apt-helper cat-file "$list" 2>/dev/null | wc -c) ;;
      esac
      awk -v name="${{name%Packages*}}Packages" -v size="$size" '
        NF == 3 && length($1) >= 32 {{
          gsub("/", "_", $3)
          if ($3 == name) {{ known = 1; if ($2 == size) good = 1 }}
        }}
        END {{ exit !(good || (!known && size > 0)) }}' "$release" ||
        rm -f -- "$list" "$release"
      [ -e "$release" ] || break
    done
    [ -s "$release" ] || rm -f -- "$release"
  done
)
damaged() {{ # the packages that an interruption has left in pieces: dpkg wants some anew, and
  # those that apt was changing may have empty files
  dpkg-query -W -f '${{Package}} ${{Status}}\\n' | awk '
    FILENAME != "-" {{ changing[$1]; next }}
    $2 == "deinstall" || $2 == "purge" || $4 == "not-installed" || $4 == "config-files" {{ next }}
    $3 == "reinstreq" || $4 == "half-installed" || $1 in changing {{ print $1 }}
  ' $([ ! -e {CHANGING} ] || echo {CHANGING}) -
}}
conffiles() {{ # PACKAGE...: their configuration files
  dpkg-query -W -f '${{Conffiles}}\\n' -- "$@" | awk 'NF > 1 && $NF != "obsolete" {{ print $1 }}'
}}
repair() ( # install damaged packages once more, at their version, and look whether they are whole
  torn=$(damaged)
  [ -n "$torn" ] || {{ finished; exit; }}
  echo "an interruption has left these packages in pieces, so they are installed again:" $torn
  begun $torn
  refresh
  exact= names=
  for name in $torn; do
    version=$(dpkg-query -W -f '${{Version}}' -- "$name")
    if apart apt-cache madison "$name" | cut -d '|' -f 2 | tr -d ' ' | grep -qxF -- "$version"; then
      exact="$exact $name=$version"
    else
      exact="$exact $name"
    fi
    names="$names $name"
  done
  # dpkg leaves a configuration file alone that is there, be it empty, or that somebody has removed
  removed=
  for file in $(conffiles $names); do
    if [ -f "$file" ] && [ ! -s "$file" ]; then rm -f -- "$file"
    elif [ ! -e "$file" ]; then removed="$removed $file"; fi
  done
  apt_get --reinstall --no-install-recommends --allow-downgrades --allow-change-held-packages \
    -o Dpkg::Options::=--force-confmiss install -- $exact || {{
    echo "these packages are in pieces, and cannot be installed again:$names; fix what apt-get" \
      "says, and run again" >&2
    exit 1
  }}
  for file in $removed; do rm -f -- "$file"; done
  # Removal takes the x bit from init scripts; preinst gives it back if dpkg tells it of an old
  # version, which it does not after an interruption (cloud-init's postrm and preinst in Debian 12)
  for file in $(conffiles $names | grep '^/etc/init\\.d/'); do
    [ ! -f "$file" ] || chmod a+x -- "$file"
  done
  configure || {{ printf '%s\\n' "$log" >&2; exit 1; }}
  wrong=$(dpkg --verify $names | awk '/^..5/ && $2 != "c"')
  [ -z "$wrong" ] || {{ echo "still damaged after that:" "$wrong" >&2; exit 1; }}
  finished
)
configure() {{ # what was unpacked and not configured
  patiently dpkg --configure -a --force-confdef --force-confold
}}
# what a power cut in the middle of an installation left; nothing otherwise
configure || [ -n "$(damaged)" ] || {{ printf '%s\\n' "$log" >&2; exit 1; }}
repair
"""
"""Head of every script that calls apt."""


def reads(present: Mapping[str, str | None], hold: Iterable[str] = ()) -> list[Read]:
    """What `packages` will observe for the same arguments."""
    return [Read.of(Packages, names=tuple(sorted({*present, *hold})))]


@converge(reads=reads)
def install_packages(
    present: Mapping[PackageName, PackageVersion | None], hold: Iterable[PackageName] = ()
) -> Commands:
    """Have packages installed, at the given versions, and held.

    + present: package names with the version wanted, ``None`` for any; a version may be higher or
      lower than the installed one
    + hold: names among them that apt shall not upgrade by itself (``apt-mark hold``)

    The package lists are refreshed only when something has to be installed; a source that fails is
    told of, and fails the operation only if a package cannot be had without it. Recommended
    packages are not installed.

    **Example:** ``install_packages(name="Install kubelet", present={"kubelet": "1.36.2-1.1"})``
    """
    hold = tuple(sorted(hold))
    names = tuple(sorted({*present, *hold}))
    found = observe(Packages, names=names)
    missing, unheld = plan(present, hold, found)
    if not missing and not unheld:
        current()[1].noop(f"{', '.join(names)}: as wanted")
        return
    because(*listed("install", (f"{n} {v or ''}".rstrip() for n, v in missing.items())))
    because(*listed("hold", unheld))
    yield StringCommand("sh", "-c", QuoteString(recorded(compose(missing, unheld))))


def plan(
    present: Mapping[str, str | None], hold: Iterable[str], found: Mapping[str, PackageState]
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """What has to be installed, and what has to be held (again): a pure function."""
    missing = {
        name: version
        for name, version in sorted(present.items())
        if name not in found
        or not found[name].complete
        or (version is not None and found[name].version != version)
    }
    unheld = tuple(n for n in hold if n in missing or n not in found or not found[n].held)
    return missing, unheld


def compose(missing: Mapping[str, str | None], unheld: Iterable[str]) -> str:
    """The shell script that installs and holds."""
    lines = [PRELUDE, APT]
    if missing:
        wanted = [
            name if version is None else f"{name}={version}" for name, version in missing.items()
        ]
        lines += [
            "refresh",
            "apt install --no-install-recommends --allow-downgrades --allow-change-held-packages "
            f"-- {quote(*wanted)}",
        ]
    if unheld:
        lines.append(f"hold {quote(*unheld)}")
    return "\n".join([*lines, ""])
