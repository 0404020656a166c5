"""Test the servers of the time services, and how long kubelet waits for the clock."""

from __future__ import annotations

import configparser
import subprocess
import time
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest

from chaos_engine.deploys.clock import ClockSettings
from chaos_engine.deploys.concern import DECLARED
from chaos_engine.facts.clock import (
    CHRONY,
    CHRONY_CONF,
    CHRONY_MAIN,
    NOT_SYNCHRONISED,
    TIMESYNCD_CONF,
    ClockSynchronised,
    ServerSettings,
    TimeServices,
    TimeSources,
)
from chaos_engine.facts.observe import Read
from chaos_engine.facts.quiet import TIMESYNCD
from chaos_engine.operations import clock as operations
from chaos_engine.operations import files
from chaos_engine.operations.clock import (
    CHRONY_UNIT,
    PROGRAM,
    refusals,
    server_files,
    wait_files,
    wanted,
)
from chaos_engine.operations.quiet import TIMESYNCD_UNIT
from chaos_engine.operations.quiet import wanted as quieted
from tests.unit.asking import ask_below
from tests.unit.nodes import Nodes
from tests.unit.test_quiet import ALL

DEPLOY = import_module("chaos_engine.deploys.clock")
"""The module. The package has a deploy of the same name."""
SERVERS = ("192.168.1.1", "time.example.net")
FREE = TimeSources(reset_by="", chrony_reads=True, strict="")
DEBIAN_CHRONY = """\
# Include configuration files found in /etc/chrony/conf.d.
confdir /etc/chrony/conf.d
pool 2.debian.pool.ntp.org iburst
sourcedir /run/chrony-dhcp
rtcsync
makestep 1 3
"""


def sources(root: Path, **files: str) -> TimeSources:
    """Return what is read of files below a folder. A name has ``__`` in place of a slash."""
    for name, text in files.items():
        path = root / "etc" / name.replace("__", "/").replace("_conf", ".conf")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ask_below(root, ServerSettings)


def running(*names: str) -> tuple[str, ...]:
    """Return the time services that are found if these units run."""
    (read,) = TimeServices().reads()
    units = {
        name: {"ActiveState": "active" if name in names else "inactive"}
        for name in dict(read.arguments)["units"]
    }
    return TimeServices().compose(units)


@pytest.mark.parametrize("name", [TIMESYNCD, CHRONY, "ntpsec.service", "ntp.service"])
def test_a_time_service_that_runs_is_found(name: str) -> None:
    assert running(name, "cron.service") == (name,)
    assert running() == ()


def test_timesyncd_asks_only_the_given_servers() -> None:
    file = server_files(SERVERS)[TIMESYNCD]
    lines = file.data.decode().splitlines()
    # An empty value removes the servers of files that sort before this one
    assert lines[-2:] == ["NTP=", "NTP=192.168.1.1 time.example.net"]
    parser = configparser.ConfigParser(strict=False)
    parser.read_string(file.data.decode())
    assert parser["Time"]["NTP"] == "192.168.1.1 time.example.net"


def test_chrony_prefers_the_given_servers_to_authenticated_ones() -> None:
    lines = server_files(SERVERS)[CHRONY].data.decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "server 192.168.1.1 iburst prefer",
        "server time.example.net iburst prefer",
        "authselectmode ignore",
    ]


@pytest.mark.parametrize(
    ("service", "path", "unit"),
    [(TIMESYNCD, TIMESYNCD_CONF, TIMESYNCD_UNIT), (CHRONY, CHRONY_CONF, CHRONY_UNIT)],
)
def test_only_the_service_that_runs_gets_the_servers(
    service: str, path: str, unit: operations.Unit
) -> None:
    present, absent, units = wanted([service], [], SERVERS)
    assert [file.path for file in present] == [path]
    assert absent == [one for one in (TIMESYNCD_CONF, CHRONY_CONF) if one != path]
    assert units == [unit]


def test_without_servers_nothing_is_written_and_no_service_is_looked_after() -> None:
    assert wanted([TIMESYNCD], [], ()) == ([], [TIMESYNCD_CONF, CHRONY_CONF], [])


def test_a_service_that_once_had_servers_is_restarted_without_them() -> None:
    found = [TIMESYNCD_UNIT.record.path]
    assert wanted([TIMESYNCD], found, ()) == ([], [TIMESYNCD_CONF, CHRONY_CONF], [TIMESYNCD_UNIT])
    assert wanted([CHRONY], found, ()) == ([], [TIMESYNCD_CONF, CHRONY_CONF], [])


