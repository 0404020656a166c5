"""Test which of the other writers become quiet, and by which files and units."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.deploys.quiet import QuietSettings, quiet
from chaos_engine.deploys.verify import findings
from chaos_engine.facts.health import Health
from chaos_engine.facts.observe import HostAnswers, Read, of_host
from chaos_engine.facts.quiet import (
    CLOCK_CRON,
    CLOCK_TIMER,
    COREDUMP,
    TIMESYNCD,
    UNIT_NAMES,
    DropInSetting,
    TimedWriters,
    WriterState,
)
from chaos_engine.facts.systemd import Units, UnitState
from chaos_engine.operations.files import File, Unit
from chaos_engine.operations.quiet import (
    APT_CONF,
    COREDUMP_CONF,
    MAN_TRIGGER,
    TIMESYNCD_CONF,
    TIMESYNCD_UNIT,
    Wanted,
    overrides,
    wanted,
    weekly_drop_in,
)
from tests.unit.asking import files_below
from tests.unit.nodes import Nodes
from tests.unit.test_hostile_values import Known, Nothing

ALL = WriterState(dict.fromkeys(UNIT_NAMES, True), (), True)
NONE = WriterState({})


def asked(found: WriterState, **switches: object) -> Wanted:
    given = {
        name.removeprefix("quiet_"): value for name, value in QuietSettings().model_dump().items()
    }
    return wanted(found, **{**given, **switches})


def compose(texts: dict[str, bytes | None]) -> WriterState:
    """Return what is read of a node with timesyncd, and a masked systemd-coredump."""
    properties = {
        name: {"Id": name, "LoadState": "not-found", "ActiveState": "inactive"}
        for name in UNIT_NAMES
    }
    properties[TIMESYNCD] |= {"LoadState": "loaded", "ActiveState": "active"}
    properties[COREDUMP] |= {"LoadState": "masked"}
    return TimedWriters().compose(properties, texts)


def paths(found: list[File]) -> list[str]:
    return [file.path for file in found]


def off(name: str) -> Unit:
    return Unit(name, enabled=False, running=False)


def test_without_a_switch_nothing_is_asked_of_the_node() -> None:
    assert not QuietSettings().quiet_is_wanted
    assert asked(ALL) == ([], [], [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quiet_apt_timers", "weekly"),
        ("quiet_apt_timers", "off"),
        *((f"quiet_{name}", True) for name in ("apt_cache", "man_db", "clock", "coredumps")),
    ],
)
def test_one_switch_is_enough(name: str, value: object) -> None:
    assert QuietSettings(**{name: value}).quiet_is_wanted


def test_apt_can_run_weekly() -> None:
    present, absent, units = asked(ALL, apt_timers="weekly")
    assert units == [Unit("apt-daily.timer"), Unit("apt-daily-upgrade.timer")]
    assert paths(present) == [weekly_drop_in(unit.name) for unit in units]
    assert absent == []
    for file in present:
        days = [line for line in file.data.decode().splitlines() if line.startswith("OnCalendar")]
        # The empty one removes the timer's own
        assert days[0] == "OnCalendar="
        assert len(days) == 2


def test_apt_can_stop_altogether() -> None:
    present, absent, units = asked(ALL, apt_timers="off")
    assert present == []
    assert units == [off("apt-daily.timer"), off("apt-daily-upgrade.timer")]
    assert absent == [weekly_drop_in(unit.name) for unit in units]


def test_apt_keeps_small_lists_and_no_caches() -> None:
    (file,), absent, units = asked(NONE, apt_cache=True)
    assert (file.path, absent, units) == (APT_CONF, [], [])
    lines = [line for line in file.data.decode().splitlines() if not line.startswith("//")]
    assert all(line.endswith('";') for line in lines)


def test_no_index_of_manual_pages_is_written_also_when_packages_are_installed() -> None:
    assert asked(ALL, man_db=True) == ([], [MAN_TRIGGER], [off("man-db.timer")])


def test_the_time_is_saved_less_often_and_the_running_service_takes_that_over() -> None:
    (file,), absent, units = asked(ALL, clock=True)
    parser = configparser.ConfigParser()
    parser.read_string(file.data.decode())
    assert file.path == TIMESYNCD_CONF
    assert parser["Time"]["SaveIntervalSec"] == "1h"
    assert absent == []
    assert units == [off(CLOCK_TIMER), TIMESYNCD_UNIT]


@pytest.mark.parametrize("units", [{}, {TIMESYNCD: False}])
def test_the_clock_is_left_alone_where_timesyncd_does_not_run(units: dict[str, bool]) -> None:
    """Otherwise nothing would save the time, such as beside chrony."""
    found = WriterState({**units, CLOCK_TIMER: True}, (), True)
    assert asked(found, clock=True) == ([], [], [])


@pytest.mark.parametrize(
    ("units", "hourly", "removed"),
    [({}, True, [CLOCK_CRON]), ({CLOCK_TIMER: True}, True, []), ({}, False, [])],
)
def test_the_hourly_script_is_removed_only_where_no_timer_does_its_work(
    units: dict[str, bool], hourly: bool, removed: list[str]
) -> None:
    found = WriterState({TIMESYNCD: True, **units}, (), hourly)
    assert asked(found, clock=True)[1] == removed


def test_memory_of_crashed_programs_does_not_reach_the_card_in_passing() -> None:
    (file,), _, units = asked(ALL, coredumps=True)
    assert file.path == COREDUMP_CONF
    assert "ProcessSizeMax=0" in file.data.decode().splitlines()
    assert units == []


def test_no_file_is_written_for_a_program_that_the_node_lacks() -> None:
    assert asked(NONE, apt_timers="weekly", clock=True, coredumps=True)[0] == []


@pytest.mark.parametrize(
    ("path", "of", "setting", "stronger"),
    [
        ("/etc/systemd/timesyncd.conf.d/99-own.conf", "timesyncd.conf", "SaveIntervalSec=60", True),
        (
            "/etc/systemd/timesyncd.conf.d/99-own.conf",
            "timesyncd.conf",
            "SaveIntervalSec=1h",
            False,
        ),
        ("/etc/systemd/timesyncd.conf.d/99-own.conf", "timesyncd.conf", "NTP=192.168.1.1", False),
        (
            "/etc/systemd/timesyncd.conf.d/10-own.conf",
            "timesyncd.conf",
            "SaveIntervalSec=60",
            False,
        ),
        ("/etc/systemd/coredump.conf.d/99-own.conf", "coredump.conf", "SaveIntervalSec=60", False),
        (TIMESYNCD_CONF, "timesyncd.conf", "SaveIntervalSec=60", False),
    ],
)
def test_a_drop_in_that_sorts_later_overrides_ours(
    path: str, of: str, setting: str, stronger: bool
) -> None:
    (file,), _, _ = asked(ALL, clock=True)
    found = DropInSetting(path, of, setting)
    assert list(overrides(file, (found,))) == ([found] if stronger else [])


@pytest.mark.parametrize(
    ("path", "text", "stronger"),
    [
        # of systemctl edit: it adds a time, or replaces ours
        ("apt-daily.timer.d/override.conf", "OnCalendar=*-*-* 3:00", 1),
        ("apt-daily.timer.d/override.conf", "OnCalendar=\nOnCalendar=*-*-* 3:00", 2),
        ("apt-daily.timer.d/override.conf", "OnCalendar=", 1),
        ("apt-daily.timer.d/override.conf", "OnUnitActiveSec=", 1),
        ("apt-daily.timer.d/override.conf", "OnUnitActiveSec=1d", 1),
        ("apt-.timer.d/99-own.conf", "OnCalendar=daily", 1),
        ("timer.d/99-own.conf", "OnCalendar=daily", 1),
        # ours removes a time that was set before, and these do not change the time
        ("apt-daily.timer.d/10-own.conf", "OnCalendar=daily", 0),
        ("apt-daily.timer.d/override.conf", "OnCalendar=\nOnCalendar=Sat 18:00", 0),
        ("apt-daily.timer.d/override.conf", "RandomizedDelaySec=1h\nPersistent=no", 0),
        ("apt-daily-upgrade.timer.d/override.conf", "OnCalendar=daily", 0),
        ("apt-daily-.timer.d/override.conf", "OnCalendar=daily", 0),
    ],
)
def test_a_later_drop_in_that_changes_when_a_timer_runs_overrides_ours(
    path: str, text: str, stronger: int
) -> None:
    present, _, _ = asked(ALL, apt_timers="weekly")
    file = next(one for one in present if one.path == weekly_drop_in("apt-daily.timer"))
    found = compose({f"/etc/systemd/system/{path}": f"[Timer]\n{text}\n".encode()})
    assert len(list(overrides(file, found.settings))) == stronger


def test_settings_of_apt_are_no_drop_ins_of_systemd() -> None:
    (file,), _, _ = asked(NONE, apt_cache=True)
    assert (
        list(overrides(file, (DropInSetting("/etc/99.conf", "coredump.conf", "Acquire=1"),))) == []
    )


def test_units_drop_ins_and_the_hourly_script_are_read() -> None:
    texts: dict[str, bytes | None] = {
        "/etc/systemd/timesyncd.conf.d/9.conf": b"[Time]\nNTP=a\n[Other]\nB=c\n",
        "/usr/lib/systemd/coredump.conf.d/9.conf": b"[Coredump]\nStorage=none\n",
        CLOCK_CRON: b"#!/bin/sh\n",
    }
    assert compose(texts) == WriterState(
        {TIMESYNCD: True, COREDUMP: False},
        (
            DropInSetting("/etc/systemd/timesyncd.conf.d/9.conf", "timesyncd.conf", "NTP=a"),
            DropInSetting(
                "/usr/lib/systemd/coredump.conf.d/9.conf", "coredump.conf", "Storage=none"
            ),
        ),
        True,
    )


class WithTimer(Known):
    """What is known of a node whose man-db.timer runs."""

    def __getitem__(self, key: tuple[Read, Any]) -> Any:
        if key[0].fact is Health:
            return {}
        if key[0].fact is Units:
            return {"man-db.timer": UnitState("loaded", "active", "", "enabled", False, 0, "", "")}
        return super().__getitem__(key)


@pytest.mark.parametrize(
    ("switches", "problems"),
    [
        (
            {"quiet_man_db": True},
            ["to be done: Quieten other writers: disable man-db.timer; stop man-db.timer"],
        ),
        ({}, []),
    ],
)
def test_verify_counts_a_timer_that_runs_again_only_while_its_switch_is_set(
    switches: dict[str, bool], problems: list[str]
) -> None:
    nodes = Nodes()
    with nodes.on() as host:
        host.connector = Nothing(nodes.state, host)
        of_host(HostAnswers).known = WithTimer()
        assert findings({quiet: QuietSettings(**switches)}) == {"quiet": problems}


def test_the_fact_reads_drop_ins_of_both_programs_and_of_the_timers(tmp_path: Path) -> None:
    with files_below(tmp_path):
        commands = [read.command.get_raw_value() for read in TimedWriters().reads()]
    assert all(
        any(f"{tmp_path}/etc/systemd/{name}.d/" in command for command in commands)
        for name in ("timesyncd.conf", "coredump.conf", "system/apt-daily-upgrade.timer")
    )
