"""keepalived's configuration, the script that runs it, and what is decided about them."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from importlib import import_module
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.deploys.concern import DECLARED
from chaos_engine.deploys.proxy_group import proxies_problems
from chaos_engine.deploys.vrrp import VrrpSettings, ownership_problems, vrrp_files
from chaos_engine.facts.files import Files, FileState
from chaos_engine.facts.vrrp import CONFIG, AddressOwner, OtherRouter, Ownership, RunningPeers
from chaos_engine.facts.vrrp import VRRP as SERVICE
from chaos_engine.operations.files import Plan
from chaos_engine.operations.vrrp import (
    LEFT,
    PROGRAM,
    UNIT,
    UNIT_FILE,
    WRITTEN,
    check,
    reload_command,
    with_reload,
)
from tests.unit.rendered import PROXIES, VRRP
from tests.unit.test_hostile_values import NODE, OPERATIONS, commands

FILES = {file.path: file for file in vrrp_files(VRRP, PROXIES, "pi5")}


def config(name: str = "pi5", **settings: Any) -> str:
    """Return the configuration of a proxy."""
    given = {name: getattr(VRRP, name) for name in VRRP.model_fields_set}
    model = VrrpSettings(**{**given, **settings})
    return str(vrrp_files(model, PROXIES, name)[0].content)


def block(text: str, name: str) -> list[str]:
    """Return the words in a block of the configuration."""
    return text.partition(f"{name} {{")[2].partition("}")[0].split()


def test_each_proxy_sends_to_all_others() -> None:
    for own in PROXIES:
        text = config(own.name)
        assert f"unicast_src_ip {own.address}\n" in text
        others = [str(one.address) for one in PROXIES if one != own]
        assert block(text, "unicast_peer") == others
        assert "vrrp_check_unicast_src" in block(text, "global_defs")


@pytest.mark.parametrize(("milliseconds", "seconds"), [(50, "0.05"), (100, "0.10"), (1000, "1.00")])
def test_interval_is_in_seconds(milliseconds: int, seconds: str) -> None:
    assert f"advert_int {seconds}\n" in config(vrrp_interval=milliseconds)


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({}, 60),
        ({"vrrp_id": 7}, 7),
        ({"vip": "192.168.2.0", "lan_subnet": "192.168.0.0/16", "lan_gateway": "192.168.9.1"}, 1),
    ],
)
def test_number_is_set_or_of_the_address(settings: dict[str, Any], number: int) -> None:
    text = config(**settings)
    assert f"virtual_router_id {number}\n" in text
    assert block(text, "virtual_ipaddress") == ["127.60.0.60/32", "dev", "lo"]


def test_the_same_node_twice_is_told() -> None:
    twin = replace(PROXIES[0], host="other", hairpin=IPv4Address("192.168.1.230"))
    (problem,) = proxies_problems([*PROXIES, twin], VRRP.lan_subnet)
    assert problem.startswith("pi4 and other are the same node pi4")


def test_hairpin_addresses_that_end_alike_are_told() -> None:
    """The containers' addresses for a hand-over would be the same."""
    one = replace(PROXIES[0], hairpin=IPv4Address("10.1.1.222"))
    other = replace(PROXIES[1], hairpin=IPv4Address("10.2.1.222"))
    (problem,) = proxies_problems([one, other], IPv4Network("0.0.0.0/0"))
    assert "10.1.1.222 of pi4 and 10.2.1.222 of pi5 end with the same two numbers" in problem


FILE = FILES[CONFIG]


