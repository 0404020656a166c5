"""Read which swap is in use, and what would turn swap on at the next boot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from typing_extensions import override

from chaos_engine.facts.callers import COLLECT
from chaos_engine.facts.files import Texts
from chaos_engine.facts.fstab import PATH as FSTAB
from chaos_engine.facts.health import Check
from chaos_engine.facts.manifest import MANIFEST
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.systemd import SHOW, UnitProperties, parse_properties
from chaos_engine.facts.systemd_files import texts_of
from chaos_engine.facts.text import grouped, unescaped

SERVICES = ("dphys-swapfile.service", "zramswap.service", "zram-config.service")
"""Services of packages that call swapon: dphys-swapfile (Raspberry Pi OS, Debian), zram-tools, and
Ubuntu's zram-config."""

RPI_SWAP_DROP_IN = "/etc/rpi/swap.conf.d/90-chaos-engine.conf"


# swapon -s, --show and --summary do not match: they only list swap. swapon -a and --all do not
# match either: they read fstab, and this package removes swap from fstab
CALL = "swapon[[:space:]]+(-[^as-]|--[^as]|[^-[:space:]])"
"""A POSIX extended regular expression. It matches calls of swapon that turn swap on."""

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
"""The shell function ``turners``. It finds the user's files that turn swap on, and prints a line
``turns_on FILE SCRIPT`` for each. FILE is a file of systemd, cron, udev or init. SCRIPT is the
script that calls swapon, which may be FILE itself."""


@dataclass(frozen=True)
class SwapArea(Value):
    """A swap area in use, as in ``/proc/swaps``. Sizes are in KiB."""

    name: str
    kind: str
    size: int
    used: int


@dataclass(frozen=True)
class SwapState(Value):
    """A node's swap.

    + areas: the swap areas in use
    + available: KiB of RAM that programs can still get (MemAvailable)
    + fstab: the exact text of ``/etc/fstab``. Bytes that are not valid UTF-8 are escaped, as
      ``os.fsdecode`` does it
    + units: state of each ``.swap`` unit that has a file, such as "enabled", by the unit's name.
      Files that systemd has generated count too
    + services: state of ``swap.target`` and of each installed service in `SERVICES`, by name
    + rpi_swap: whether the package rpi-swap is installed
    + rpi_swap_drop_in: the text of `RPI_SWAP_DROP_IN`, ``None`` if there is no such file
    + turners: the user's files that turn swap on. A key is such a file's path. The value is the
      path of the script that calls swapon, which may be the file itself
    + noted: names of the swap areas that earlier runs have turned off, empty if no swap is in use
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


_PROVIDERS = (
    TURNERS
    + rf"""
turners
for folder in /usr/lib /lib /usr/local/lib /etc; do
  [ ! -e $folder/systemd/system-generators/rpi-swap-generator ] || echo rpi_swap
done
# Not list-unit-files: that reads every unit there is, most of a second on a small machine. The
# folders are those of systemd.unit(5)
set --
for file in /etc/systemd/system*/*.swap /run/systemd/*/*.swap \
  /usr/local/lib/systemd/system/*.swap /usr/lib/systemd/system/*.swap /lib/systemd/system/*.swap
do
  case $file in *'/*.swap' | *@.swap) ;; *) set -- "$@" "${{file##*/}}" ;; esac
done
[ $# = 0 ] || {{ echo units; {SHOW} "$@"; }}
"""
)

_SWAPS = "/proc/swaps"
_MEMORY = ("/proc/meminfo", "^MemAvailable:.*")
_NOTED = (MANIFEST, r"^[^\t\n]*\tswap\t.*\n?")
_SWAP_TARGET = "swap.target"


class _Providers(NodeFact[tuple[bool, dict[str, str], dict[str, str]]]):
    """Whether rpi-swap is installed, what turns swap on, and the states of the ``.swap`` units."""

    @override
    def command(self) -> str:
        return _PROVIDERS

    @override
    def parse(self, lines: list[str]) -> tuple[bool, dict[str, str], dict[str, str]]:
        """Read the lines ``rpi_swap`` and ``turns_on FILE SCRIPT``, and systemctl's output.

        The line ``units`` stands before systemctl's output.
        """
        end = lines.index("units") if "units" in lines else len(lines)
        found = grouped(lines[:end], "rpi_swap turns_on")
        turners = (line.rpartition(" ") for line in found["turns_on"])
        return (
            bool(found["rpi_swap"]),
            {file: script for file, _, script in turners},
            _states(parse_properties(lines[end + 1 :])),
        )


class Swaps(ComposedFact[SwapState]):
    """Which swap is in use, and what would turn swap on at the next boot.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.swap.Swaps``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (
            Read.of(Texts, patterns=(_SWAPS, _MEMORY, FSTAB, RPI_SWAP_DROP_IN, _NOTED)),
            Read.of(UnitProperties, units=(_SWAP_TARGET, *SERVICES)),
            Read.of(_Providers),
        )

    @override
    def compose(
        self,
        found: dict[str, bytes | None],
        units: dict[str, dict[str, str]],
        providers: tuple[bool, dict[str, str], dict[str, str]],
    ) -> SwapState:
        texts = texts_of(found)
        rpi_swap, turners, swap_units = providers
        areas = parse_areas(texts[_SWAPS])
        return SwapState(
            areas=areas,
            available=int(texts[_MEMORY[0]].split()[1]),
            fstab=texts.get(FSTAB, ""),
            units=swap_units,
            services=_states(units.values()),
            rpi_swap=rpi_swap,
            rpi_swap_drop_in=texts.get(RPI_SWAP_DROP_IN),
            turners=turners,
            noted=parse_noted(texts.get(MANIFEST, "")) if areas else (),
        )


def parse_areas(text: str) -> tuple[SwapArea, ...]:
    """Return the swap areas in the text of ``/proc/swaps``.

    The text's first line has the names of the columns.
    """
    areas = (line.split() for line in text.split("\n")[1:] if line)
    return tuple(
        SwapArea(unescaped(name), kind, int(size), int(used))
        for name, kind, size, used, *_ in areas
    )


def parse_noted(lines: str) -> tuple[str, ...]:
    """Return the names of the swap areas that earlier runs have turned off.

    + lines: the lines of the kind ``swap`` in the node's manifest
    """
    fields = (line.split("\t") for line in lines.split("\n") if line)
    return tuple(name for _, _, _, name, *_ in fields)


def _states(units: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return the UnitFileState of each unit that exists, by the unit's name.

    A unit without a UnitFileState gets its LoadState.

    + units: the properties of each unit
    """
    return {
        unit["Id"]: unit.get("UnitFileState") or unit["LoadState"]
        for unit in units
        if unit["LoadState"] != "not-found"
    }


SWAP_UNUSED = Check(
    "swap",
    "! sed 1d /proc/swaps | grep -q .",
    "swap is still in use; if the swapped-out memory does not fit into RAM, reboot the node",
)

SWAP_STAYS_OFF = Check(
    "swap_again",
    f"{TURNERS}\n! turners | grep -q .",
    "a service or script of this node turns swap on at each boot; to see its name, preview the "
    "deploy `swap`",
)
