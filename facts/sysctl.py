"""Read the state of kernel modules, and the values of kernel parameters now and after a boot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, get_args

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.systemd_files import (
    BLANKS,
    effective,
    files_in,
    folders,
    physical_lines,
    texts_of,
)
from chaos_engine.facts.text import as_tuple, pairs

FOLDERS = folders("sysctl.d")

# Each pair has two names of the same kernel parameter (net/ipv4/devinet.c, devinet_sysctl;
# net/netfilter/nf_conntrack_standalone.c)
_SYNONYMS = (
    ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"),
    ("net/netfilter/nf_conntrack_max", "net/nf_conntrack_max"),
)

ModuleState = Literal["loaded", "available", "missing"]


class KernelModules(NodeFact[dict[str, ModuleState]]):
    """The state of each module: "loaded" (or built in), "available" or "missing".

    + names: module names as the kernel writes them, with underscores

    **Example:** ``host.get_fact(KernelModules, names=("overlay", "br_netfilter"))``
    """

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        return StringCommand(
            "read -r release </proc/sys/kernel/osrelease; PATH=$PATH:/usr/sbin:/sbin; for m in",
            *map(QuoteString, as_tuple(names)),
            '; do if [ -d "/sys/module/$m" ]'
            ' || grep -qs "/${m}[.]ko" "/lib/modules/$release/modules.builtin";'
            ' then echo "$m loaded";'
            ' elif modprobe -n -q -- "$m" 2>/dev/null; then echo "$m available";'
            ' else echo "$m missing"; fi; done',
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, ModuleState]:
        states: dict[str, ModuleState] = {state: state for state in get_args(ModuleState)}
        return {name: states[state] for name, state in pairs(lines).items()}


class BootSetting(NamedTuple):
    """A setting in a ``sysctl.d`` file. `key` has slashes: "net/ipv4/conf/*/forwarding"."""

    file: str
    key: str
    value: str


@dataclass(frozen=True)
class Sysctl(Value):
    """A kernel parameter.

    + live: the current value, ``None`` if the kernel has no such parameter
    + boot: the parameter's settings in ``sysctl.d`` files, in the order in which systemd-sysctl
      reads them. Some parameters have two names: the settings of both names are listed. Settings
      whose key is a matching glob are listed too
    """

    live: str | None = None
    boot: tuple[BootSetting, ...] = ()


class Sysctls(ComposedFact[dict[str, Sysctl]]):
    """The current value and the boot settings of kernel parameters, by the parameter's name.

    + names: names with dots, such as ``net.ipv4.ip_forward``

    Files are read by the rules of systemd-sysctl(8) (sysctl.d(5), ``src/sysctl/sysctl.c``):

    - `chaos_engine.facts.systemd_files` has the rules that tell which files count.
      ``/etc/sysctl.conf`` counts only if there is a link to it in a ``sysctl.d`` folder.
    - A backslash does not continue a line. ``#`` and ``;`` begin comments.
    - ``-`` before a key means that an error is ignored. A line ``-KEY`` without ``=`` excludes the
      key from globs.
    - If the first separator in a key is a dot, dots and slashes are exchanged.

    **Example:** ``host.get_fact(Sysctls, names=("net.ipv4.ip_forward",))``
    """

    @override
    def command(self, names: tuple[str, ...] | str) -> StringCommand:
        return super().command(names=names)

    @override
    def reads(self, names: tuple[str, ...] | str) -> tuple[Read, ...]:
        return (Read.of(Texts, patterns=(*files_in(FOLDERS), *map(path, as_tuple(names)))),)

    @override
    def compose(
        self, texts: dict[str, bytes | None], names: tuple[str, ...] | str
    ) -> dict[str, Sysctl]:
        files = texts_of(texts)
        settings = [
            BootSetting(file, key, value)
            for file, text in effective(files, FOLDERS)
            for key, value in boot_settings(text)
        ]
        values = {name: files.get(path(name)) for name in as_tuple(names)}
        return {
            name: Sysctl(
                live=None if value is None else " ".join(value.split()),
                boot=tuple(
                    one for one in settings if any(matches(one.key, k) for k in aliases(name))
                ),
            )
            for name, value in values.items()
        }


def path(name: str) -> str:
    """Return a kernel parameter's path, which is below ``/proc/sys``."""
    return f"/proc/sys/{slashed(name)}"


def boot_settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of each setting in a ``sysctl.d`` file, in the order of the lines.

    Keys have slashes. A line ``-KEY`` without ``=`` excludes the key from globs. For such a line,
    the yielded key begins with ``-``, and the value is "".

    + text: the file's text
    """
    for line in physical_lines(text):
        if not line or line.startswith(("#", ";")):
            continue
        key, equals, value = line.partition("=")
        if equals:
            yield slashed(key.removeprefix("-").strip(BLANKS)), value.strip(BLANKS)
        elif key.startswith("-"):
            yield f"-{slashed(key[1:].strip(BLANKS))}", ""


def slashed(key: str) -> str:
    """Return the key of a kernel parameter as a path relative to ``/proc/sys``.

    **Example:** ``slashed("net.ipv4.ip_forward") == "net/ipv4/ip_forward"``
    """
    separator = re.search("[./]", key)
    if separator and separator[0] == ".":
        key = dotted(key)
    return re.sub("/+", "/", key).strip("/")


def dotted(key: str) -> str:
    """Exchange dots and slashes in the key of a kernel parameter."""
    return key.translate({ord("."): "/", ord("/"): "."})


def aliases(name: str) -> tuple[str, ...]:
    """Return all keys of a kernel parameter, with slashes. Most parameters have only one key."""
    key = slashed(name)
    return next((keys for keys in _SYNONYMS if key in keys), (key,))


def matches(pattern: str, key: str) -> bool:
    """Tell whether a key in a ``sysctl.d`` file matches the key of a kernel parameter.

    + pattern: the key in the file, with slashes. It may be a glob, and may begin with ``-``
    + key: the parameter's key, with slashes
    """
    parts, own = pattern.removeprefix("-").split("/"), key.split("/")
    return len(parts) == len(own) and all(
        part == name or (not name.startswith(".") and fnmatchcase(name, part.replace("[^", "[!")))
        for part, name in zip(parts, own, strict=True)
    )


def is_glob(key: str) -> bool:
    """Tell whether a key in a ``sysctl.d`` file is a glob."""
    return any(letter in "*?[" for letter in key)


def last_at_boot(name: str, settings: Iterable[BootSetting]) -> BootSetting | None:
    """Return the setting that decides a kernel parameter's value at boot.

    + settings: the settings in the order of `Sysctl.boot`

    The last setting wins. If the next line with the same key repeats the value, the key keeps its
    earlier place in the order. A glob does not set a parameter if another line has the parameter's
    full key. Returns ``None`` if no setting applies.
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