@pytest.mark.parametrize(
    ("todo", "reload"),
    [
        (Plan(), False),
        (Plan(write=(FILE,), restart=(UNIT,)), True),
        # a run was killed between the file and the reload
        (Plan(restart=(UNIT,)), True),
        (Plan(write=(FILE,), start=(UNIT,)), False),
        (Plan(write=(FILE, FILES[PROGRAM]), restart=(UNIT,)), False),
        (Plan(write=(FILES[UNIT_FILE],), restart=(UNIT,), daemon_reload=True), False),
        (Plan(restart=(UNIT,), daemon_reload=True), False),
    ],
)
def test_only_another_configuration_is_reloaded(todo: Plan, reload: bool) -> None:
    todo = replace(todo, why=(f"restart {SERVICE}: {CONFIG} changes",) if todo.restart else ())
    found, wanted = with_reload(todo)
    assert wanted is reload
    assert found.write == todo.write
    if reload:
        assert found.restart == ()
        assert found.why == (f"reload {SERVICE}: {CONFIG} changes",)
    else:
        assert found == todo


def run(script: str, root: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run a script with programs that stand in for the node's."""
    (root / "bin").mkdir(exist_ok=True)
    for name, text in programs.items():
        (root / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (root / "bin" / name).chmod(0o755)
    return subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{root}/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_reload_records_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "chaos-engine.conf").write_text("new\n")
    script = reload_command().replace(CONFIG, f"{tmp_path}/chaos-engine.conf")
    script = script.replace("/run/chaos-engine", str(tmp_path))
    done = run(f"set -e\n{script}", tmp_path, systemctl='echo "$@"')
    assert (done.returncode, done.stdout) == (0, f"reload -- {SERVICE}\n")
    want = subprocess.run(["sha256sum"], input="new\n", capture_output=True, text=True, check=True)
    assert (tmp_path / SERVICE).read_text() == f"{want.stdout[:64]}\n"


def test_configuration_is_checked_without_scripts_that_may_come_later(tmp_path: Path) -> None:
    staged = tmp_path / f"stage{CONFIG}"
    staged.parent.mkdir(parents=True)
    staged.write_text(str(FILE.content))
    done = run(
        f"set -eu\nstage={shlex.quote(str(tmp_path / 'stage'))}\n{check(Plan(write=(FILE,)))}",
        tmp_path,
        keepalived='[ "$1" = --config-test ] && [ "$2" = --use-file ] && cat "$3"; exit 5',
    )
    assert done.returncode == 5
    assert "haproxy_several.sh" not in done.stdout
    assert done.stdout.count("/usr/bin/true") == 4
    assert check(Plan()) == check(Plan(write=(FILES[UNIT_FILE],))) == ""


def program(root: Path) -> str:
    """Return the script that runs keepalived, with its places below a folder."""
    text = str(FILES[PROGRAM].content)
    for place in ("/run/", "/usr/sbin/haproxy_several.sh"):
        text = text.replace(place, f"{root}{place}")
    return text.replace("PATH=/usr/sbin:", f"PATH={root}/bin:/usr/sbin:")


def proxy_script(root: Path, alive: str) -> None:
    """Put a stand-in for HAProxy's script in place."""
    path = root / "usr/sbin/haproxy_several.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\nvip=192.168.1.60\necho "script $*" >&2\ncase $1 in alive) {alive} ;; esac\n'
    )
    path.chmod(0o755)
    (root / "run/chaos-engine/haproxy").mkdir(parents=True, exist_ok=True)
    (root / "run/chaos-engine/haproxy/pid").write_text("42\n")


ADDRESS = 'echo "2: eth0    inet 192.168.1.54/24 brd 192.168.1.255 scope global eth0"'


def test_keepalived_waits_until_its_node_may_take_part(tmp_path: Path) -> None:
    # Each stand-in succeeds from its third call on
    later = 'f=$0.calls; echo x >>"$f"; [ "$(wc -l <"$f")" -ge 3 ]'
    proxy_script(tmp_path, "exit 0")
    done = run(
        program(tmp_path),
        tmp_path,
        ip=f"{later} && {ADDRESS}",
        nsenter=later,
        perl=f"cat >/dev/null; {later} || {{ echo 'a machine has it'; exit 1; }}",
        keepalived='echo "keepalived $*"',
        sleep="",
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("waiting")]
    assert said == [
        "waiting: eth0 does not have the address 192.168.1.54",
        "waiting: this node's HAProxy is not ready",
        "waiting: a machine has it",
    ]
    run_dir = f"{tmp_path}/run/chaos-engine/vrrp"
    assert (tmp_path / "run/chaos-engine/vrrp/ifindex").read_text() == "2\n"
    assert done.stdout == (
        f"keepalived --vrrp --dont-fork --log-console --no-syslog --use-file {CONFIG} "
        f"--pid {run_dir}/keepalived.pid --vrrp_pid {run_dir}/vrrp.pid\n"
    )