def test_two_concerns_agree_on_what_timesyncd_has_read() -> None:
    """Otherwise each run would rewrite the record of the other concern, and restart the unit."""
    _, _, ours = wanted([TIMESYNCD], [], SERVERS)
    _, _, theirs = quieted(ALL, "daily", False, False, True, False)
    assert ours[0].record in [unit.record for unit in theirs if unit.name == TIMESYNCD]


@pytest.mark.parametrize("reset", ["NTP=\n", "NTP=a\nNTP=\nNTP=b\n"])
def test_a_drop_in_that_removes_our_servers_is_found(tmp_path: Path, reset: str) -> None:
    found = sources(tmp_path, **{"systemd__timesyncd.conf.d__99-own_conf": f"[Time]\n{reset}"})
    assert found.reset_by == "/etc/systemd/timesyncd.conf.d/99-own.conf"


@pytest.mark.parametrize(
    ("name", "text"),
    [("10-own", "[Time]\nNTP=\n"), ("99-own", "[Time]\nNTP=a\n"), ("99-own", "[Other]\nNTP=\n")],
)
def test_a_drop_in_that_leaves_our_servers_is_free(tmp_path: Path, name: str, text: str) -> None:
    found = sources(tmp_path, **{f"systemd__timesyncd.conf.d__{name}_conf": text})
    assert found.reset_by == ""


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        (DEBIAN_CHRONY, True),
        ("  CONFDIR /etc/chrony/conf.d/ /x\n", True),
        ("include /etc/chrony/conf.d/*.conf\n", True),
        ("#confdir /etc/chrony/conf.d\n", False),
        ("! confdir /etc/chrony/conf.d\n", False),
        ("sourcedir /etc/chrony/conf.d\n", False),
        ("confdir /etc/chrony.d\n", False),
        ("include /etc/chrony/conf.d/10*.conf\n", False),
        ("", False),
    ],
)
def test_whether_chrony_reads_our_file_is_seen(tmp_path: Path, text: str, reads: bool) -> None:
    assert sources(tmp_path, chrony__chrony_conf=text).chrony_reads is reads


def test_a_node_without_chrony_has_no_file_of_it(tmp_path: Path) -> None:
    assert sources(tmp_path) == TimeSources(reset_by="", chrony_reads=False, strict="")


@pytest.mark.parametrize(
    ("main", "other", "strict"),
    [
        (
            f"{DEBIAN_CHRONY}authselectmode require\n",
            "",
            f"authselectmode require in {CHRONY_MAIN}",
        ),
        (f"authselectmode require\n{DEBIAN_CHRONY}", "", ""),
        (
            DEBIAN_CHRONY,
            "AuthSelectMode prefer\n",
            "authselectmode prefer in /etc/chrony/conf.d/99-own.conf",
        ),
    ],
)
def test_a_mode_that_overrides_ours_is_found(
    tmp_path: Path, main: str, other: str, strict: str
) -> None:
    names = {"chrony__chrony_conf": main, "chrony__conf.d__99-own_conf": other}
    assert sources(tmp_path, **names).strict == strict


def test_a_mode_in_a_file_before_ours_is_overridden(tmp_path: Path) -> None:
    names = {
        "chrony__chrony_conf": DEBIAN_CHRONY,
        "chrony__conf.d__10-own_conf": "authselectmode require\n",
    }
    assert sources(tmp_path, **names).strict == ""


def test_what_concerns_another_service_is_no_reason_to_refuse() -> None:
    found = TimeSources(reset_by="/x", chrony_reads=False, strict="authselectmode require in /y")
    assert len([*refusals([TIMESYNCD], found)]) == 1
    assert len([*refusals([CHRONY], found)]) == 2
    assert [*refusals([TIMESYNCD], FREE)] == [*refusals([CHRONY], FREE)] == []


@pytest.mark.parametrize(("said", "right"), [("yes", True), ("no", False)])
def test_whether_the_clock_is_synchronised_is_asked(tmp_path: Path, said: str, right: bool) -> None:
    program(tmp_path, "timedatectl", f'test "$2" = --property=NTPSynchronized && echo {said}')
    assert asked(tmp_path) is right


def test_a_node_without_dbus_is_not_synchronised(tmp_path: Path) -> None:
    program(tmp_path, "timedatectl", "echo Failed to connect to bus >&2; exit 1")
    assert asked(tmp_path) is False


