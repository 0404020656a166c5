"""Make apt, man-db and others write less to the SD card. A setting switches each of them."""

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
        description="how often apt's timers fetch package lists and install upgrades: daily (the "
        "timers are not changed), weekly (security upgrades may be a week late) or off (you "
        "install upgrades yourself). By default the timers install nothing, because the concern "
        "packages removes unattended-upgrades",
    )
    quiet_apt_cache: bool = Field(
        False,
        description="whether apt writes less: it keeps its package lists compressed, fetches no "
        "long descriptions of packages, and saves no caches; apt then takes longer",
    )
    quiet_man_db: bool = Field(
        False,
        description="whether the index of manual pages is no longer updated; man still finds all "
        "pages, but apropos does not find pages that are installed later",
    )
    quiet_clock: bool = Field(
        False,
        description="whether the node saves the time less often: once an hour and when a time "
        "server answers, instead of each minute. After a power cut, a node without a hardware "
        "clock starts with the saved time",
    )
    quiet_coredumps: bool = Field(
        False,
        description="whether systemd-coredump no longer saves the memory of programs that crash",
    )

    @property
    def quiet_is_wanted(self) -> bool:
        """Tell whether any setting differs from its default."""
        return self.quiet_apt_timers != "daily" or any(
            (self.quiet_apt_cache, self.quiet_man_db, self.quiet_clock, self.quiet_coredumps)
        )


@concern("Other writers", QuietSettings)
def quiet(settings: QuietSettings) -> None:
    """Make apt, man-db and other programs write less to the SD card.

    If no setting is set, the concern reads and changes nothing. A setting has no effect if the node
    lacks the program. If a setting is removed later, the node stays as it is. To restore the node,
    undo this concern.
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