def test_keepalived_waits_for_haproxy_at_the_same_address(tmp_path: Path) -> None:
    """After a change of chaos_vip, the old script would have the container own the old address."""
    proxy_script(tmp_path, "exit 0")
    path = tmp_path / "usr/sbin/haproxy_several.sh"
    path.write_text(path.read_text().replace("vip=192.168.1.60", "vip=192.168.1.61"))
    done = run(program(tmp_path), tmp_path, ip=ADDRESS, sleep="kill $PPID")
    assert "waiting: HAProxy has another address than 192.168.1.60" in done.stderr


def test_pid_files_of_a_crash_do_not_keep_keepalived_from_starting(tmp_path: Path) -> None:
    proxy_script(tmp_path, "exit 0")
    folder = tmp_path / "run/chaos-engine/vrrp"
    folder.mkdir(parents=True)
    for name in ("keepalived.pid", "vrrp.pid"):
        (folder / name).write_text("1\n")
    done = run(program(tmp_path), tmp_path, ip=ADDRESS, nsenter="", perl="", keepalived="")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["ifindex"]


def test_script_of_a_single_proxy_is_not_ready(tmp_path: Path) -> None:
    proxy_script(tmp_path, "exit 2")
    done = run(program(tmp_path), tmp_path, ip=ADDRESS, nsenter="", sleep="kill $PPID")
    assert "waiting: this node's HAProxy is not ready" in done.stderr


STOP, START = "stop docker_haproxy.service", "start --no-block docker_haproxy.service"


@pytest.mark.parametrize(
    ("links", "container", "owners", "locked", "does"),
    [
        (False, "192.168.1.60", "3 3 0", False, [STOP, START]),
        (False, "192.168.1.60", "3 3 3", False, [STOP]),
        (False, "192.168.1.60", "3 1 1", False, [STOP]),
        (False, "192.168.1.60", "0 1 0", False, []),
        (False, "192.168.1.60", "3 3 3", True, []),
        (True, "172.17.0.2", "3 3 3", False, []),
        (False, "172.17.0.2", "3 3 3", False, []),
    ],
    ids=[
        "another proxy has the address, then nobody",
        "another proxy keeps it",
        "then a stranger has it",
        "no proxy has it",
        "a run is at work",
        "one of several",
        "one of several, which has just ended",
    ],
)
def test_container_of_an_only_proxy_gives_way_to_another_proxy(
    tmp_path: Path, links: bool, container: str, owners: str, locked: bool, does: list[str]
) -> None:
    """A run was killed before it replaced the container, and another proxy took the address."""
    proxy_script(tmp_path, "exit 1")
    if not links:
        (tmp_path / "run/chaos-engine/haproxy/pid").unlink()
    log = tmp_path / "systemctl.log"
    done = run(
        program(tmp_path),
        tmp_path,
        ip=ADDRESS,
        perl=f'cat >/dev/null; echo >>"$0.calls"; exit "$(echo {owners} | '
        """cut -d " " -f "$(wc -l <"$0.calls" | tr -d " ")")" """,
        flock="exit 1" if locked else 'shift 2; exec "$@"',
        systemctl=f'case $1 in is-active) ;; *) echo "$*" >>{log} ;; esac',
        docker=f'echo "{container} "',
        sleep='echo >>"$0.calls"; [ "$(wc -l <"$0.calls")" -lt 3 ] || kill $PPID',
    )
    assert "waiting: this node's HAProxy is not ready" in done.stderr
    assert (log.read_text().splitlines() if log.exists() else []) == does


