"""Test the hardware watchdog's settings, and the script that restarts a silent link."""

from __future__ import annotations

import configparser
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from chaos_engine.deploys.proxy_group import other_proxies
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.watchdog import WatchdogSettings, link_files, own_address
from chaos_engine.facts.watchdog import (
    DROP_IN,
    HELD,
    KERNEL,
    LINK_CHECKED,
    REBOOT,
    RUNTIME,
    WATCHDOG_HELD,
    Watchdog,
    WatchdogDropIns,
    WatchdogState,
)
from chaos_engine.operations.watchdog import (
    UNDO,
    compose,
    overrides,
    repair,
    seconds,
    wrong_values,
)
from chaos_engine.templates import render
from tests.unit.asking import ask_below
from tests.unit.nodes import Nodes
from tests.unit.scripts import change_of

CONFIG = render("watchdog.conf.j2", seconds=15, reboot_seconds=15)
STATE = WatchdogState(device=True, held=True, ping=True, runtime="15s", reboot="15s")


def test_both_watchdogs_are_in_the_drop_in() -> None:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(CONFIG)
    assert dict(parser["Manager"]) == {RUNTIME: "15", REBOOT: "15"}


@pytest.mark.parametrize("time", [0, 5, 15])
def test_a_time_that_the_hardware_can_count_is_taken(time: int) -> None:
    assert WatchdogSettings(watchdog_seconds=time).watchdog_seconds == time


@pytest.mark.parametrize("time", [-1, 1, 4, 16, 30, 600])
@pytest.mark.parametrize("name", ["watchdog_seconds", "watchdog_reboot_seconds"])
def test_another_time_is_refused(name: str, time: int) -> None:
    with pytest.raises(SettingsError, match="from 5 to 15, or 0"):
        WatchdogSettings(**{name: time})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["device", "held", "ping", "RuntimeWatchdogUSec=15s", "RebootWatchdogUSec=15s"],
            STATE,
        ),
        (
            ["RuntimeWatchdogUSec=0", "RebootWatchdogUSec=10min"],
            WatchdogState(False, False, False, "0", "10min"),
        ),
    ],
)
def test_what_systemd_says_is_read(lines: list[str], expected: WatchdogState) -> None:
    assert Watchdog().parse(lines) == expected


