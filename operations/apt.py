"""Install packages with apt, at a given version if wanted, and hold packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.observe import Read, current, observe
from chaos_engine.facts.share import UPPERMOST
from chaos_engine.operations.engine.arguments import PackageName, PackageVersion
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.shell import NOTES, PRELUDE, for_concern, quote, shell_command
from chaos_engine.templates import shell_script

APT = f"{UPPERMOST}{shell_script('torn_lists')}{shell_script('apt')}"
"""Shell functions for scripts that call apt. A script must contain `NOTES` before `APT`.

They contain ``uppermost`` (`UPPERMOST`)."""

INSTALL = "apt install --no-install-recommends --allow-downgrades --allow-change-held-packages --"
"""Beginning of a shell command that installs packages. The packages' names follow. A script must
contain `APT` before this command."""


def reads(present: Mapping[str, str | None], hold: Iterable[str] = ()) -> list[Read]:
    """Return the facts that `install_packages` reads if it gets the same arguments."""
    return [Read.of(Packages, names=tuple(sorted({*present, *hold})))]


@converge(reads=reads)
def install_packages(
    present: Mapping[PackageName, PackageVersion | None], hold: Iterable[PackageName] = ()
) -> Commands:
    """Install packages at the given versions, and hold packages.

    + present: wanted version of each package by the package's name, ``None`` for any version. The
      wanted version may be higher or lower than the installed one
    + hold: names of packages that apt shall not upgrade (``apt-mark hold``)

    The package lists are refreshed only if a package has to be installed. If an apt source fails,
    the operation warns. It fails only if a wanted package is missing from all other sources.
    Recommended packages are not installed.

    **Example:** ``install_packages(name="Install kubelet", present={"kubelet": "1.36.2-1.1"})``
    """
    hold = tuple(sorted(hold))
    names = tuple(sorted({*present, *hold}))
    found = observe(Packages, names=names)
    missing, unheld = plan(present, hold, found)
    if not missing and not unheld:
        current()[1].noop(f"{', '.join(names)}: as wanted")
        return
    because(*listed("install", (f"{n} {v or ''}".rstrip() for n, v in missing.items())))
    because(*listed("hold", unheld))
    yield shell_command(for_concern(compose(missing, unheld)))


def incomplete(found: Mapping[str, PackageState], names: Iterable[str]) -> list[str]:
    """Return the names of the packages that are missing or not completely installed.

    + found: state of each package that the node has, by name
    + names: names of the packages to check
    """
    return [name for name in names if name not in found or not found[name].complete]


def plan(
    present: Mapping[str, str | None], hold: Iterable[str], found: Mapping[str, PackageState]
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Return two results: the packages to install, with their versions, and the packages to hold.

    This is a pure function. A package to install has the version ``None`` if any version will do.

    + present, hold: as `install_packages` takes them
    + found: state of each package that the node has
    """
    bad = incomplete(found, present)
    missing = {
        name: version
        for name, version in sorted(present.items())
        if name in bad or version not in (None, found[name].version)
    }
    unheld = tuple(n for n in hold if n in missing or n not in found or not found[n].held)
    return missing, unheld


def compose(missing: Mapping[str, str | None], unheld: Iterable[str]) -> str:
    """Return the shell script that installs and holds packages.

    + missing, unheld: the two results of `plan`
    """
    lines = [PRELUDE, NOTES, APT]
    if missing:
        wanted = [
            name if version is None else f"{name}={version}" for name, version in missing.items()
        ]
        lines += ["refresh", f"{INSTALL} {quote(*wanted)}"]
    if unheld:
        lines.append(f"hold {quote(*unheld)}")
    return "\n".join([*lines, ""])
