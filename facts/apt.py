"""Read the state of Debian packages from dpkg."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.manifest import CHANGING
from chaos_engine.facts.observe import ComposedFact, Read, SeveralFact, Value
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


class Installed(SeveralFact[PackageState]):
    """The installed packages among `names`, as dpkg knows them.

    dpkg reads its whole database for one name, so all facts that are about packages ask by this
    one. A removed package whose configuration files remain counts as not installed.

    + names: names of binary packages

    **Example:** ``host.get_fact(Installed, names=("docker.io", "kubelet"))``
    """

    argument = "names"

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        return StringCommand(
            "dpkg-query -W -f",
            "'${Package} ${db:Status-Want} ${db:Status-Status} ${db:Status-Eflag} ${Version}\\n'",
            *map(QuoteString, as_tuple(names)),
            "2>/dev/null; true",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, PackageState]:
        """Read the lines ``NAME WANT STATUS FLAG VERSION``."""
        found = {}
        for line in lines:
            name, want, status, flag, version = [*line.split(" "), ""][:5]
            if status not in ("not-installed", "config-files"):
                complete = status == "installed" and flag == "ok"
                found[name] = PackageState(version, want == "hold", complete)
        return found


class Packages(ComposedFact[dict[str, PackageState]]):
    """The installed packages among `names`, as dpkg knows them and `CHANGING` tells.

    + names: names of binary packages

    **Example:** ``host.get_fact(Packages, names=("docker.io", "kubelet"))``
    """

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        return super().command(names=names)

    @override
    def reads(self, names: tuple[str, ...] | str) -> tuple[Read, ...]:
        return (
            Read.of(Installed, names=as_tuple(names)),
            Read.of(Texts, patterns=(CHANGING,)),
        )

    @override
    def compose(
        self,
        installed: dict[str, PackageState],
        texts: dict[str, bytes | None],
        names: tuple[str, ...] | str,
    ) -> dict[str, PackageState]:
        changing = (texts.get(CHANGING) or b"").decode(errors="replace").splitlines()
        return {
            name: replace(one, complete=one.complete and name not in changing)
            for name, one in installed.items()
        }