def test_the_settings_of_all_files_and_of_the_kernel_are_found(tmp_path: Path) -> None:
    for name, text in {
        "etc/systemd/system.conf.d/10-a.conf": "[Manager]\n"
        "RuntimeWatchdogSec=1min\nLogLevel=info\n",
        "usr/lib/systemd/system.conf.d/40-rpi-enable-watchdog.conf": "[Manager]\n"
        "RuntimeWatchdogSec=1min\nRebootWatchdogSec=2min\n",
        "etc/systemd/system.conf.d/99-b.conf": "[Journal]\nRuntimeWatchdogSec=3\n",
        "proc/cmdline": "systemd.watchdog_sec=20 quiet systemd.watchdog-sec=9\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    vendor = "/usr/lib/systemd/system.conf.d/40-rpi-enable-watchdog.conf"
    assert ask_below(tmp_path, WatchdogDropIns) == (
        ("/etc/systemd/system.conf.d/10-a.conf", RUNTIME, "1min"),
        (vendor, RUNTIME, "1min"),
        (vendor, REBOOT, "2min"),
        (KERNEL, RUNTIME, "20"),
        (KERNEL, RUNTIME, "9"),
    )


@pytest.mark.parametrize(
    ("path", "name", "value", "stronger"),
    [
        ("/etc/systemd/system.conf.d/99-own.conf", RUNTIME, "1min", True),
        ("/usr/lib/systemd/system.conf.d/99-own.conf", REBOOT, "off", True),
        (KERNEL, RUNTIME, "0", True),
        ("/etc/systemd/system.conf.d/99-own.conf", RUNTIME, "15s", False),
        ("/etc/systemd/system.conf.d/99-own.conf", RUNTIME, "15 sec", False),
        # Raspberry Pi OS has this one
        ("/usr/lib/systemd/system.conf.d/40-rpi-enable-watchdog.conf", RUNTIME, "1min", False),
        (DROP_IN, RUNTIME, "1min", False),
    ],
)
def test_what_applies_later_wins(path: str, name: str, value: str, stronger: bool) -> None:
    found = (path, name, value)
    assert overrides(CONFIG, [found]) == ([found] if stronger else [])


def test_of_several_that_apply_later_the_last_one_counts() -> None:
    found = [("/etc/98.conf", RUNTIME, "1min"), ("/etc/99.conf", RUNTIME, "15")]
    assert overrides(CONFIG, found) == []


@pytest.mark.parametrize(
    ("runtime", "reboot", "wrong"),
    [
        ("15s", "15s", []),
        ("0", "15s", [(RUNTIME, "15", "0")]),
        ("0", "10min", [(RUNTIME, "15", "0"), (REBOOT, "15", "10min")]),
    ],
)
def test_a_value_that_is_not_in_force_is_seen(
    runtime: str, reboot: str, wrong: list[tuple[str, str, str]]
) -> None:
    found = WatchdogState(True, True, True, runtime, reboot)
    assert wrong_values(CONFIG, found) == wrong


def test_a_value_that_is_not_given_stays_the_nodes_own() -> None:
    own = WatchdogState(True, True, True, "1min", "2min")
    one = render("watchdog.conf.j2", seconds=0, reboot_seconds=15)
    assert seconds(one) == {REBOOT: "15"}
    assert wrong_values(one, own) == [(REBOOT, "15", "2min")]
    assert seconds(render("watchdog.conf.j2", seconds=0, reboot_seconds=0)) == {}


def test_only_a_value_that_an_earlier_run_wrote_is_a_repair() -> None:
    one, other = repair(RUNTIME, "15", CONFIG), repair(RUNTIME, "15", CONFIG + "#\n")
    assert one.kind == "wrote"
    assert one.name.endswith(f" {DROP_IN}")
    assert one.name != other.name


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("shown", "status"), [("15s", 0), ("10min", 1)])
def test_the_values_are_checked_after_systemd_has_read_them(
    tmp_path: Path, shown: str, status: int
) -> None:
    program(tmp_path, "systemctl", f'echo "$*" >>{tmp_path}/log; [ "$1" != show ] || echo {shown}')
    done = subprocess.run(
        ["sh", "-c", f"set -e\n{compose(CONFIG)}"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert (tmp_path / "log").read_text().splitlines()[0] == "daemon-reload"
    assert ("RuntimeWatchdogSec=15" in done.stderr) == bool(status)


@pytest.mark.parametrize(
    ("config", "held", "works"),
    [(None, False, True), (CONFIG, True, True), (CONFIG, False, False),
     (render("watchdog.conf.j2", seconds=0, reboot_seconds=15), False, True)],
)  # fmt: skip
def test_a_watchdog_that_systemd_does_not_hold_is_seen(
    tmp_path: Path, config: str | None, held: bool, works: bool
) -> None:
    if config:
        (tmp_path / "conf").write_text(config)
    (tmp_path / "fd").mkdir()
    (tmp_path / "fd/3").symlink_to("/dev/watchdog0" if held else "/dev/null")
    command = WATCHDOG_HELD.command.replace(DROP_IN, str(tmp_path / "conf"))
    command = command.replace("/proc/1/fd", str(tmp_path / "fd"))
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode == 0) is works
    assert HELD in WATCHDOG_HELD.command


@pytest.mark.parametrize(
    ("there", "active", "works"), [(False, False, True), (True, True, True), (True, False, False)]
)
def test_a_timer_that_does_not_run_is_seen(
    tmp_path: Path, there: bool, active: bool, works: bool
) -> None:
    program(tmp_path, "systemctl", "true" if active else "false")
    timer = tmp_path / "timer"
    if there:
        timer.touch()
    words = LINK_CHECKED.command.split()
    command = " ".join([*words[:3], str(timer), *words[4:]])
    done = subprocess.run(
        ["sh", "-c", command], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False
    )
    assert (done.returncode == 0) is works


def test_undo_has_systemd_forget_the_drop_in_and_removes_the_note() -> None:
    assert UNDO.removed[DROP_IN] == "systemctl daemon-reload"
    assert "/var/lib/chaos-engine/link-check" in UNDO.stopped


GATEWAY, OTHER = "192.168.1.1", "192.168.1.51"


class Link:
    """A folder that stands for a node, with programs that stand in for ping, ip and systemctl."""

    def __init__(
        self,
        root: Path,
        reboot_proxy: bool = False,
        log_server: str = "none",
        own: IPv4Address | None = None,
        partners: Iterable[IPv4Address] = (),
        **nodes: str,
    ) -> None:
        self.root = root
        self.state, self.run = root / "card/link-check", root / "run/link-check"
        for folder in ("answers", "knows", "active", "net/eth0"):
            (root / folder).mkdir(parents=True)
        (root / "net/eth0/carrier").write_text("1\n")
        (root / "route").write_text(f"default via {GATEWAY} dev eth0 proto dhcp\n")
        bin = root / "bin"
        program(bin, "ping", f"for at; do :; done; [ -e {root}/answers/$at ]")
        program(
            bin,
            "ip",
            f"""case "$*" in
  "-4 route show default") cat {root}/route ;;
  "-4 route get 192.168.1.50") echo local 192.168.1.50 ;;
  "-4 neighbour show to"*) [ ! -e {root}/knows/$5 ] || echo "$5 dev eth0 lladdr 0a:1 REACHABLE" ;;
  "link set"*) echo "$*" >>{root}/log ;;
esac""",
        )
        program(
            bin,
            "systemctl",
            f'case $1 in is-active) [ -e {root}/active/$3 ] ;; *) echo "$*" >>{root}/log ;; esac',
        )
        settings = WatchdogSettings(
            nodes=nodes or {"pi1": "192.168.1.50", "pi2": OTHER},
            log_server=log_server,
            watchdog_link_minutes=2,
            watchdog_reboot_proxy=reboot_proxy,
        )
        script = str(link_files(settings, own, partners)[0].content)
        for old, new in {
            "PATH=": f"PATH={bin}:",
            "/var/lib/chaos-engine/link-check": str(self.state),
            "/run/chaos-engine/link-check": str(self.run),
            "/run/chaos-engine/lock": f"{root}/run/lock",
            "/proc/sys/net": f"{root}/sys",
            "/sys/class/net": f"{root}/net",
        }.items():
            assert old in script
            script = script.replace(old, new)
        self.script = script

    def answers(self, *addresses: str) -> None:
        shutil.rmtree(self.root / "answers")
        (self.root / "answers").mkdir()
        for address in addresses:
            (self.root / "answers" / address).touch()

    def check(self, times: int = 1) -> str:
        """Run the script several times, and return what it says."""
        said = ""
        for _ in range(times):
            done = subprocess.run(
                ["sh", "-c", self.script], capture_output=True, text=True, check=False, timeout=20
            )
            assert done.returncode == 0, done.stderr
            said += done.stderr
        return said

    def boot(self) -> None:
        """Lose what is in RAM."""
        shutil.rmtree(self.run)

    @property
    def done(self) -> list[str]:
        """Return what was done to the link and to the node so far, and forget it."""
        log = self.root / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def link(tmp_path: Path) -> Link:
    found = Link(tmp_path)
    found.answers(GATEWAY)
    assert found.check() == ""
    return found


RESTARTED = ["link set dev eth0 down", "link set dev eth0 up"]


def test_while_the_gateway_answers_nothing_is_written_to_the_card(link: Link) -> None:
    assert link.state.read_text() == f"eth0 {GATEWAY} 0\n"
    before = change_of(link.state)
    assert link.check(3) == ""
    assert change_of(link.state) == before
    assert link.done == []


def test_a_silent_link_is_restarted_and_then_the_node_is_rebooted(link: Link) -> None:
    link.answers()
    before = change_of(link.state)
    assert link.check(1) == ""
    assert "restarting the link eth0" in link.check(1)
    assert link.done == RESTARTED
    assert link.check(1) == ""
    assert change_of(link.state) == before
    assert "reboot 1 of 3" in link.check(1)
    assert link.done == ["reboot"]
    assert link.state.read_text() == f"eth0 {GATEWAY} 1\n"


def test_a_link_that_works_again_is_left_alone(link: Link) -> None:
    link.answers()
    link.check(3)
    link.answers(GATEWAY)
    link.check()
    link.answers()
    link.check(1)
    assert link.done == RESTARTED


def test_the_node_reboots_three_times_at_most_and_an_answer_ends_the_count(link: Link) -> None:
    link.answers()
    for _ in range(3):
        link.boot()
        link.check(4)
        assert link.done == [*RESTARTED, "reboot"]
    link.boot()
    said = link.check(8)
    assert said.count("waits for help") == 1
    assert said.count("restarting the link eth0, again every 2 minutes") == 1
    assert link.done == 4 * RESTARTED
    link.answers(GATEWAY)
    assert "reboots of this node meanwhile: 3" in link.check()
    assert link.state.read_text() == f"eth0 {GATEWAY} 0\n"
    link.answers()
    link.check(4)
    assert link.done == [*RESTARTED, "reboot"]


def test_a_gateway_that_alone_is_silent_restarts_nothing(link: Link) -> None:
    link.answers(OTHER)
    said = link.check(9)
    assert link.done == []
    assert said.count("does not answer, but another machine does") == 1


def test_the_nodes_own_address_is_no_other_machine(link: Link) -> None:
    link.answers("192.168.1.50")
    link.check(2)
    assert link.done == RESTARTED


def test_an_answer_to_arp_is_enough(link: Link) -> None:
    link.answers()
    (link.root / "knows" / GATEWAY).touch()
    assert link.check(5) == ""
    assert link.done == []


def test_a_gateway_that_has_never_answered_proves_nothing(tmp_path: Path) -> None:
    link = Link(tmp_path)
    assert link.check(9) == ""
    assert link.done == []
    assert not link.state.exists()


def test_a_node_without_a_gateway_does_nothing(tmp_path: Path) -> None:
    link = Link(tmp_path)
    (link.root / "route").write_text("")
    assert link.check(9) == ""
    assert link.done == []


def test_a_lost_route_is_a_silent_link_too(link: Link) -> None:
    link.answers()
    (link.root / "route").write_text("")
    link.check(4)
    assert link.done == [*RESTARTED, "reboot"]


@pytest.mark.parametrize("reboots", [False, True])
def test_the_proxy_reboots_only_if_it_may(tmp_path: Path, reboots: bool) -> None:
    link = Link(tmp_path, reboot_proxy=reboots)
    (link.root / "active/docker_haproxy.service").touch()
    link.answers(GATEWAY)
    link.check()
    link.answers()
    said = link.check(4)
    assert link.done == [*RESTARTED, *(["reboot"] if reboots else RESTARTED)]
    said += link.check(2)
    assert said.count("so it does not reboot") == (0 if reboots else 1)


@pytest.mark.parametrize(
    ("host", "proxies", "expected"),
    [
        ("pi1", ["pi1", "pi2", "pi8", "pi9"], ["192.168.1.51"]),
        ("pi1", ["pi1"], []),
        ("pi3", ["pi1", "pi2"], []),
    ],
)
def test_a_proxy_knows_the_other_proxies(
    host: str, proxies: list[str], expected: list[str]
) -> None:
    nodes = {f"pi{number}": IPv4Address(f"192.168.1.{49 + number}") for number in (1, 2, 3)}
    hosts = {"pi9": {"ssh_hostname": "192.168.1.99"}}
    names = ("pi1", "pi2", "pi3", "pi8", "pi9")
    with Nodes(*names, hosts=hosts, groups={"proxy": (proxies, {})}).on(host):
        assert [str(address) for address in other_proxies(nodes)] == expected


@pytest.mark.parametrize("partner", [True, False])
def test_one_of_several_proxies_reboots_only_if_another_one_worked(
    tmp_path: Path, partner: bool
) -> None:
    """The other one can have the API's address meanwhile."""
    link = Link(tmp_path, partners=[IPv4Address(OTHER)])
    (link.root / "active/docker_haproxy.service").touch()
    link.answers(GATEWAY, OTHER)
    link.check()
    link.answers(*([GATEWAY, OTHER] if partner else [GATEWAY]))
    link.check()
    before = change_of(link.state)
    link.check()
    assert change_of(link.state) == before, "nothing has changed"
    link.answers()
    said = link.check(4)
    assert link.done == [*RESTARTED, *(["reboot"] if partner else RESTARTED)]
    assert ("no other proxy is known to work" in said) is not partner
    if partner:  # it is known after the reboot, too
        link.boot()
        link.check(4)
        assert link.done == [*RESTARTED, "reboot"]


def alone(link: Link) -> bool:
    """Tell whether a node that nobody answers restarts its link only, and tells that once."""
    link.answers(GATEWAY)
    link.check()
    link.answers()
    (link.root / "route").write_text("")
    said = link.check(6)
    return link.done == 3 * RESTARTED and said.count("knows no other machine") == 1


def test_a_node_that_knows_no_other_machine_never_reboots(tmp_path: Path) -> None:
    single = Link(tmp_path, pi1="192.168.1.50")
    assert alone(single)
    assert single.state.read_text() == f"eth0 {GATEWAY} 0\n"


def test_the_gateway_as_log_server_is_no_other_machine(tmp_path: Path) -> None:
    assert alone(Link(tmp_path, log_server=GATEWAY, pi1="192.168.1.50"))


@pytest.mark.parametrize("told", [True, False])
def test_a_node_that_has_lost_its_address_does_not_ask_itself(tmp_path: Path, told: bool) -> None:
    own = "192.168.1.77"
    # The stand-in of ip does not know this address as the node's own
    assert alone(Link(tmp_path, own=IPv4Address(own) if told else None, pi1=own)) is told


@pytest.mark.parametrize(
    ("nodes", "own"), [({"pi1": OTHER}, IPv4Address(OTHER)), ({"pi2": OTHER}, None), ({}, None)]
)
def test_a_nodes_own_address_is_known_if_the_settings_have_it(
    nodes: dict[str, str], own: IPv4Address | None
) -> None:
    with Nodes().on():
        assert own_address(WatchdogSettings(nodes=nodes)) == own


def test_the_log_server_is_asked_too(tmp_path: Path) -> None:
    link = Link(tmp_path, log_server="192.168.1.42", pi1="192.168.1.50")
    link.answers(GATEWAY)
    link.check()
    link.answers("192.168.1.42")
    assert "another machine does" in link.check(5)
    assert link.done == []
    link.answers()
    link.check(4)
    assert link.done == [*RESTARTED, "reboot"]


def test_a_later_outage_is_told_again_though_the_gateway_stays_silent(link: Link) -> None:
    for _ in range(2):
        link.answers()
        assert link.check(2).count("restarting the link") == 1
        link.answers(OTHER)
        link.check()


def test_a_link_without_a_carrier_is_told_once(link: Link) -> None:
    link.answers()
    (link.root / "net/eth0/carrier").write_text("0\n")
    program(link.root / "bin", "timeout", "false")
    link.state.write_text(f"eth0 {GATEWAY} 3\n")
    assert link.check(8).count("no carrier") == 1
    assert link.done == 4 * RESTARTED


def test_nothing_reboots_while_a_run_is_at_work(link: Link) -> None:
    link.answers()
    link.check(3)
    with open(link.root / "run/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert link.check(3).count("a run of chaos-engine is at work") == 1
    assert link.done == 3 * RESTARTED
    link.check()
    assert link.done == ["reboot"]


def test_a_reboot_that_cannot_be_noted_is_left_out(link: Link) -> None:
    link.answers()
    link.check(3)
    link.state.with_name("link-check.new").mkdir()
    assert "cannot be written, so this node does not reboot" in link.check()
    assert link.done == 2 * RESTARTED


def test_a_damaged_note_counts_as_none(link: Link) -> None:
    for damaged in ("", "eth0 192.168.1.1 many\n", "eth0"):
        link.state.write_text(damaged)
        assert link.check() == ""
        assert link.state.read_text() == f"eth0 {GATEWAY} 0\n"
