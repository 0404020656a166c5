"""Read network interfaces as iproute2 prints them, and find the owners of addresses."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.facts.network import AddressOwners, Interface, InterfaceState
from tests.unit.docker_api import docker_api

# `ip -j address show dev eth0` on Debian 13 (iproute2 6.15)
ETH0 = (
    '[{"ifindex":2,"link_index":5,"ifname":"eth0","flags":["BROADCAST","MULTICAST","UP",'
    '"LOWER_UP"],"mtu":1500,"qdisc":"noqueue","operstate":"UP","group":"default","txqlen":1000,'
    '"link_type":"ether","address":"dc:a6:32:a8:01:36","broadcast":"ff:ff:ff:ff:ff:ff",'
    '"link_netnsid":0,"addr_info":[{"family":"inet","local":"192.168.1.54","prefixlen":24,'
    '"broadcast":"192.168.1.255","scope":"global","label":"eth0","valid_life_time":4294967295,'
    '"preferred_life_time":4294967295},{"family":"inet6","local":"fe80::dea6:32ff:fea8:136",'
    '"prefixlen":64,"scope":"link","protocol":"kernel_ll","valid_life_time":4294967295,'
    '"preferred_life_time":4294967295}]}]'
)
FOUND = InterfaceState(
    up=True,
    wireless=False,
    master="",
    mac="dc:a6:32:a8:01:36",
    addresses=("192.168.1.54/24",),
    arp_ignore=0,
)


@pytest.mark.parametrize(
    ("flags", "up"),
    [
        ('"BROADCAST","MULTICAST","UP","LOWER_UP"', True),
        ('"BROADCAST","MULTICAST"', False),
        ('"NO-CARRIER","BROADCAST","MULTICAST","UP"', False),  # no cable
    ],
)
def test_an_interface_is_up_with_a_carrier_only(flags: str, up: bool) -> None:
    answer = ETH0.replace('"BROADCAST","MULTICAST","UP","LOWER_UP"', flags)
    assert Interface().parse(["wired", "0", answer]) == replace(FOUND, up=up)


def test_a_port_of_a_bridge_names_it() -> None:
    answer = ETH0.replace('"operstate"', '"master":"br0","operstate"')
    assert Interface().parse(["wired", "1", answer]) == replace(FOUND, master="br0", arp_ignore=1)


def test_a_wireless_interface_is_one() -> None:
    assert Interface().parse(["wireless", "0", ETH0]) == replace(FOUND, wireless=True)


def test_an_answer_of_several_lines_is_read() -> None:
    """Old releases of iproute2 print a line for each interface."""
    lines = ETH0.replace("[{", "[{},\n{", 1).splitlines()
    assert Interface().parse(["wired", "0", *lines]) == FOUND


def test_an_interface_that_goes_away_meanwhile_is_no_answer() -> None:
    with pytest.raises(FactProcessError):
        Interface().process(["wired", "0"])


def test_this_computers_own_interface_is_read() -> None:
    command = f"ip() {{ echo '{ETH0}'; }}\n{Interface().command('lo').get_raw_value()}"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    own = int(Path("/proc/sys/net/ipv4/conf/lo/arp_ignore").read_text())
    assert Interface().process(ran.stdout.splitlines()) == replace(FOUND, arp_ignore=own)


def test_an_interface_that_is_not_there_is_none() -> None:
    command = Interface().command("no/such").get_raw_value()
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert (ran.stdout, Interface().default()) == ("", None)


ASKED = "docker State /containers/lb-haproxy/json"
ON_LAN = "192.168.1.60 dev eth0 src 192.168.1.54 uid 0 \\    cache "
# `ip -o -4 route get` of addresses that are not on the LAN, or are the node's own
ELSEWHERE = [
    "10.1.2.3 via 192.168.1.1 dev eth0 src 192.168.1.54 uid 0 \\    cache ",
    "local 192.168.1.54 dev lo table local src 192.168.1.54 uid 0 \\    cache <local> ",
    "broadcast 192.168.1.255 dev eth0 table local src 192.168.1.54 uid 0 \\    cache <local,brd> ",
    "",
]


def ask(
    folder: Path,
    route: str,
    answers: str = "",
    after: int = 0,
    docker: str = "active",
    container: str = "false",
) -> tuple[str, list[str]]:
    """Return the owner of 192.168.1.60 by the fact's command, and the steps that found it.

    + route: what ``ip route get`` prints
    + answers: the entry that the kernel has once `after` questions were sent
    + docker: state of docker.service
    + container: "true" if the container runs
    """
    log = folder / "log"
    log.touch()
    functions = f"""\
