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

    + complete: false if its installation was interrupted, or if some of its files may not be on the
      card yet (`chaos_engine.facts.manifest.CHANGING`)
    """

    version: str
    held: bool
    complete: bool


class Packages(SeveralFact[PackageState]):
    """The installed packages among `names`.

    A removed package whose configuration files remain counts as not installed.

    + names: names of binary packages

    **Example:** ``host.get_fact(Packages, names=("docker.io", "kubelet"))``
    """

    argument = "names"

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        return StringCommand(
            f"sed 's/^/changing /' {CHANGING} 2>/dev/null; dpkg-query -W -f",
            "'${Package} ${db:Status-Want} ${db:Status-Status} ${db:Status-Eflag} ${Version}\\n'",
            *map(QuoteString, as_tuple(names)),
            "2>/dev/null; true",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, PackageState]:
        """Read the lines ``changing NAME`` and ``NAME WANT STATUS FLAG VERSION``.

        The first are of `CHANGING`, the second of dpkg-query.
        """
        found = {}
        changing = set()
        for line in lines:
            if line.startswith("changing "):
                changing.add(line.partition(" ")[2])
                continue
            name, want, status, flag, version = [*line.split(" "), ""][:5]
            if status not in ("not-installed", "config-files"):
                complete = status == "installed" and flag == "ok" and name not in changing
                found[name] = PackageState(version, want == "hold", complete)
        return found
