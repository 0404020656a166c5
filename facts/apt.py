"""Debian packages as dpkg knows them."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import SeveralFact, Value
from chaos_engine.facts.text import several


@dataclass(frozen=True)
class PackageState(Value):
    """A package that dpkg has installed; `complete` is False if that was interrupted."""

    version: str
    held: bool
    complete: bool


class Packages(SeveralFact[PackageState]):
    """The packages among `names` that are installed; removed ones whose configuration files are
    left count as not installed.

    + names: binary package names

    **Example:** ``host.get_fact(Packages, names=("docker.io", "kubelet"))``
    """

    argument = "names"

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        names = several(names)
        return StringCommand(
            "dpkg-query -W -f",
            "'${Package} ${db:Status-Want} ${db:Status-Status} ${Version}\\n'",
            *(QuoteString(name) for name in names),
            "2>/dev/null; true",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, PackageState]:
        return parse_packages(lines)


def parse_packages(lines: list[str]) -> dict[str, PackageState]:
    """Read ``NAME WANT STATUS VERSION`` lines of dpkg-query."""
    found = {}
    for line in lines:
        name, want, status, version = [*line.split(" "), ""][:4]
        if status not in ("not-installed", "config-files"):
            found[name] = PackageState(version, want == "hold", status == "installed")
    return found