timeout() {{ shift; "$@"; }}
sleep() {{ :; }}
systemctl() {{ test {docker} = active; }}
perl() {{ echo docker "$3" "$4" >>{log}; echo '{{"State":{{"Running":{container}}}}}'; }}
bash() {{ echo "$2" >>{log}; }}
ip() {{
  case "$*" in
    *"route get"*) printf '%s\\n' '{route}' ;;
    *flush*) echo "$*" >>{log} ;;
    *"neighbour show"*) [ "$(grep -c udp {log})" -lt {after} ] || printf '%s\\n' '{answers}' ;;
  esac
}}
"""
    command = AddressOwners().command((("192.168.1.60", "lb-haproxy"),)).get_raw_value()
    ran = subprocess.run(
        ["sh", "-c", functions + command], capture_output=True, text=True, check=True
    )
    owners = AddressOwners().process(ran.stdout.splitlines())
    return owners.get("192.168.1.60", ""), log.read_text().splitlines()


def test_the_machine_that_answers_is_the_owner(tmp_path: Path) -> None:
    owner, done = ask(tmp_path, ON_LAN, "lladdr dc:a6:32:a8:01:28 REACHABLE", after=1)
    assert owner == "dc:a6:32:a8:01:28"
    # The kernel's known neighbour is dropped before the question
    assert done == [
        ASKED,
        "-4 neighbour flush to 192.168.1.60 dev eth0",
        'echo > "/dev/udp/$1/9"',
    ]


def test_a_slow_machine_is_asked_again(tmp_path: Path) -> None:
    owner, done = ask(tmp_path, ON_LAN, "lladdr dc:a6:32:a8:01:28 REACHABLE", after=3)
    assert owner == "dc:a6:32:a8:01:28"
    assert sum("udp" in line for line in done) == 3


def test_all_are_asked_at_once(tmp_path: Path) -> None:
    script = f"""\
sleep() {{ :; }}
timeout() {{ shift; "$@"; }}
bash() {{
  echo >>{tmp_path}/asked
  until [ "$(wc -l <{tmp_path}/asked)" -ge 3 ]; do command sleep 0.01; done
}}
ip() {{
  case "$*" in
    *"route get"*) echo "$5 dev eth0 src 192.168.1.54 uid 0" ;;
    *"show to 192.168.1.60 "*) echo "$5 lladdr 02:42:ac:8f:4c:ff STALE" ;;
  esac
}}
"""
    asked = (("192.168.1.60", ""), ("192.168.1.61", ""), ("192.168.1.222", ""))
    command = AddressOwners().command(asked).get_raw_value()
    ran = subprocess.run(
        ["sh", "-c", script + command],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    owners = AddressOwners().process(ran.stdout.splitlines())
    assert owners == {"192.168.1.60": "02:42:ac:8f:4c:ff"}


def test_nobody_is_asked_three_times(tmp_path: Path) -> None:
    owner, done = ask(tmp_path, ON_LAN, "FAILED")
    assert owner == ""
    assert sum("udp" in line for line in done) == 3


def test_the_way_may_be_the_hairpin_link(tmp_path: Path) -> None:
    route = "192.168.1.60 dev lb-hairpin src 192.168.1.222 uid 0 \\    cache "
    owner, done = ask(tmp_path, route, "lladdr 02:42:ac:8f:4c:ff STALE", after=1)
    assert owner == "02:42:ac:8f:4c:ff"
    assert done[1] == "-4 neighbour flush to 192.168.1.60 dev lb-hairpin"


@pytest.mark.parametrize("route", ELSEWHERE, ids=["router", "own", "broadcast", "no route"])
def test_an_address_that_is_not_on_the_lan_has_no_owner(tmp_path: Path, route: str) -> None:
    assert ask(tmp_path, route, "lladdr dc:a6:32:a8:01:28 REACHABLE") == ("", [ASKED])


def test_nobody_is_asked_while_our_own_container_runs(tmp_path: Path) -> None:
    answer = "lladdr dc:a6:32:a8:01:28 REACHABLE"
    assert ask(tmp_path, ON_LAN, answer, container="true") == ("", [ASKED])
    assert ask(tmp_path, ON_LAN, answer, container="false")[0] != ""


def test_a_docker_that_is_stopped_stays_so(tmp_path: Path) -> None:
    """docker.socket starts Docker for any client."""
    owner, done = ask(tmp_path, ON_LAN, "lladdr dc:a6:32:a8:01:28 STALE", docker="inactive")
    assert owner == "dc:a6:32:a8:01:28"
    assert ASKED not in done


def test_a_container_of_several_addresses_is_asked_about_once() -> None:
    answers = {"/containers/web/json": '{"State":{"Running":true,"Pid":1}}'}
    asked = (("192.168.1.60", "web"), ("192.168.1.61", "web"), ("192.168.1.62", "web"))
    with docker_api(answers) as api:
        assert api.says(AddressOwners(), addresses=asked) == {}
    assert api.asked == ["/_ping", "/containers/web/json"]
