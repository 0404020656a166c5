"""Read the systemd journal's configuration."""

from __future__ import annotations

from typing_extensions import override

from chaos_engine.facts.health import Check
from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.systemd_files import (
    effective,
    folders,
    listing,
    parse_listing,
    settings,
)

FOLDERS = folders("systemd/journald.conf.d")

KERNEL = "/proc/cmdline"

# journald reads these words of the kernel's command line after all files
# (systemd-journald.service(8)). The second value is that of a word without "="
_WORDS = {
    "systemd.journald.forward_to_syslog": ("ForwardToSyslog", "yes"),
    "systemd.journald.max_level_syslog": ("MaxLevelSyslog", None),
}

DropIn = tuple[str, str]
"""A file and a ``Name=value`` that it sets."""


class DropIns(NodeFact[tuple[DropIn, ...]]):
    """The settings in drop-ins of ``journald.conf`` and on the kernel's command line, in the order
    in which they apply: pairs of a path and a ``Name=value``.

    They are read by the rules of `chaos_engine.facts.systemd_files`. Masked drop-ins are left out.

    **Example:** ``host.get_fact(DropIns)``
    """

    @override
    def command(self) -> str:
        return f'{listing(FOLDERS)}; echo; read -r words <{KERNEL}; echo "$words"'

    @staticmethod
    @override
    def default() -> tuple[DropIn, ...]:
        return ()

    @override
    def parse(self, lines: list[str]) -> tuple[DropIn, ...]:
        return parse_drop_ins(lines)


def parse_drop_ins(lines: list[str], folders: tuple[str, ...] = FOLDERS) -> tuple[DropIn, ...]:
    """Read a line of `listing`, and the kernel's command line.

    + folders: where the listed files are, the strongest first
    """
    found: list[DropIn] = []
    for path, text in effective(parse_listing(lines[0]), folders):
        found += [
            (path, f"{name}={value}")
            for section, name, value in settings(text)
            if section == "Journal"
        ]
    for word in " ".join(lines[1:]).split():
        key, equals, value = word.partition("=")
        name, default = _WORDS.get(key.replace("-", "_"), ("", None))
        if name and (equals or default):
            found.append((KERNEL, f"{name}={value if equals else default}"))
    return tuple(found)


JOURNAL_IN_RAM = Check(
    "journald",
    # The process is found by systemd, because any program may have journald's name
    'open=$(ls -l "/proc/$(systemctl show -p MainPID --value systemd-journald)/fd") '
    '&& ! echo "$open" | grep -q /var/log/journal',
    "journald does not run, or still writes to /var/log/journal; reboot the node",
)
