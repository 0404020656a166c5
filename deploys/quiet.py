"""Keep other programs from writing to the SD card, each by a switch of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.operations.quiet import quieten_writers


class QuietSettings(Settings):
    """Settings of `quiet`."""

    quiet_apt_timers: Literal["daily", "weekly", "off"] = Field(
        "daily",
        description="how often apt fetches its lists and installs upgrades by itself: daily leaves "
        "its timers as they are; with weekly, security upgrades may be a week late; with off, you "
        "install them yourself. On a default node no upgrade comes by itself, because the concern "
        "packages removes unattended-upgrades",
    )
    quiet_apt_cache: bool = Field(
        False,
        description="true to have apt keep its lists compressed, without long descriptions of "
        "packages, and not save the caches that it builds from them; apt then takes longer",
    )
    quiet_man_db: bool = Field(
        False,
        description="true to stop all writing of the index of manual pages; man finds pages, but "
        "apropos finds none that were installed later",
    )
    quiet_clock: bool = Field(
        False,
        description="true to save the time when a time server answers, and at least once an hour, "
        "not each minute; after a power cut a node without a clock of its own begins with the last "
        "time that was saved",
    )
    quiet_coredumps: bool = Field(
        False,
        description="true to stop systemd-coredump from saving the memory of programs that crash",
    )

    @property
    def quiet_is_wanted(self) -> bool:
        """Tell whether any switch is set."""
        return self.quiet_apt_timers != "daily" or any(
            (self.quiet_apt_cache, self.quiet_man_db, self.quiet_clock, self.quiet_coredumps)
        )


@concern("Other writers", QuietSettings)
def quiet(settings: QuietSettings) -> None:
    """Keep other programs from writing to the SD card, each by a switch of its own.

    With no switch set, nothing is read or changed. A switch for a program that the node does not
    have changes nothing. A switch that is unset later leaves the node as it is; to restore it, undo
    this concern.
    """
    if settings.quiet_is_wanted:
        quieten_writers(
            name="Quieten other writers",
            apt_timers=settings.quiet_apt_timers,
            apt_cache=settings.quiet_apt_cache,
            man_db=settings.quiet_man_db,
            clock=settings.quiet_clock,
            coredumps=settings.quiet_coredumps,
        )
