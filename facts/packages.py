"""Simulate the removal of packages from a node."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.apt import Installed, PackageState
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.text import as_tuple, grouped

OPTIONS = "-o APT::Get::AutomaticRemove=false -o APT::Get::Purge=false"
"""Options of apt-get that turn off automatic removal and purging, even if the node's configuration
turns them on."""

_READ_ONLY = "-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Dir::Log::Planner=/dev/null"
"""Options that keep apt-get from writing caches and a log. Without these options, even a simulation
writes these files."""

_MAY_BE_INSTALLED = """
may_be_installed() {
  for name; do
    for architecture in "" :amd64 :arm64 :armel :armhf :i386 :riscv64; do
      [ ! -e "/var/lib/dpkg/info/$name$architecture.md5sums" ] || return 0
    done
  done
  return 1
}
"""
"""A shell function that fails if none of the packages in ``"$@"`` is installed.

The function starts no program. It looks for a file that dpkg keeps for each installed package: the
checksums of the package's files. If a package brings no checksums, dpkg computes them. dpkg removes
the checksums with the package, even if configuration files stay. ``dpkg --audit`` reports packages
without checksums. The file's name contains the architecture if the package has ``Multi-Arch:
same``. The function uses no shell pattern, because the shell would compare the pattern with the
names of some thousand files.
"""

# apt-get's simulation needs neither a lock nor package lists. /sys shows active logical volumes.
# lsblk, which reads the udev database, also shows inactive ones.
_COMMAND = rf"""{_MAY_BE_INSTALLED}may_be_installed "$@" || exit 0
names=$(dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\n' "$@" 2>/dev/null |
  awk '$2 != "not-installed" && $2 != "config-files" {{ print $1 }}' | sort -u)
test -n "$names" || exit 0
if cat /sys/block/dm-*/dm/uuid 2>/dev/null | grep -q '^LVM-' ||
  lsblk -rno FSTYPE 2>/dev/null | grep -qx LVM2_member
then
  for name in $names; do test "$name" = lvm2 && echo lvm; done
  names=$(printf '%s\n' $names | grep -vx lvm2)
fi
test -n "$names" || exit 0
printf 'installed %s\n' $names
if plan=$(LC_ALL=C apt-get -s -y -q {OPTIONS} {_READ_ONLY} remove $names 2>&1); then
  printf '%s\n' "$plan" | grep '^Remv '
else
  printf '%s\n' "$plan" | sed -n 's/^E: /error /p' | head -n 1
fi
for snap in /var/lib/snapd/snaps/*_*.snap; do
  test -e "$snap" && snap=${{snap##*/}} && echo "snap ${{snap%_*}}"
done
true
"""

_PLATFORM_SNAPS = re.compile(r"core\d*|bare|snapd")


@dataclass(frozen=True)
class Removal(Value):
    """What the removal of some packages would do.

    + installed: the given packages that are installed, without lvm2 if lvm2 is in use
    + removes: all packages that apt would remove: the packages in `installed`, and all packages
      that depend on these
    + error: apt's message if it cannot remove the packages, otherwise ""
    + lvm_in_use: whether lvm2 is kept, because the node has logical volumes
    + snaps: the installed snaps, without those that only support other snaps, such as "core22"
    """

    installed: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    error: str = ""
    lvm_in_use: bool = False
    snaps: tuple[str, ...] = ()


class Simulation(NodeFact[Removal]):
    """What the removal of packages would do, according to apt's simulation.

    apt is called only if one of the packages is installed.

    + names: package names

    **Example:** ``host.get_fact(Simulation, names=("snapd", "plymouth")).removes``
    """

    program = "apt-get"

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        return StringCommand("set --", *map(QuoteString, as_tuple(names)), "\n", _COMMAND)

    @override
    def parse(self, lines: list[str]) -> Removal:
        """Read ``KEY VALUE`` lines. The lines of apt-get have the form ``Remv NAME [VERSION]``."""
        found = grouped(filter(None, lines), "installed Remv error lvm snap")
        removes = {value.split(" ")[0].partition(":")[0] for value in found["Remv"]}
        snaps = {name for name in found["snap"] if not _PLATFORM_SNAPS.fullmatch(name)}
        return Removal(
            installed=tuple(found["installed"]),
            removes=tuple(sorted(removes)),
            error="".join(found["error"]),
            lvm_in_use=bool(found["lvm"]),
            snaps=tuple(sorted(snaps)),
        )


class RemovalPlan(ComposedFact[Removal]):
    """What the removal of packages would do: apt's simulation, compared with dpkg's list.

    If the installation is damaged, the simulation may miss a package that dpkg lists as installed.
    In this case, `installed` has only the missed packages, and `error` says that the installation
    is damaged.

    + names: package names

    **Example:** ``host.get_fact(RemovalPlan, names=("snapd", "plymouth")).removes``
    """

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        return super().command(names=names)

    @override
    def reads(self, names: tuple[str, ...] | str) -> tuple[Read, ...]:
        names = as_tuple(names)
        return (Read.of(Simulation, names=names), Read.of(Installed, names=names))

    @override
    def compose(
        self,
        simulated: Removal,
        installed: dict[str, PackageState],
        names: tuple[str, ...] | str,
    ) -> Removal:
        known = {*simulated.installed, *(("lvm2",) if simulated.lvm_in_use else ())}
        if missed := sorted({*installed} - known):
            return Removal(tuple(missed), error="the installation is damaged; see dpkg --audit.")
        return simulated