def test_an_owner_whose_keepalived_has_ended_gives_the_address_up(tmp_path: Path) -> None:
    stopped = f"set -- stopped\n{program(tmp_path)}"
    done = run(stopped, tmp_path, ip='echo "ip $*"; exit 2')
    assert (done.returncode, done.stdout) == (0, "ip address delete 127.60.0.60/32 dev lo\n")
    assert done.stderr == "", "undo has removed HAProxy's script already"
    proxy_script(tmp_path, "exit 0")
    done = run(stopped, tmp_path)
    assert (done.returncode, done.stderr) == (0, "script follow\nscript end-draining\n")


@pytest.mark.parametrize(
    ("main", "links", "chosen", "hands_over"),
    [
        ("MAINPID=42", True, True, True),
        ("", True, True, False),
        ("MAINPID=42", False, True, False),
        ("MAINPID=42", True, False, False),
    ],
    ids=["owner", "keepalived has crashed", "HAProxy has ended", "standby"],
)
def test_only_an_owner_hands_the_address_over_before_keepalived_ends(
    tmp_path: Path, main: str, links: bool, chosen: bool, hands_over: bool
) -> None:
    proxy_script(tmp_path, "exit 0")
    if not links:
        (tmp_path / "run/chaos-engine/haproxy/pid").unlink()
    ip = 'case $* in *"show dev lo to 127.60.0.60/32") echo 1: lo ;; esac' if chosen else ""
    done = run(f"{main}\nset -- hand-over\n{program(tmp_path)}", tmp_path, ip=ip)
    assert done.returncode == 0
    assert done.stderr == ("script hand-over\n" if hands_over else "")


def test_unit_hands_the_address_over_before_keepalived_ends() -> None:
    lines = str(FILES[UNIT_FILE].content).splitlines()
    assert f"ExecStop=-{PROGRAM} hand-over" in lines
    assert f"ExecStopPost=-{PROGRAM} stopped" in lines


@pytest.mark.parametrize("alive", ["exit 0", "exit 1"])
def test_a_start_is_awaited_unless_haproxy_is_not_ready(tmp_path: Path, alive: str) -> None:
    proxy_script(tmp_path, alive)
    # Nothing runs that is called keepalived. Each pause is noted
    done = run(f"set -- await\n{program(tmp_path)}", tmp_path, sleep='echo "pause $1"')
    assert done.returncode == 0
    assert done.stdout.count("pause 0.1") == (49 if alive == "exit 0" else 0)


def test_a_node_that_was_the_only_proxy_gets_no_command() -> None:
    _, *changing = commands(OPERATIONS["remove_vrrp"], {})
    assert changing == []


def test_what_several_proxies_had_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {path: FileState("file", "644", "root", "root", 1, "0" * 64) for path in LEFT}
    monkeypatch.setitem(NODE, Files, there)
    _, script = commands(OPERATIONS["remove_vrrp"], {})
    stop = script.index(f"systemctl disable --now --quiet -- {SERVICE}")
    assert {*LEFT} > {*WRITTEN}
    for path in LEFT:
        assert script.index(f"rm -f -- {path}") > stop
    assert "apt" not in script.split()


@pytest.mark.parametrize(
    ("found", "name", "says"),
    [
        (Ownership(True, True, 0), "pi5", "this proxy has 192.168.1.60"),
        (
            Ownership(False, True, 1, ("192.168.1.53",)),
            "pi4",
            "pi4 has 192.168.1.60, and this proxy can take it over",
        ),
        (Ownership(False, True, 1, ("192.168.1.53", "192.168.1.55")), "", ""),
        (Ownership(False, True, 1), "", ""),
        (None, "", ""),
    ],
)
def test_the_owner_is_named(
    monkeypatch: pytest.MonkeyPatch, found: Ownership | None, name: str, says: str
) -> None:
    module = import_module("chaos_engine.deploys.vrrp")  # the package names the deploy so
    monkeypatch.setattr(module, "ownership", lambda settings: found)
    monkeypatch.setattr(module, "proxies", lambda nodes, subnet: PROXIES)
    monkeypatch.setattr(VrrpSettings, "node_name", lambda settings: "pi5")
    assert module.owner(VRRP) == name
    assert DECLARED["vrrp"].says(VRRP) == says


