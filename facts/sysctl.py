"""Kernel modules and kernel parameters, as they are now and as the next boot sets them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import several

ModuleState = Literal["loaded", "available", "missing"]
_STATES: dict[str, ModuleState] = {s: s for s in ("loaded", "available", "missing")}


class KernelModules(NodeFact[dict[str, ModuleState]]):
    """Whether each module is there: "loaded" (or built in), "available" or "missing".

    + names: module names as the kernel writes them, with underscores

    **Example:** ``host.get_fact(KernelModules, names=("overlay", "br_netfilter"))``
    """

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        names = several(names)
        return StringCommand(
            "PATH=$PATH:/usr/sbin:/sbin; for m in",
            *(QuoteString(name) for name in names),
            '; do if [ -d "/sys/module/$m" ]'
            ' || grep -qs "/$m[.]ko" "/lib/modules/$(uname -r)/modules.builtin";'
            ' then echo "$m loaded";'
            ' elif modprobe -n -q -- "$m" 2>/dev/null; then echo "$m available";'
            ' else echo "$m missing"; fi; done',
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, ModuleState]:
        words = (line.split(" ") for line in lines)
        return {name: _STATES[state] for name, state in words}


@dataclass(frozen=True)
class Sysctl(Value):
    """A kernel parameter. `live` is its value now, ``None`` if there is no such parameter;
    `configured` what the last file that names it sets at boot, ``None`` if none does, and
    `configured_by` is that file."""

    live: str | None = None
    configured: str | None = None
    configured_by: str = ""


class Sysctls(NodeFact[dict[str, Sysctl]]):
    """Each kernel parameter by name.

    + names: with dots, ``net.ipv4.ip_forward``

    What boot sets is asked of systemd-sysctl(8): it prints the files of all ``sysctl.d`` folders
    in the order in which they apply, ``/etc/sysctl.conf`` among them where the distribution
    links it.

    **Example:** ``host.get_fact(Sysctls, names=("net.ipv4.ip_forward",))``
    """

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        names = several(names)
        keys = "|".join(name.replace(".", "[./]") for name in names)
        return StringCommand(
            # One process for all; not the shell's own read, which gets one byte of such a file
            "printf 'name %s\\n'",
            *(QuoteString(name) for name in names),
            "; grep -Hs .",
            *(QuoteString(path(name)) for name in names),
            "; /usr/lib/systemd/systemd-sysctl --cat-config 2>/dev/null | grep -aE",
            QuoteString(rf"^# /|^[[:space:]]*-?({keys})[[:space:]]*="),
            "; true",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, Sysctl]:
        return parse_sysctls(lines)


def path(name: str) -> str:
    """Where the kernel keeps a parameter."""
    return f"/proc/sys/{name.replace('.', '/')}"


def parse_sysctls(lines: list[str]) -> dict[str, Sysctl]:
    """Read ``name NAME`` and ``PATH:VALUE`` lines, then ``# FILE`` and ``NAME = VALUE`` lines."""
    found: dict[str, Sysctl] = {}
    file = ""
    for line in lines:
        if line.startswith("# /"):
            file = line[2:]
        elif line.startswith("name "):
            found[line[5:]] = Sysctl()
        elif not file:
            place, _, value = line.partition(":")
            name = place.removeprefix("/proc/sys/").replace("/", ".")
            found[name] = Sysctl(live=" ".join(value.split()))
        else:
            key, _, value = line.partition("=")
            name = key.strip().removeprefix("-").replace("/", ".")
            found[name] = replace(
                found.get(name, Sysctl()), configured=value.strip(), configured_by=file
            )
    return found
