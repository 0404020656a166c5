"""Read which swap is in use, and what would turn swap on at the next boot."""

from __future__ import annotations

from dataclasses import dataclass, field

from typing_extensions import override

from chaos_engine.facts.callers import COLLECT
from chaos_engine.facts.health import Check
from chaos_engine.facts.manifest import MANIFEST
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import decoded, grouped, unescaped

SERVICES = ("dphys-swapfile.service", "zramswap.service", "zram-config.service")
"""Services of packages that call swapon: dphys-swapfile (Raspberry Pi OS, Debian), zram-tools, and
Ubuntu's zram-config."""

RPI_SWAP_DROP_IN = "/etc/rpi/swap.conf.d/90-chaos-engine.conf"


# A swapon that lists swap does not match (-s, --show, --summary), nor does one that reads fstab
# (-a, --all), because this package removes swap from fstab
CALL = "swapon[[:space:]]+(-[^as-]|--[^as]|[^-[:space:]])"
"""An extended regular expression of POSIX that matches a call of swapon that turns swap on."""

TURNERS = rf"""
turners() (
{COLLECT}  [ $# != 0 ] || exit 0
  set -f
  # almost always none: the search for one word is the fast one
  found=$(LC_ALL=C grep -IlsF swapon -- "$@" $scripts) || [ -n "$found" ] || exit 0
  IFS='
'
  found=$(
    grep -lE -e '^[[:space:]]*{CALL}' -e '^[[:space:]]*[^#;[:space:]].*[^a-z_]{CALL}' -- $found
  ) || exit 0
  for file; do
    unit=${{file%.d/*.conf}} unit=${{unit##*/}}
    case " @SERVICES@ " in *" ${{unit%.service}}.service "*) continue ;; esac
    case $file in
      */systemd/*) systemctl is-enabled --quiet -- "$unit" 2>/dev/null || continue ;;
      */rc.local) [ -x "$file" ] || continue ;;
    esac
    for one in $found; do
      if [ "$one" = "$file" ] || grep -qF -- "$one" "$file"; then
        echo "turns_on $file $one"
        break
      fi
    done
  done
)
""".replace("@SERVICES@", " ".join(SERVICES))
"""A shell function that prints a line ``turns_on FILE SCRIPT`` for each file of the node's owner
that turns swap on: a file for systemd, cron, udev or init, and the script that calls swapon."""


@dataclass(frozen=True)
class SwapArea(Value):
    """A swap area in use, as in ``/proc/swaps``; sizes in KiB."""

    name: str
    kind: str
    size: int
    used: int


@dataclass(frozen=True)
class SwapState(Value):
    """A node's swap.

    + areas: the swap areas in use
    + available: KiB of RAM that programs can still get (MemAvailable)
    + fstab: the exact text of ``/etc/fstab``, with bytes that are not UTF-8 escaped as by
      ``os.fsdecode``
    + units: state ("enabled", "masked") of each ``.swap`` unit that has a file, generated ones too
    + services: state of those of `SERVICES` that are installed, and of ``swap.target``
    + rpi_swap: whether the package rpi-swap is installed
    + rpi_swap_drop_in: the text of `RPI_SWAP_DROP_IN`, ``None`` if there is no such file
    + turners: the node owner's files that turn swap on, each with the script that calls swapon,
      which may be the file itself
    + noted: names of areas that an earlier run has turned off
    """

    areas: tuple[SwapArea, ...]
    available: int
    fstab: str
    units: dict[str, str]
    services: dict[str, str]
    rpi_swap: bool
    rpi_swap_drop_in: str | None
    turners: dict[str, str] = field(default_factory=dict)
    noted: tuple[str, ...] = ()

    @property
    def used(self) -> int:
        """Return how many KiB are swapped out. They must fit into RAM when swap is turned off."""
        return sum(area.used for area in self.areas)


_SCRIPT = r"""
while IFS= read -r line; do printf 'area %s\n' "$line"; done < /proc/swaps &&
awk '$1 == "MemAvailable:" { print "available", $2 }' /proc/meminfo || exit 1
if [ -f /etc/fstab ]; then text=$(base64 -w0 /etc/fstab) && echo "text $text" || exit 1; fi
# Not list-unit-files: that reads every unit there is, most of a second on a small machine. The
# folders are those of systemd.unit(5)
names=
for file in /etc/systemd/system*/*.swap /run/systemd/*/*.swap \
  /usr/local/lib/systemd/system/*.swap /usr/lib/systemd/system/*.swap /lib/systemd/system/*.swap
do
  case $file in *'/*.swap' | *@.swap) ;; *) names="$names ${file##*/}" ;; esac
done
set -f # a name may have backslashes
states=$(systemctl show --property=Id,LoadState,UnitFileState -- swap.target @SERVICES@ $names) ||
  exit 1
set +f
printf '%s\n' "$states" | awk -F= '
  { value[$1] = $2 }
  !NF { say() }
  END { say() }
  function say() { print "unit", value["Id"], value["LoadState"], value["UnitFileState"] }
'
for folder in /usr/lib /lib /usr/local/lib /etc; do
  [ ! -e $folder/systemd/system-generators/rpi-swap-generator ] || echo 'rpi_swap yes'
done
[ ! -e @DROP_IN@ ] || echo "rpi_swap_drop_in $(base64 -w0 @DROP_IN@)"
turners
{
  read -r _
  ! read -r _ || awk -F '\t' '$2 == "swap" { print "noted", $4 }' @MANIFEST@ 2>/dev/null
} </proc/swaps
true
"""

SCRIPT = TURNERS + _SCRIPT.replace("@SERVICES@", " ".join(SERVICES)).replace(
    "@DROP_IN@", RPI_SWAP_DROP_IN
).replace("@MANIFEST@", MANIFEST)


class Swaps(NodeFact[SwapState]):
    """Which swap is in use, and what would turn swap on at the next boot.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.swap.Swaps``
    """

    @override
    def command(self) -> str:
        return SCRIPT

    @override
    def parse(self, lines: list[str]) -> SwapState:
        """Read the ``KEY VALUE`` lines of `SCRIPT`."""
        words = "area available text unit turns_on noted rpi_swap rpi_swap_drop_in"
        found = grouped(lines, words)
        areas = (line.split() for line in found["area"] if not line.startswith("Filename"))
        states = {
            name: " ".join(state) or load
            for name, load, *state in map(str.split, found["unit"])
            if load != "not-found"
        }
        drop_ins = [decoded(text) for text in found["rpi_swap_drop_in"]]
        turners = (line.rpartition(" ") for line in found["turns_on"])
        return SwapState(
            areas=tuple(
                SwapArea(unescaped(name), kind, int(size), int(used))
                for name, kind, size, used, *_ in areas
            ),
            available=int(found["available"][0]),
            fstab=decoded("".join(found["text"])),
            units={name: state for name, state in states.items() if name.endswith(".swap")},
            services={name: state for name, state in states.items() if not name.endswith(".swap")},
            rpi_swap=bool(found["rpi_swap"]),
            rpi_swap_drop_in=next(iter(drop_ins), None),
            turners={file: script for file, _, script in turners},
            noted=tuple(found["noted"]),
        )


SWAP_UNUSED = Check(
    "swap",
    "! sed 1d /proc/swaps | grep -q .",
    "swap is still in use; if a run does not turn it off because RAM is full, reboot the node",
)

SWAP_STAYS_OFF = Check(
    "swap_again",
    f"{TURNERS}\n! turners | grep -q .",
    "a service or script of this node turns swap on at each boot; the swap concern names it",
)
