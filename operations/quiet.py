"""Make apt, man-db and other programs write less to the SD card."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Literal

from chaos_engine.facts.observe import NodeError, Read, observe, warn
from chaos_engine.facts.quiet import (
    APT_TIMERS,
    CLOCK_CRON,
    CLOCK_TIMER,
    COREDUMP,
    DROP_IN_FOLDERS,
    MAN_TIMER,
    TIMESYNCD,
    UNIT_NAMES,
    DropInSetting,
    TimedWriters,
    WriterState,
)
from chaos_engine.facts.systemd_files import settings
from chaos_engine.facts.unit_traces import UNITS
from chaos_engine.operations import files
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.files import File, Unit
from chaos_engine.templates import render

Often = Literal["daily", "weekly", "off"]

MAN_TRIGGER = "/var/lib/man-db/auto-update"
"""While this file exists, man-db's index is rewritten whenever a package is installed."""

APT_CONF = "/etc/apt/apt.conf.d/90chaos-engine-quiet"
TIMESYNCD_CONF = f"{DROP_IN_FOLDERS['timesyncd.conf'][0]}/90-chaos-engine.conf"
TIMESYNCD_UNIT = Unit(
    TIMESYNCD, reads=(f"{DROP_IN_FOLDERS['timesyncd.conf'][0]}/*.conf",), enabled=None
)
"""systemd-timesyncd. The concern `clock` writes a drop-in into the same folder, so both have to
name the same files: a unit has one record of the files that it has read."""
COREDUMP_CONF = f"{DROP_IN_FOLDERS['coredump.conf'][0]}/90-chaos-engine.conf"

_WEEKLY = {"apt-daily.timer": "Sat 18:00", "apt-daily-upgrade.timer": "Sun 07:00"}
"""The time at which each timer runs if it runs weekly. apt-daily.timer has a random delay of up to
12 hours (RandomizedDelaySec). The other timer runs 13 hours later, so it finds fresh lists."""

_TIMES = frozenset(
    f"On{what}"
    for what in (
        "Calendar",
        "ActiveSec",
        "BootSec",
        "StartupSec",
        "UnitActiveSec",
        "UnitInactiveSec",
    )
)
"""The settings that say when a timer runs. Each of them adds a time. An empty value of any of them
removes all times so far, also those from the other settings (systemd.timer(5))."""

Wanted = tuple[list[File], list[str], list[Unit]]
"""The files to write, the paths to remove, and the units with their wanted states."""


def weekly_drop_in(timer: str) -> str:
    """Return the path of the drop-in that makes a timer run weekly."""
    return f"{UNITS}/{timer}.d/50-chaos-engine.conf"


def reads(
    apt_timers: Often = "daily",
    apt_cache: bool = False,
    man_db: bool = False,
    clock: bool = False,
    coredumps: bool = False,
) -> list[Read]:
    """Return the facts that `quieten_writers` reads when called with these arguments."""
    everything = WriterState(dict.fromkeys(UNIT_NAMES, True), (), True)
    present, absent, units = wanted(everything, apt_timers, apt_cache, man_db, clock, coredumps)
    absent.append(CLOCK_CRON)
    return [Read.of(TimedWriters), *files.reads(present, absent, units)]


