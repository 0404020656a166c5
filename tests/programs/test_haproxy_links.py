"""Test how several proxies own the address in turn: the start script, in network namespaces."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.programs.lan import Lan, Proxy, lan, run, wait

_LINKS = "ip link add v0 type veth peer name v1 && ip link add link v0 name v2 type macvlan"

pytestmark = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--net", "sh", "-c", _LINKS], stderr=subprocess.DEVNULL, check=False
    ).returncode
    != 0,
    reason="only root has network namespaces of its own, and macvlan links in them",
)

needs_iptables = pytest.mark.skipif(
    not shutil.which("iptables-restore"), reason="iptables is not installed"
)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lan]:
    with lan(tmp_path) as made:
        yield made


def test_only_the_owner_answers(two: Lan) -> None:
    one, other = two.proxies
    assert two.who().startswith("error: ")
    one.elect()
    assert (two.who(), one.up(), other.up()) == ("p1", True, False)
    other.elect()
    one.dismiss()
    assert (two.who(), one.up(), other.up()) == ("p2", False, True)
    assert (one.root / "run/down").read_text() == "0\n"


def test_the_address_moves_while_clients_ask(two: Lan) -> None:
    """Without a hand-over, a request that has begun is cut."""
    one, other = two.proxies
    one.elect()
    with two.asking(2) as answers:
        old = threading.Thread(target=one.dismiss)
        old.start()
        other.elect()
        old.join()
    assert len([new for new, _, _ in answers if new.startswith("error: ")]) <= 2
    assert answers[-1][0] == "p2"
    assert max(took for _, _, took in answers) < 1


def test_an_address_that_nobody_renews_goes(two: Lan) -> None:
    """So it is on a node that is frozen."""
    one, _ = two.proxies
    two.asleep.add("p1")
    one.elect()
    assert "forever" not in one.address()
    wait(lambda: not one.address())
    assert two.who().startswith("error: ")
    two.asleep.clear()
    wait(lambda: bool(one.address()))
    time.sleep(4)
    assert two.who() == "p1"


def test_an_owner_whose_haproxy_is_slow_keeps_the_address_until_another_has_it(two: Lan) -> None:
    one, other = two.proxies
    one.elect()
    assert one.container
    one.container.send_signal(signal.SIGSTOP)
    assert one.call("alive") == 1
    time.sleep(4)
    assert one.address()
    other.elect()
    wait(lambda: not one.address())
    one.container.send_signal(signal.SIGCONT)


def test_a_new_owner_that_is_slow_does_not_lose_the_address_at_once(two: Lan) -> None:
    one, other = two.proxies
    one.elect()
    one.end()
    one.call("ended")
    ip = shutil.which("ip")
    other.program("ip", f'case "$*" in *-batch*) sleep 0.15 ;; esac; exec {ip} "$@"')
    becoming = threading.Thread(target=other.elect)
    becoming.start()
    wait(lambda: bool(other.address()))
    while becoming.is_alive():
        assert other.address()
    becoming.join()


def test_a_standby_is_asked_without_a_change(two: Lan) -> None:
    one, _ = two.proxies
    assert one.call("alive") == 0
    assert not one.up()
    assert one.call("follow") == 0
    assert not one.up()


@pytest.mark.parametrize("by", ["alive", "hand-over", "ended"])
def test_a_container_that_is_gone_has_no_link_any_more(two: Lan, by: str) -> None:
    """Sockets of clients would keep the links for a minute, in the namespace of the dead container.
    The node's own link would go on reaching them."""
    one, other = two.proxies
    one.elect()
    one.end()
    assert two.who().startswith("error: ")
    assert (one.call(by) == 0) == (by != "alive")
    assert (one.root / "run/down").read_text() == "50\n"
    assert one.call("alive") != 0
    assert one.call("follow") == one.call("hand-over") == 0
    other.elect()
    assert two.who() == "p2"


def test_a_new_owner_cuts_what_is_left_of_a_dead_one(two: Lan) -> None:
    one, other = two.proxies
    one.elect()
    with two.asking(1, "keep") as answers:
        one.end()
        one.call("ended")
        other.elect()
    assert answers[-1][0] == "p2"
    assert answers[-1][1].startswith("error: ")


