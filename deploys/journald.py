"""Keep the systemd journal in RAM, limit its size, and forward it to syslog."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.facts.journald import JOURNAL_IN_RAM
from chaos_engine.operations.engine.arguments import MemorySize, memory_bytes
from chaos_engine.operations.journald import configure_journald
from chaos_engine.templates import render

PATH = "/etc/systemd/journald.conf.d/90-chaos-engine.conf"


class JournaldSettings(Settings):
    """Settings of `journald`."""

    journald_max_use: MemorySize = Field(
        "64M", description="how much RAM the journal may take, with a suffix K, M or G"
    )
    journald_max_file_size: MemorySize = Field(
        "8M", description="size at which a journal file is rotated, with a suffix K, M or G"
    )

    def conflicts(self) -> Iterator[str]:
        """Yield a message if the limit for one journal file is above the limit for all files."""
        yield from super().conflicts()
        if memory_bytes(self.journald_max_file_size) > memory_bytes(self.journald_max_use):
            yield (
                f"chaos_journald_max_file_size: one file may take {self.journald_max_file_size}, "
                f"but all files together only {self.journald_max_use} (chaos_journald_max_use); "
                "choose a smaller file size"
            )


@concern("Journal", JournaldSettings, health=[JOURNAL_IN_RAM])
def journald(settings: JournaldSettings) -> None:
    """Keep the journal in RAM and forward it to syslog at every level.

    journald opens its files before the log share is mounted on ``/var/log``. So journald would
    write a persistent journal to the SD card, below the mount (journald.conf(5), ``Storage=``).
    Files of an old journal stay on the card.

    This concern's drop-in sets ``ForwardToSyslog``. Debian has a drop-in with that setting, but
    other distributions may have none.
    """
    configure_journald(
        name="Keep the journal in RAM",
        path=PATH,
        config=render(
            "journald.conf.j2",
            max_use=settings.journald_max_use,
            max_file_size=settings.journald_max_file_size,
        ),
    )
