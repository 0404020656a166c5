"""Read the security updates that a node lacks, and whether the node needs a reboot."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import grouped, pairs
from chaos_engine.templates import shell_script

_SCRIPTS = ("torn_lists", "lists_in_ram", "security_updates")

_KEYS = "said error pocket security held pinned left Inst size free"

# A line of apt-get's simulation: Inst NAME [OLD] (NEW SOURCES)
_INST = re.compile(r"(\S+) (?:\[(\S+)\] )?\((\S+) .*")

# What follows the version in the name of a kernel: 6.12.43+deb13-cloud-arm64, 6.8.0-1031-raspi
_FLAVOUR = re.compile(r"(.*?)-([a-z].*)")


@dataclass(frozen=True)
class Update(Value):
    """A package with a new version.

    + old: the installed version, "" if the package is not installed
    + new: the version that apt would install
    """

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Updates(Value):
    """The security updates that a node lacks.

    + updates: the packages that apt can update
    + others: packages that apt installs or updates because the updates depend on them
    + held: packages that are not updated because they are on hold
    + pinned: packages that are not updated because a pin excludes the new version
    + left_out: packages that apt cannot update without a removal, or not at all. The key is the
      package's name, and the value is the reason
    + pockets: apt's sources of security updates, as pairs of URI and suite
    + said: apt's messages about package lists that could not be fetched
    + error: apt's message if apt cannot read its sources, otherwise ""
    + needs: MiB that the updates need on the root file system
    + free: MiB that are free there
    """

    updates: tuple[Update, ...] = ()
    others: tuple[Update, ...] = ()
    held: tuple[Update, ...] = ()
    pinned: tuple[Update, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    pockets: tuple[tuple[str, str], ...] = ()
    said: tuple[str, ...] = ()
    error: str = ""
    needs: int = 0
    free: int = 0


class SecurityUpdates(NodeFact[Updates]):
    """The security updates that a node lacks.

    A package lacks an update if a newer version of it is in a security pocket of the distribution:
    a source with Debian's origin and the label ``Debian-Security``, or one of Ubuntu's whose suite
    ends with ``-security``. apt simulates the updates. Package lists are fetched into RAM. There
    they are kept for some minutes, so that the next read need not fetch them.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.updates.SecurityUpdates``
    """

    program = "apt-get"
    more_seconds = 600
    doing = "fetching apt's package lists, and looking for security updates"

    @override
    def command(self) -> str:
        return f"{''.join(map(shell_script, _SCRIPTS))}security_updates\n"

    @override
    def parse(self, lines: list[str]) -> Updates:
        """Read ``KEY VALUE`` lines, as ``templates/shell/security_updates.sh`` explains them."""
        found = grouped(filter(None, lines), _KEYS)
        kinds = {
            key: tuple(Update(*line.split(" ")) for line in found[key])
            for key in ("security", "held", "pinned")
        }
        security = {one.name for one in kinds["security"]}
        planned = [_planned(line) for line in found["Inst"]]
        download, growth, largest = map(int, "".join(found["size"][:1] or ["0 0 0"]).split())
        return Updates(
            updates=tuple(one for one in planned if one.name in security),
            others=tuple(one for one in planned if one.name not in security),
            held=kinds["held"],
            pinned=kinds["pinned"],
            left_out=pairs(found["left"]),
            pockets=tuple(dict.fromkeys(map(_pocket, found["pocket"]))),
            said=tuple(dict.fromkeys(" ".join(line.split()) for line in found["said"])),
            error="".join(found["error"]),
            needs=(download + max(growth, 0) + largest) // 1024,
            free=int("".join(found["free"]) or 0) // 1024,
        )


@dataclass(frozen=True)
class RebootNeedState(Value):
    """Whether a node needs a reboot because of its packages.

    + running: the release of the running kernel, as ``uname -r`` prints it
    + installed: the releases of the installed kernels
    + required: whether a package has asked for a reboot
    + packages: the packages that have asked for it, as far as they are known
    """

    running: str
    installed: tuple[str, ...] = ()
    required: bool = False
    packages: tuple[str, ...] = ()

    @property
    def newer_kernel(self) -> str:
        """Return the newest installed kernel of the running kernel's kind, "" if it runs."""
        newest = max(filter(self.is_newer, self.installed), key=_numbers, default="")
        return newest

    def is_newer(self, release: str) -> bool:
        """Tell whether a kernel is of the running kernel's kind, and newer than that.

        + release: a kernel's release, such as "6.12.43+deb13-arm64"
        """
        return kind_of(release) == kind_of(self.running) and _numbers(release) > _numbers(
            self.running
        )


class RebootNeed(NodeFact[RebootNeedState]):
    """Whether a node needs a reboot because of its packages.

    A package asks for a reboot by the file ``/run/reboot-required``.

    **Example:** ``host.get_fact(RebootNeed).newer_kernel``
    """

    @override
    def command(self) -> str:
        return """\
printf 'running %s\\n' "$(uname -r)"
for kernel in /boot/vmlinuz-*; do
  test ! -f "$kernel" || printf 'installed %s\\n' "${kernel#/boot/vmlinuz-}"
done
if test -e /run/reboot-required; then
  echo required
  sed 's/^/package /' /run/reboot-required.pkgs 2>/dev/null
fi
true"""

    @override
    def parse(self, lines: list[str]) -> RebootNeedState:
        """Read ``KEY VALUE`` lines."""
        found = grouped(lines, "running installed required package")
        return RebootNeedState(
            running=found["running"][0],
            installed=tuple(found["installed"]),
            required=bool(found["required"]),
            packages=tuple(sorted(set(found["package"]))),
        )


def kind_of(release: str) -> str:
    """Return the kind of a kernel: the last part of its release, which begins with a letter.

    **Example:** ``kind_of("6.8.0-1031-raspi") == "raspi"``
    """
    found = _FLAVOUR.fullmatch(release)
    return found[2] if found else ""


def _numbers(release: str) -> tuple[int, ...]:
    """Return the numbers of a kernel's version, by which kernels are compared."""
    found = _FLAVOUR.fullmatch(release)
    return tuple(map(int, re.findall("[0-9]+", found[1] if found else release)))


def _planned(line: str) -> Update:
    """Parse a line ``NAME [OLD] (NEW SOURCES)`` of apt-get's simulation."""
    found = _INST.fullmatch(line)
    if not found:
        raise ValueError(line)
    return Update(found[1], found[2] or "", found[3])


def _pocket(line: str) -> tuple[str, str]:
    """Parse a line ``URI SUITE/COMPONENT ARCHITECTURE Packages`` of ``apt-cache policy``."""
    uri, place = line.split(" ")[:2]
    return uri.rstrip("/"), place.rpartition("/")[0] or place