def hand_over(one: Proxy, other: Proxy) -> None:
    """Have a proxy hand the address over, as its units and keepalived do it together."""
    leaving = threading.Thread(target=one.call, args=("hand-over",))
    leaving.start()
    wait(lambda: (one.root / "run/down").read_text() == "50\n")
    other.elect()
    one.dismiss()
    leaving.join()


@needs_iptables
def test_an_old_connection_outlives_a_hand_over(two: Lan) -> None:
    one, other = two.proxies
    one.elect()
    with two.asking(2, "keep") as answers:
        hand_over(one, other)
    assert {kept for _, kept, _ in answers} == {"p1"}
    assert {new for new, _, _ in answers} == {"p1", "p2"}
    assert answers[-1][0] == "p2"
    assert max(took for _, _, took in answers) < 1


@needs_iptables
def test_a_proxy_that_has_handed_over_can_own_the_address_again(two: Lan) -> None:
    """Its container is the same one if keepalived alone was restarted."""
    one, other = two.proxies
    one.elect()
    hand_over(one, other)
    assert one.call("end-draining") == 0
    assert (one.root / "run/down").read_text() == "0\n"
    assert (one.up(), who_is_asked_anew(two)) == (False, "p2")
    with two.asking(2, "keep") as answers:
        hand_over(other, one)
    assert {kept for _, kept, _ in answers} == {"p2"}
    assert answers[-1][0] == "p1"
    assert max(took for _, _, took in answers) < 1


def test_who_hands_the_address_over_answers_nobody_who_asks_for_it(two: Lan) -> None:
    """Check it, as an answer would have the switch send the new owner's frames to the old one."""
    one, other = two.proxies
    one.elect()
    assert two.who() == "p1"
    leaving = threading.Thread(target=one.call, args=("hand-over",))
    leaving.start()
    wait(lambda: (one.root / "run/down").read_text() == "50\n")
    other.elect()
    assert one.up()
    assert one.inside("ip", "-4", "neighbour", "show", "dev", "api") == ""
    for _ in range(10):
        assert one.call("alive") == 0, "as keepalived does each second"
        assert (two.who(), who_is_asked_anew(two)) == ("p2", "p2")
    one.dismiss()
    leaving.join()


def test_an_owner_that_gets_the_address_back_answers_again(two: Lan) -> None:
    one, other = two.proxies
    one.elect()
    other.elect()
    one.dismiss()
    one.elect()
    other.dismiss()
    assert who_is_asked_anew(two) == "p1"


def test_a_client_on_the_new_owner_waits_for_nothing(two: Lan) -> None:
    """Its frames reach the new owner's link at once, and the switch has no part in it."""
    one, other = two.proxies
    ip = shutil.which("ip")
    slowly = f'while read -r line; do echo "$line" | {ip} "$@" || exit; sleep 0.05; done'
    other.program("ip", f'case "$*" in *-batch*) {slowly} ;; *) exec {ip} "$@" ;; esac')
    assert other.call("hairpin") == 0
    one.elect()
    with replace(two, client=other.node).asking(3) as answers:
        hand_over(one, other)
    assert answers[-1][0] == "p2"
    assert max(took for _, _, took in answers) < 1


def who_is_asked_anew(two: Lan) -> str:
    """Return the proxy that answers the client after it has asked by ARP."""
    run("ip", "neighbour", "flush", "dev", "eth0", namespace=two.client)
    return two.who()


def test_another_proxy_is_known_a_second_later(two: Lan) -> None:
    one, other = two.proxies
    one.tell([*one.others, IPv4Address("192.168.77.250")])
    other.elect()

    def known() -> bool:
        return "169.254.77.250" in one.inside("ip", "-4", "route")

    wait(known)
    assert (one.up(), two.who()) == (False, "p2")


def test_a_new_container_of_the_owner_gets_the_address(two: Lan) -> None:
    one, _ = two.proxies
    one.elect()
    one.end()
    one.start()
    assert two.who() == "p1"
    assert (one.root / "run/down").read_text() == "0\n"


