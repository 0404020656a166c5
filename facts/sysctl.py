"""Kernel modules and kernel parameters, as they are now and as the next boot sets them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.systemd_files import (
    BLANKS,
    effective,
    folders,
    listing,
    parse_listing,
    physical_lines,
)
from chaos_engine.facts.text import several

FOLDERS = folders("sysctl.d")

# One variable of the kernel's under two names (net/ipv4/devinet.c, devinet_sysctl); any
# connection tracking's limit likewise (net/netfilter/nf_conntrack_standalone.c)
_SAME = (
    ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"),
    ("net/netfilter/nf_conntrack_max", "net/nf_conntrack_max"),
)

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


class BootSetting(NamedTuple):
    """A line of a ``sysctl.d`` file: `key` with slashes, "net/ipv4/conf/*/forwarding"."""

    file: str
    key: str
    value: str


@dataclass(frozen=True)
class Sysctl(Value):
    """A kernel parameter. `live` is its value now, ``None`` if there is no such parameter; `boot`
    is what files set it to at boot, under any of its names, in the order of the files."""

    live: str | None = None
    boot: tuple[BootSetting, ...] = ()


class Sysctls(NodeFact[dict[str, Sysctl]]):
    """Each kernel parameter by name.

    + names: with dots, ``net.ipv4.ip_forward``

    What boot sets is read as systemd-sysctl(8) does (sysctl.d(5), ``src/sysctl/sysctl.c``), from
    the files that count by the rules of `chaos_engine.facts.systemd_files`. ``/etc/sysctl.conf`` is
    among them where the distribution links it. Lines are not continued; ``#`` and ``;`` begin
    comments; a leading ``-`` tolerates failure, or, without ``=``, keeps a key from globs. Where a
    slash comes before any dot in a key, both stand for themselves, else they change places.

    **Example:** ``host.get_fact(Sysctls, names=("net.ipv4.ip_forward",))``
    """

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        names = several(names)
        return StringCommand(
            listing(FOLDERS),
            "; echo;",
            # One process for all; not the shell's own read, which gets one byte of such a file
            "printf 'name %s\\n'",
            *(QuoteString(name) for name in names),
            "; grep -Hs .",
            *(QuoteString(path(name)) for name in names),
            "; true",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, Sysctl]:
        return parse_sysctls(lines)


def path(name: str) -> str:
    """Where the kernel keeps a parameter."""
    return f"/proc/sys/{slashed(name)}"


def parse_sysctls(lines: list[str], folders: tuple[str, ...] = FOLDERS) -> dict[str, Sysctl]:
    """Read a line of `listing`, then ``name NAME`` and ``PATH:VALUE`` lines."""
    found: dict[str, Sysctl] = {}
    for line in lines[1:]:
        if line.startswith("name "):
            found[line[5:]] = Sysctl()
        else:
            place, _, value = line.partition(":")
            name = dotted(place.removeprefix("/proc/sys/"))
            found[name] = Sysctl(live=" ".join(value.split()))
    settings = [
        BootSetting(file, key, value)
        for file, text in effective(parse_listing(lines[0]), folders)
        for key, value in boot_settings(text)
    ]
    return {
        name: replace(
            sysctl,
            boot=tuple(one for one in settings if any(matches(one.key, k) for k in aliases(name))),
        )
        for name, sysctl in found.items()
    }


def boot_settings(text: str) -> Iterator[tuple[str, str]]:
    """The keys, with slashes, and values that a file sets, in its order; what only keeps a key from
    globs has no value and is a key with a minus sign."""
    for line in physical_lines(text):
        if not line or line.startswith(("#", ";")):
            continue
        key, equals, value = line.partition("=")
        if equals:
            yield slashed(key.removeprefix("-").strip(BLANKS)), value.strip(BLANKS)
        elif key.startswith("-"):
            yield f"-{slashed(key[1:].strip(BLANKS))}", ""


def slashed(key: str) -> str:
    """The key as a path below ``/proc/sys``."""
    separator = re.search("[./]", key)
    if separator and separator[0] == ".":
        key = dotted(key)
    return re.sub("/+", "/", key).strip("/")


def dotted(key: str) -> str:
    """A key with slashes in the form with dots, and the other way round."""
    return key.translate({ord("."): "/", ord("/"): "."})


def aliases(name: str) -> tuple[str, ...]:
    """All keys of a parameter, its own first."""
    key = slashed(name)
    return next((keys for keys in _SAME if key in keys), (key,))


def matches(pattern: str, key: str) -> bool:
    """Whether a key of a file stands for this one, as a glob or as itself."""
    parts, own = pattern.removeprefix("-").split("/"), key.split("/")
    return len(parts) == len(own) and all(
        part == name or (not name.startswith(".") and fnmatchcase(name, part.replace("[^", "[!")))
        for part, name in zip(parts, own, strict=True)
    )


def is_glob(key: str) -> bool:
    """Whether a key of a file may stand for several."""
    return any(letter in "*?[" for letter in key)


def last_at_boot(name: str, settings: Iterable[BootSetting]) -> BootSetting | None:
    """What decides a parameter's value after boot, if any of these settings does: a pure function.

    + settings: in the order of the files, as `Sysctl.boot` has them

    What is set once more to the same value keeps its place; a glob sets what no line names itself.
    """
    order: dict[str, BootSetting] = {}
    for setting in settings:
        before = order.get(setting.key)
        if before is None or before.value != setting.value:
            order.pop(setting.key, None)
            order[setting.key] = setting
    named = {key.removeprefix("-") for key in order if not is_glob(key)}
    last = None
    for key, setting in order.items():
        if key.startswith("-"):
            continue
        for own in aliases(name):
            if key == own or (is_glob(key) and own not in named and matches(key, own)):
                last = setting
    return last
