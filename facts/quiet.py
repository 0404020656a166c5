"""Read which programs regularly write to a node's card, and how they are configured."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.observe import ComposedFact, Read, Value
from chaos_engine.facts.systemd import UnitProperties
from chaos_engine.facts.systemd_files import (
    effective,
    files_in,
    folders,
    settings,
    texts_of,
    unit_folders,
)

APT_TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer")
"""The timers that start apt to fetch package lists and to install upgrades."""

MAN_TIMER = "man-db.timer"
CLOCK_TIMER = "fake-hwclock-save.timer"
TIMESYNCD = "systemd-timesyncd.service"
COREDUMP = "systemd-coredump.socket"

UNIT_NAMES = (*APT_TIMERS, MAN_TIMER, CLOCK_TIMER, TIMESYNCD, COREDUMP)

CLOCK_CRON = "/etc/cron.hourly/fake-hwclock"
"""A script of fake-hwclock that saves the time every hour. From Debian 13 on, the script does
nothing, and the timer `CLOCK_TIMER` saves the time."""

DROP_IN_FOLDERS = {
    "timesyncd.conf": folders("systemd/timesyncd.conf.d"),
    "coredump.conf": folders("systemd/coredump.conf.d"),
    **{timer: unit_folders(timer) for timer in APT_TIMERS},
}
"""The folders of drop-ins. A key is the configuration file or the unit that the drop-ins change."""

_SECTIONS = {
    "timesyncd.conf": "Time",
    "coredump.conf": "Coredump",
    **dict.fromkeys(APT_TIMERS, "Timer"),
}


@dataclass(frozen=True)
class DropInSetting(Value):
    """A setting in a drop-in.

    + path: path of the drop-in
    + of: the file or unit that the drop-in changes, a key of `DROP_IN_FOLDERS`
    + setting: ``Name=value``
    """

    path: str
    of: str
    setting: str


@dataclass(frozen=True)
class WriterState(Value):
    """The programs that regularly write to the card.

    + units: whether each unit in `UNIT_NAMES` runs, by the unit's name. Units that the node does
      not have are missing
    + settings: the settings in the drop-ins, in the order in which they apply
    + hourly_clock: whether `CLOCK_CRON` exists
    """

    units: dict[str, bool]
    settings: tuple[DropInSetting, ...] = ()
    hourly_clock: bool = False


class TimedWriters(ComposedFact[WriterState]):
    """Which programs regularly write to the card, and how they are configured.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.quiet.TimedWriters``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        drop_ins = (one for paths in DROP_IN_FOLDERS.values() for one in files_in(paths))
        return (
            Read.of(UnitProperties, units=UNIT_NAMES),
            Read.of(Texts, patterns=(*drop_ins, CLOCK_CRON)),
        )

    @override
    def compose(
        self, properties: dict[str, dict[str, str]], texts: dict[str, bytes | None]
    ) -> WriterState:
        files = texts_of(texts)
        return WriterState(
            {
                name: properties[name]["ActiveState"] == "active"
                for name in UNIT_NAMES
                if properties[name]["LoadState"] != "not-found"
            },
            tuple(
                DropInSetting(path, of, f"{name}={value}")
                for of, places in DROP_IN_FOLDERS.items()
                for path, text in effective(files, places)
                for section, name, value in settings(text)
                if section == _SECTIONS[of]
            ),
            CLOCK_CRON in texts,
        )