def test_a_node_without_an_address_gives_the_api_address_up(two: Lan) -> None:
    """Its adverts do not arrive, so the other proxy becomes the owner. keepalived goes on."""
    one, other = two.proxies
    one.elect()
    run("ip", "address", "flush", "dev", "eth0", namespace=one.node)
    other.elect()
    wait(lambda: not one.up())
    assert (two.who(), who_is_asked_anew(two)) == ("p2", "p2")


def test_a_container_whose_namespace_has_no_name_any_more_is_started_anew(two: Lan) -> None:
    """People delete all names after CNI plugins."""
    one, _ = two.proxies
    one.program("docker", f'echo "$*" >>{one.root}/asked')
    one.elect()
    run("ip", "netns", "delete", f"{one.node}c")
    assert one.call("alive") == 1
    assert "kill lb-haproxy" in (one.root / "asked").read_text()


def test_keepalived_is_restarted_for_another_parent_interface(two: Lan) -> None:
    """keepalived 2.2 is deaf after that. A new container has its links already."""
    one, _ = two.proxies
    two.asleep.add("p1")
    one.program("systemctl", f'echo "$*" >>{one.root}/asked')
    index = run("ip", "-o", "link", "show", "eth0", namespace=one.node).partition(":")[0]
    (one.root / "run/ifindex").write_text(f"{index}\n")
    assert one.call("alive") == 0
    assert not (one.root / "asked").exists()
    (one.root / "run/ifindex").write_text("1\n")
    assert one.call("alive") == 0
    asked = (one.root / "asked").read_text()
    assert asked == "--no-block try-restart haproxy_vrrp.service\n"


def test_a_node_with_another_address_than_its_own_is_no_owner(two: Lan) -> None:
    """Adverts to its own address do not arrive, so keepalived becomes the owner there."""
    one, other = two.proxies
    one.elect()
    run("ip", "address", "flush", "dev", "eth0", namespace=other.node)
    run("ip", "address", "add", "192.168.77.99/24", "dev", "eth0", namespace=other.node)
    other.elect()
    assert (other.up(), two.who()) == (False, "p1")


def test_a_container_that_has_ended_takes_nothing_from_the_next_one(two: Lan) -> None:
    """The check finds the end of the old one, and is late."""
    one, _ = two.proxies
    one.elect()
    one.end()
    old = (one.root / "run/pid").read_text().strip()
    one.start()
    late = f"pid={old} exec {one.path} ended"
    run("sh", "-c", late, namespace=one.node)
    assert (one.root / "run/down").read_text() == "0\n"
    assert two.who() == "p1"


def test_a_standby_sends_nothing_back_to_the_lan(two: Lan) -> None:
    """For a moment a new owner copies packets to each proxy, also to one that does not drain."""
    one, _ = two.proxies
    for link in ("api", "drain"):
        assert one.inside("sysctl", "-n", f"net.ipv4.conf.{link}.forwarding") == "0\n"


@pytest.mark.parametrize(("status", "reaches"), [("UP", True), ("UP 1/3", True), ("DOWN", False)])
def test_a_proxy_knows_whether_it_reaches_a_controller(
    two: Lan, status: str, reaches: bool
) -> None:
    one, _ = two.proxies
    before = "kube_controllers,BACKEND,0,0,0,2,200,7,462,1386,0,0,,0,0,0,0"
    one.program("perl", f"echo '# pxname,svname'; echo {before!r},{status!r},3,3,0,,0,20,0")
    assert (one.call("reaches") == 0) == reaches


def test_a_container_that_has_lost_its_links_is_started_anew(two: Lan) -> None:
    """The kernel removes macvlan links together with a network adapter that is reset."""
    one, _ = two.proxies
    one.program("docker", f'echo "$*" >>{one.root}/asked')
    assert one.call("alive") == 0
    run("ip", "link", "delete", "eth0", namespace=one.node)
    assert one.call("alive") == 1
    assert not (one.root / "asked").exists(), "a new container could not have links yet"
    run("ip", "link", "add", "eth0", "type", "bridge", namespace=one.node)
    assert one.call("alive") == 1
    assert "kill lb-haproxy" in (one.root / "asked").read_text()