LINES = ["here", "ready", "others 1", "advert 192.168.1.53", "advert 192.168.1.55"]


def test_what_a_proxy_knows_of_the_address_is_read() -> None:
    read = AddressOwner().parse
    assert read(["alone"]) is None
    assert read(LINES) == Ownership(True, True, 1, ("192.168.1.53", "192.168.1.55"))
    # without perl, or without the interface
    assert read([]) == Ownership(False, False, None, ())


HERE, AWAY = Ownership(True, True, 0), Ownership(False, True, 1, ("192.168.1.53",))


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (HERE, ""),
        (AWAY, ""),
        (
            replace(HERE, others=1),
            "this proxy has 192.168.1.60, but ARP requests for 192.168.1.60 are also answered by "
            "1 other machine on the LAN; look at: ",
        ),
        (
            replace(HERE, others=2),
            "this proxy has 192.168.1.60, but ARP requests for 192.168.1.60 are also answered by "
            "2 other machines on the LAN; look at: ",
        ),
        (
            replace(AWAY, others=2),
            "2 machines on the LAN answer ARP requests for 192.168.1.60, but only one machine",
        ),
        (
            replace(AWAY, others=0),
            "no machine on the LAN answers ARP requests for 192.168.1.60; look at: ",
        ),
        (
            replace(AWAY, others=None),
            "this node cannot ask the LAN which machine has 192.168.1.60; look whether its network "
            "interface is up: ",
        ),
    ],
)
def test_exactly_one_proxy_has_the_address(found: Ownership, problem: str) -> None:
    problems = list(ownership_problems(found, "192.168.1.60"))
    assert [text[: len(problem)] for text in problems] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ((), "192.168.1.53 192.168.1.55"),
        (("192.168.1.53",), "192.168.1.55"),
        (("192.168.1.5",), "192.168.1.53 192.168.1.55"),
        (("192.168.1.55", "192.168.1.53"), ""),
    ],
)
def test_who_was_a_proxy_and_shall_not_be_is_asked(
    tmp_path: Path, wanted: tuple[str, ...], asked: str
) -> None:
    command = RunningPeers().command(wanted=wanted).get_raw_value()
    script = command.replace(CONFIG, f"{tmp_path}/chaos-engine.conf")
    perl = "cat >/dev/null; echo $2"
    assert run(script, tmp_path, perl=perl).stdout == "", "this node was not one of several"
    (tmp_path / "chaos-engine.conf").write_text(config("pi5"))
    assert run(script, tmp_path, perl=perl).stdout == (f"{asked}\n" if asked else "")
    assert RunningPeers().parse(["192.168.1.53"]) == ("192.168.1.53",)


def test_nobody_is_listened_for_once_it_runs(tmp_path: Path) -> None:
    command = OtherRouter().command(interface="eth0", number=60).get_raw_value()
    assert command.index("[ -e /etc/systemd") < command.index("perl")
    link = tmp_path / "multi-user.target.wants" / SERVICE
    link.parent.mkdir()
    link.touch()
    script = command.replace("/etc/systemd/system", str(tmp_path))
    assert run(script, tmp_path, perl="echo 192.168.1.9").stdout == ""
    link.unlink()
    assert run(script, tmp_path, perl="cat >/dev/null; echo 192.168.1.9").stdout == "192.168.1.9\n"
    assert OtherRouter().parse(["192.168.1.9"]) == "192.168.1.9"
    assert OtherRouter().parse([]) == ""