@converge(reads=reads)
def quieten_writers(
    apt_timers: Often = "daily",
    apt_cache: bool = False,
    man_db: bool = False,
    clock: bool = False,
    coredumps: bool = False,
) -> Commands:
    """Make apt, man-db and other programs write less to the SD card.

    + apt_timers: how often apt fetches its lists and installs upgrades by itself. "off" also stops
      security upgrades that the node installs by itself. "daily" changes nothing
    + apt_cache: whether apt shall compress its lists, leave out long descriptions, and stop saving
      the caches that it builds from the lists
    + man_db: whether man-db shall stop updating its index of manual pages
    + clock: whether the node shall save the clock's time less often: once an hour and when a time
      server answers, instead of each minute
    + coredumps: whether systemd-coredump shall stop saving the memory of programs that crash

    A program that the node does not have is skipped. Raises `NodeError` if another drop-in
    overrides a setting, or changes the time of a weekly timer.

    **Example:** ``quieten_writers(name="Quieten other writers", man_db=True)``
    """
    found = observe(TimedWriters)
    present, absent, units = wanted(found, apt_timers, apt_cache, man_db, clock, coredumps)
    stronger = [(file, one) for file in present for one in overrides(file, found.settings)]
    if stronger:
        folders = sorted({posixpath.dirname(file.path) for file, _ in stronger})
        raise NodeError(
            f"settings of {' and '.join(folders)} are overridden, because "
            f"{' and '.join(f'{one.path} sets {one.setting}' for _, one in stronger)}; remove the "
            "overriding settings and run again"
        )
    if clock and not found.units.get(TIMESYNCD):
        warn(
            "systemd-timesyncd does not run on this node, so the node saves its clock's time as "
            "often as before"
        )
    yield from files.transaction(files.decide(present, absent, units), noop="all writers are quiet")


def wanted(
    found: WriterState,
    apt_timers: Often,
    apt_cache: bool,
    man_db: bool,
    clock: bool,
    coredumps: bool,
) -> Wanted:
    """Return the files to write, the paths to remove, and the wanted states of units.

    They make programs write less. This is a pure function.

    + found: the programs that the node has
    + apt_timers, apt_cache, man_db, clock, coredumps: as `quieten_writers` takes them
    """
    present: list[File] = []
    absent: list[str] = []
    units: list[Unit] = []
    for timer in APT_TIMERS:
        if apt_timers == "weekly" and timer in found.units:
            config = render("quiet-weekly.timer.j2", day=_WEEKLY[timer])
            present.append(File(weekly_drop_in(timer), config))
            units.append(Unit(timer))
        elif apt_timers == "off":
            absent.append(weekly_drop_in(timer))
            units.append(_off(timer))
    if apt_cache:
        present.append(File(APT_CONF, render("quiet-apt.conf.j2")))
    if man_db:
        absent.append(MAN_TRIGGER)
        units.append(_off(MAN_TIMER))
    # without timesyncd, fake-hwclock may be all that saves the time
    if clock and found.units.get(TIMESYNCD):
        units += [_off(CLOCK_TIMER), TIMESYNCD_UNIT]
        present.append(File(TIMESYNCD_CONF, render("quiet-timesyncd.conf.j2")))
        if found.hourly_clock and CLOCK_TIMER not in found.units:
            absent.append(CLOCK_CRON)
    if coredumps and COREDUMP in found.units:
        present.append(File(COREDUMP_CONF, render("quiet-coredump.conf.j2")))
    return present, absent, units


def overrides(file: File, found: tuple[DropInSetting, ...]) -> Iterator[DropInSetting]:
    """Yield the settings in other drop-ins that override a file's settings.

    This is a pure function.

    + file: a file that the operation writes. If this file is not a drop-in, nothing is yielded
    + found: the settings of all drop-ins, in the order in which they apply
    """
    folder, own_name = posixpath.split(file.path)
    later = [
        one
        for one in found
        if folder in DROP_IN_FOLDERS[one.of] and posixpath.basename(one.path) > own_name
    ]
    own = [f"{name}={value}" for _, name, value in settings(file.data.decode())]
    added = [one for one in later if one.setting.partition("=")[0] in _TIMES]
    if times(own) != times([*own, *(one.setting for one in added)]):
        yield from added
    last = {one.setting.partition("=")[0]: one for one in later if one not in added}
    for setting in own:
        one = last.get(setting.partition("=")[0])
        if one and one.setting != setting:
            yield one


def times(given: Iterable[str]) -> set[str]:
    """Return the settings that say when a timer runs.

    This is a pure function.

    + given: the timer's settings ``Name=value``, in the order in which they apply
    """
    found: set[str] = set()
    for setting in given:
        name, _, value = setting.partition("=")
        if name in _TIMES and not value:
            found.clear()
        elif name in _TIMES:
            found.add(setting)
    return found


def _off(unit: str) -> Unit:
    """Return the wanted state of a unit that shall neither run nor start at boot."""
    return Unit(unit, enabled=False, running=False)
