"""Read the state of Debian packages from dpkg."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.manifest import CHANGING
from chaos_engine.facts.observe import ComposedFact, Read, SeveralFact, Value
from chaos_engine.facts.text import as_tuple

UNFINISHED = "*"
"""A word for the argument `names` of `Installed`. It stands for all packages whose installation was
interrupted."""


@dataclass(frozen=True)
class PackageState(Value):
    """The state of an installed package.

    + complete: false if the installation was interrupted, or if some of the package's files may
      not be on the SD card yet (`chaos_engine.facts.manifest.CHANGING`)
    + architecture: "all" or an architecture such as "arm64". The package dpkg always has the
      architecture of the node
    """

    version: str
    held: bool
    complete: bool
    architecture: str = ""


_QUERY = (
    "dpkg-query -W -f '${Package} ${db:Status-Want} ${db:Status-Status} ${db:Status-Eflag} "
    "${Architecture} ${Version}\\n'"
)


class Installed(SeveralFact[PackageState]):
    """The installed packages among `names`, as dpkg's database lists them.

    All facts about packages use this fact, because dpkg reads its whole database for each call. A
    removed package whose configuration files remain counts as not installed.

    + names: names of binary packages. The word `UNFINISHED` may be among the names

    **Example:** ``host.get_fact(Installed, names=("docker.io", UNFINISHED))``
    """

    argument = "names"

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        names = as_tuple(names)
        # dpkg-query has no pattern for unfinished packages. So it prints all packages, and the
        # shell selects the lines
        if UNFINISHED not in names:
            return StringCommand(_QUERY, *map(QuoteString, names), "2>/dev/null; true")
        asked = (StringCommand(QuoteString(f"{name} "), "* |", _separator="") for name in names)
        return StringCommand(
            f"set -f; IFS='\n'; for line in $({_QUERY} 2>/dev/null); do case $line in",
            *asked,
            '"") echo "$line" ;;',
            "*' installed ok '* | *' not-installed '* | *' config-files '*) ;;",
            '*) echo "$line" ;; esac; done',
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, PackageState]:
        """Read the lines ``NAME WANT STATUS FLAG ARCHITECTURE VERSION``."""
        found = {}
        for line in lines:
            name, want, status, flag, architecture, version = [*line.split(" "), "", ""][:6]
            if status not in ("not-installed", "config-files"):
                complete = status == "installed" and flag == "ok"
                found[name] = PackageState(version, want == "hold", complete, architecture)
        return found

    @override
    @classmethod
    def share(cls, value: dict[str, PackageState], names: Iterable[str]) -> dict[str, PackageState]:
        names = {*names}
        unfinished = {name for name, one in value.items() if not one.complete}
        own = names | unfinished if UNFINISHED in names else names
        return {name: one for name, one in value.items() if name in own}


class Interrupted(ComposedFact[tuple[str, ...]]):
    """The names of the packages whose installation was interrupted.

    **Example:** ``host.get_fact(Interrupted) == ("libc6", "locales")``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (
            Read.of(Installed, names=(UNFINISHED,)),
            Read.of(Texts, patterns=(CHANGING,)),
        )

    @override
    def compose(
        self, installed: dict[str, PackageState], texts: dict[str, bytes | None]
    ) -> tuple[str, ...]:
        unfinished = {name for name, one in installed.items() if not one.complete}
        return tuple(sorted(unfinished | _changing(texts)))


class Packages(ComposedFact[dict[str, PackageState]]):
    """The installed packages among `names`.

    While apt changes a package, the package's `complete` is false. The file `CHANGING` lists the
    packages that apt is changing.

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
        changing = _changing(texts)
        return {
            name: replace(one, complete=one.complete and name not in changing)
            for name, one in installed.items()
        }


def _changing(texts: dict[str, bytes | None]) -> set[str]:
    """Return the names of the packages that apt is changing, or was changing at an interruption."""
    lines = (texts.get(CHANGING) or b"").decode(errors="replace").splitlines()
    return {line.removeprefix("+").partition("=")[0] for line in lines}
