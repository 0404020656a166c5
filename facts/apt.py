"""Read the state of Debian packages from dpkg."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.manifest import CHANGING
from chaos_engine.facts.observe import SeveralFact, Value
from chaos_engine.facts.text import as_tuple


@dataclass(frozen=True)
class PackageState(Value):
    """An installed package.

    + complete: False if its installation was interrupted, or if some of it may not be on the card
    """

    version: str
    held: bool
    complete: bool


class Packages(SeveralFact[PackageState]):
    """The packages among `names` that are installed. A removed package whose configuration files
    remain counts as not installed.

    + names: binary package names

    **Example:** ``host.get_fact(Packages, names=("docker.io", "kubelet"))``
    """

    argument = "names"

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        names = as_tuple(names)
        return StringCommand(
            f"sed 's/^/changing /' {CHANGING} 2>/dev/null; dpkg-query -W -f",
            "'${Package} ${db:Status-Want} ${db:Status-Status} ${db:Status-Eflag} ${Version}\\n'",
            *(QuoteString(name) for name in names),
            "2>/dev/null; true",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, PackageState]:
        return parse_packages(lines)


def parse_packages(lines: list[str]) -> dict[str, PackageState]:
    """Read ``changing NAME`` lines (`CHANGING`), then ``NAME WANT STATUS FLAG VERSION`` lines of
    dpkg-query."""
    found = {}
    changing = set()
    for line in lines:
        if line.startswith("changing "):
            changing.add(line.partition(" ")[2])
            continue
        name, want, status, flag, version = [*line.split(" "), ""][:5]
        if status not in ("not-installed", "config-files"):
            whole = status == "installed" and flag == "ok" and name not in changing
            found[name] = PackageState(version, want == "hold", whole)
    return found
