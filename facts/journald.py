"""Read the systemd journal's configuration."""

from __future__ import annotations

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.health import Check
from chaos_engine.facts.observe import ComposedFact, Read
from chaos_engine.facts.systemd_files import effective, files_in, folders, settings, texts_of

FOLDERS = folders("systemd/journald.conf.d")

KERNEL = "/proc/cmdline"

# journald reads these words of the kernel's command line after all files
# (systemd-journald.service(8)). Each word comes with the name of the setting, and with the value
# that a word without "=" sets. None: a word without "=" sets nothing
_WORDS = {
    "systemd.journald.forward_to_syslog": ("ForwardToSyslog", "yes"),
    "systemd.journald.max_level_syslog": ("MaxLevelSyslog", None),
}

DropIn = tuple[str, str]
"""The path of a file, and a setting ``Name=value`` in this file."""


class DropIns(ComposedFact[tuple[DropIn, ...]]):
    """The journal's settings in drop-ins of ``journald.conf`` and on the kernel's command line.

    Each item is a pair of a path and ``Name=value``. The items have the order in which journald
    applies them. Masked drop-ins are left out (`chaos_engine.facts.systemd_files`).

    **Example:** ``host.get_fact(DropIns)``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (Read.of(Texts, patterns=(*files_in(FOLDERS), KERNEL)),)

    @override
    def compose(self, texts: dict[str, bytes | None]) -> tuple[DropIn, ...]:
        files = texts_of(texts)
        found = [
            (path, f"{name}={value}")
            for path, text in effective(files, FOLDERS)
            for section, name, value in settings(text)
            if section == "Journal"
        ]
        for word in files[KERNEL].split():
            key, equals, value = word.partition("=")
            name, default = _WORDS.get(key.replace("-", "_"), ("", None))
            if name and (equals or default):
                found.append((KERNEL, f"{name}={value if equals else default}"))
        return tuple(found)


JOURNAL_IN_RAM = Check(
    "journald",
    # The ID of journald's process comes from systemd, because other processes may have its name
    'open=$(ls -l "/proc/$(systemctl show -p MainPID --value systemd-journald)/fd") '
    '&& ! echo "$open" | grep -q /var/log/journal',
    "journald does not run, or still writes to /var/log/journal; reboot the node",
)