def program(folder: Path, name: str, body: str) -> None:
    """Write a program of a shell script into a folder."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def asked(folder: Path) -> bool:
    """Return the value of `ClockSynchronised` on a node with the programs in a folder."""
    read = Read.of(ClockSynchronised)
    said = subprocess.run(
        ["sh", "-c", f"PATH={folder}/bin:$PATH; {read.command.get_raw_value()}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return bool(read.process(said.stdout.split("\n")))


class Waiter:
    """A node whose clock may become synchronised while the program of the unit waits."""

    def __init__(self, root: Path, seconds: int) -> None:
        """Write the program, and a clock that no server has set."""
        self.root = root
        text = wait_files(seconds)[0].data.decode()
        text = text.replace("/run/systemd", f"{root}/run").replace("/proc/uptime", f"{root}/uptime")
        self.program = root / "wait"
        self.program.write_text(text)
        (root / "run/timesync").mkdir(parents=True)
        (root / "uptime").write_text("7.53 9.01\n")
        program(root, "timedatectl", "echo no")

    def run(self) -> tuple[str, int]:
        """Return what the program says, and how often it has slept."""
        ran = subprocess.run(
            ["sh", "-c", f"PATH={self.root}/bin:$PATH; . {self.program}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ran.returncode == 0
        assert ran.stdout == ""
        sleeps = self.root / "sleeps"
        return ran.stderr, len(sleeps.read_text().splitlines()) if sleeps.exists() else 0

    def sleep(self, body: str) -> None:
        """Say what happens while the program sleeps. The time since boot grows by a second."""
        program(
            self.root,
            "sleep",
            f"echo >>{self.root}/sleeps; n=$(wc -l <{self.root}/sleeps); "
            f'echo "$((7 + n)).00 1.0" >{self.root}/uptime; {body}',
        )


@pytest.mark.parametrize("how", ["timesyncd", "kernel"])
def test_kubelet_does_not_wait_for_a_clock_that_is_right(tmp_path: Path, how: str) -> None:
    node = Waiter(tmp_path, 60)
    node.sleep("")
    if how == "timesyncd":
        (tmp_path / "run/timesync/synchronized").touch()
    else:
        program(tmp_path, "timedatectl", "echo yes")
    began = time.monotonic()
    assert node.run() == ("", 0)
    assert time.monotonic() - began < 5


def test_the_wait_ends_as_soon_as_a_server_has_answered(tmp_path: Path) -> None:
    node = Waiter(tmp_path, 60)
    node.sleep(f"[ $n -lt 3 ] || touch {tmp_path}/run/timesync/synchronized")
    assert node.run() == ("", 3)


def test_kubelet_starts_after_the_time_although_no_server_has_answered(tmp_path: Path) -> None:
    node = Waiter(tmp_path, 5)
    node.sleep("")
    said, slept = node.run()
    assert slept == 5
    # "<4>" has journald log it as a warning
    assert said.startswith("<4>no time server has set the clock within 5 seconds; kubelet starts")


def test_kubelet_starts_also_where_timedatectl_fails(tmp_path: Path) -> None:
    node = Waiter(tmp_path, 2)
    program(tmp_path, "timedatectl", "echo no bus >&2; exit 1")
    node.sleep("")
    assert node.run()[1] == 2


def test_kubelet_wants_the_unit_but_does_not_require_it() -> None:
    _, unit = wait_files(120)
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.data.decode())
    assert parser["Unit"]["Before"] == "kubelet.service"
    assert parser["Install"]["WantedBy"] == "kubelet.service"
    assert parser["Service"]["ExecStart"] == PROGRAM
    assert parser["Service"]["RemainAfterExit"] == "yes", "each restart of kubelet would wait"
    # The program ends by itself before
    assert int(parser["Service"]["TimeoutStartSec"]) > 120


@pytest.mark.parametrize("seconds", [0, 1, 600])
def test_a_time_to_wait_is_taken(seconds: int) -> None:
    assert ClockSettings(clock_wait=seconds).clock_wait == seconds


@pytest.mark.parametrize(
    ("services", "servers"),
    [
        ((), ()),
        ((TIMESYNCD,), ()),
        ((CHRONY,), ()),
        ((TIMESYNCD,), SERVERS),
        ((CHRONY,), SERVERS),
    ],
)
def test_all_that_is_read_of_the_servers_files_is_read_by_the_first_command(
    services: tuple[str, ...], servers: tuple[str, ...]
) -> None:
    with Nodes("pi1").on("pi1"):
        needed = files.reads(*wanted(services, (), servers))
        assert {*needed} <= {*operations._reads(servers)}


def test_verify_tells_of_a_clock_that_is_wrong() -> None:
    with Nodes("pi1").on("pi1"):
        for right, problems in ((True, []), (False, [NOT_SYNCHRONISED])):
            with patch.object(DEPLOY, "observe", return_value=right):
                assert [*DECLARED["clock"].problems(ClockSettings())] == problems
                waits = ClockSettings(ntp_servers=["192.168.1.1"], clock_wait=0)
                assert [*DECLARED["clock"].problems(waits)] == problems
                assert not [*DECLARED["clock"].problems(ClockSettings(clock_wait=0))]
