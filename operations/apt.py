"""Install packages, at a version where one is wanted, and hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.observe import Read, current, observe
from chaos_engine.operations.engine.arguments import PackageName, PackageVersion
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.shell import NOTES, PRELUDE, for_concern, quote, shell_command
from chaos_engine.templates import shell_script

APT = shell_script("apt")
"""Shell functions of every script that calls apt. They need the functions of `NOTES`."""

INSTALL = "apt install --no-install-recommends --allow-downgrades --allow-change-held-packages --"
"""Shell command that installs packages. Put it after `APT`, and the packages' names after it."""


def reads(present: Mapping[str, str | None], hold: Iterable[str] = ()) -> list[Read]:
    """Return what `install_packages` will observe for the same arguments."""
    return [Read.of(Packages, names=tuple(sorted({*present, *hold})))]


@converge(reads=reads)
def install_packages(
    present: Mapping[PackageName, PackageVersion | None], hold: Iterable[PackageName] = ()
) -> Commands:
    """Have packages installed, at the given versions, and held.

    + present: wanted version of each package by its name, ``None`` for any version. The
      wanted version may be higher or lower than the installed one
    + hold: names of packages that apt shall not upgrade (``apt-mark hold``)

    The package lists are refreshed only if something has to be installed. A source that fails gives
    a warning. The operation fails only if a package cannot be had without that source. Recommended
    packages are not installed.

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
    """Return those of the packages that are not there, or not completely installed.

    + found: the packages that are there, by name
    """
    return [name for name in names if name not in found or not found[name].complete]


def plan(
    present: Mapping[str, str | None], hold: Iterable[str], found: Mapping[str, PackageState]
) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """Return the packages to install, with their versions, and those to hold: a pure function.

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

    + missing, unheld: what `plan` returns
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
