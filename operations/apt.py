"""Install packages, at a version where one is wanted, and hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.observe import Read, current, observe
from chaos_engine.operations.alone import ALONE
from chaos_engine.operations.arguments import PackageName, PackageVersion
from chaos_engine.operations.converge import Commands, converge
from chaos_engine.operations.originals import KEEP, recorded
from chaos_engine.operations.shell import quote

LOCK_SECONDS = 300

# pyinfra's apt operations neither wait for the lock nor keep needrestart from restarting Docker
# in the middle of a run.
APT = f"""\
set -eu
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
retries=Acquire::Retries=1 # a silent server is waited for a minute each time; apt's own number is 3
{KEEP}
apt() {{ # apt-get, waiting for dpkg's lock, never asking; what it will change is noted before.
  # What packages start gets no lock of ours
  foresee "$@"
  apt-get -y -q -o DPkg::Lock::Timeout={LOCK_SECONDS} -o Dpkg::Use-Pty=0 -o $retries \\
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null 9>&- || {{
    ended=$?
    echo "apt-get failed: mend what it says, on the node or on its way to the archives, and run" \\
      "again" >&2
    return $ended
  }}
}}
foresee() {{ # what apt-get says that it would do: "Inst NAME [OLD] (NEW ...", "Remv NAME [OLD]"
  plan=$(apt-get -s -q -y "$@" </dev/null 2>/dev/null | grep -E '^(Inst|Remv) ') || plan=
  configured=$(dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\\n' |
    sed -n 's/^config-files //p')
  case $plan in *Remv*) auto=$(apt-mark showauto) ;; esac
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
}}
locked() {{ # TEXT: whether it says that another program holds a lock
  case $1 in *"Could not get lock"* | *" locked by "*) ;; *) false ;; esac
}}
patiently() {{ # COMMAND: run it, again and again while another program holds the lock it wants
  deadline=$(($(cut -d. -f1 /proc/uptime) + {LOCK_SECONDS}))
  until log=$("$@" </dev/null 2>&1 9>&-); do
    locked "$log" && [ "$(cut -d. -f1 /proc/uptime)" -lt "$deadline" ] && sleep 2 || {{
      printf '%s\\n' "$log" >&2
      ! locked "$log" ||
        echo "that lasted for {LOCK_SECONDS} s: wait for its end, or end it, and run again" >&2
      return 1
    }}
  done
}}
refresh() {{ # the package lists anew, those that can be had: one bad source is no reason to stop,
  # what is installed next may not need it. apt-get waits for dpkg's lock only, not for theirs
  said=$(patiently apt-get -q -o $retries update 2>&1) || {{
    if locked "$said"; then printf '%s\\n' "$said" >&2; return 1; fi
    {{
      echo "warning: not all package lists could be refreshed:"
      printf '%s\\n' "$said" | grep -E '^[EW]: ' || printf '%s\\n' "$said"
    }} >&2
  }}
}}
# what a power cut in the middle of an installation left; nothing otherwise
patiently dpkg --configure -a --force-confdef --force-confold
"""
"""Head of every script that calls apt."""


def reads(present: Mapping[str, str | None], hold: Iterable[str] = ()) -> list[Read]:
    """What `packages` will observe for the same arguments."""
    return [Read.of(Packages, names=tuple(sorted({*present, *hold})))]


@converge(reads=reads)
def packages(
    present: Mapping[PackageName, PackageVersion | None], hold: Iterable[PackageName] = ()
) -> Commands:
    """Have packages installed, at the given versions, and held.

    + present: package names with the version wanted, ``None`` for any; a version may be higher or
      lower than the installed one
    + hold: names among them that apt shall not upgrade by itself (``apt-mark hold``)

    The package lists are refreshed only when something has to be installed; a source that fails is
    told of, and fails the operation only if a package cannot be had without it. Recommended
    packages are not installed.

    **Example:** ``packages(name="Install kubelet", present={"kubelet": "1.36.2-1.1"})``
    """
    hold = tuple(sorted(hold))
    names = tuple(sorted({*present, *hold}))
    found = observe(Packages, names=names)
    missing, unheld = plan(present, hold, found)
    if not missing and not unheld:
        current()[1].noop(f"{', '.join(names)}: as wanted")
        return
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
    lines = [ALONE, APT]
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
