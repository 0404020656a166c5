"""Look at the API's address from the LAN, from another node and its own, through every change.

The three controllers have joined a cluster for that. Before, no API server runs anywhere.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.cluster import drift, seen
from tests.cluster.joined import api_server, joined
from tests.cluster.lan_client import API, CLIENT, CONTROLLERS, Json, client
from tests.cluster.operations import COPY, HAIRPIN
from tests.cluster.operations import HAPROXY as RUN
from tests.cluster.virtual_cluster import CHECKOUT, Cluster, wait_for

PROXY = seen.PROXY
STORAGE = ("etcd1", "etcd2", "etcd3")
READYZ = "/run/lab-apiserver/readyz"
HAPROXY = "chaos_engine.deploys.haproxy"


def ask(cluster: Cluster, *arguments: str) -> Json:
    """Run the client on the LAN to its end."""
    report: Json = json.loads(cluster.run(sys.executable, CLIENT, *arguments).out)
    return report


def waited(cluster: Cluster) -> Json:
    """Return after how many seconds the address answers the LAN."""
    report = ask(cluster, "wait", API, "--seconds", "90", "--timeout", "2")
    assert report["answered"], report
    return report


def ask_from(cluster: Cluster, node: str, *arguments: str) -> Json:
    """Run the client on a node."""
    words = " ".join(arguments)
    source = (CHECKOUT / CLIENT).read_text()
    done = cluster.host(node).run("python3 -c %s " + words, source)
    assert done.rc == 0, done.stderr
    report: Json = json.loads(done.stdout)
    return report


@contextmanager
def not_ready(cluster: Cluster, node: str) -> Iterator[None]:
    """Have the API server of a node say that it is not ready, while the ``with`` block lasts."""
    cluster.exec(node, f"mkdir -p {READYZ.rpartition('/')[0]}; echo 500 > {READYZ}")
    try:
        yield
    finally:
        cluster.exec(node, f"rm {READYZ}")


def healthy(cluster: Cluster, expected: set[str]) -> Callable[[], bool]:
    """Tell whether HAProxy sends requests to exactly these controllers."""
    return lambda: set(ask(cluster, "requests", API, "--count", "12")["servers"]) == expected


@pytest.mark.parametrize("concern", seen.PROXY_CONCERNS)
def test_concern_of_the_proxy_is_seen_before_there_is_a_cluster(
    deployed: Cluster, concern: str
) -> None:
    seen.PROXY_CONCERNS[concern](deployed, PROXY, deployed.host(PROXY))


@pytest.fixture(scope="module")
def proxied(deployed: Cluster) -> Iterator[Cluster]:
    """Return the cluster when all controllers have joined and HAProxy asks them."""
    with joined(deployed, CONTROLLERS) as cluster:
        wait_for("all controllers", healthy(cluster, CONTROLLERS), 30)
        yield cluster
    assert deployed.announced("deploy.py") == {}


@pytest.mark.parametrize("concern", seen.PROXY_CONCERNS)
def test_concern_of_the_proxy_is_seen(proxied: Cluster, concern: str) -> None:
    seen.PROXY_CONCERNS[concern](proxied, PROXY, proxied.host(PROXY))


def test_the_lan_reaches_all_controllers_in_turn(proxied: Cluster) -> None:
    found = ask(proxied, "requests", API, "--count", "9")
    assert not found["failures"], found
    assert found["servers"] == dict.fromkeys(sorted(CONTROLLERS), 3)


@pytest.mark.parametrize("node", ["pi4", PROXY])
def test_nodes_reach_all_controllers(proxied: Cluster, node: str) -> None:
    found = ask_from(proxied, node, "requests", API, "--count", "9")
    assert not found["failures"], found
    assert set(found["servers"]) == CONTROLLERS


def test_one_machine_answers_for_each_address(proxied: Cluster) -> None:
    def owners(address: str) -> list[str]:
        found: list[str] = json.loads(
            proxied.run(sys.executable, "tests/cluster/arping.py", address).out
        )
        return found

    parent = proxied.exec(PROXY, "cat /sys/class/net/eth0/address")
    hairpin = proxied.exec(PROXY, "cat /sys/class/net/lb-hairpin/address")
    assert owners("192.168.1.60") == ["02:42:ac:8f:4c:ff"]
    assert owners(proxied.address(PROXY)) == [parent]
    assert owners("192.168.1.222") == [hairpin]
    # the proxy's own questions do not say otherwise: its refusal has it ask for who is refused
    proxied.exec(PROXY, f"ip neighbour flush to {proxied.address('pi4')}")
    proxied.exec("pi4", "ip neighbour flush to 192.168.1.222")
    proxied.exec("pi4", "bash -c 'echo > /dev/udp/192.168.1.222/9'")
    known = "ip neighbour show to 192.168.1.222"
    wait_for("an answer", lambda: "lladdr" in proxied.exec("pi4", known), 5)
    wait_for(
        "the proxy's question",
        lambda: "lladdr" in proxied.exec(PROXY, f"ip neighbour show to {proxied.address('pi4')}"),
        5,
    )
    assert f"lladdr {hairpin} " in proxied.exec("pi4", known) + " "


def test_the_admin_socket_tells_the_controllers_states(proxied: Cluster) -> None:
    shown = proxied.exec(PROXY, "echo show stat | nc -NU /var/log/haproxy/run/admin.sock")
    rows = [line.split(",") for line in shown.splitlines() if line.startswith("kube_controllers,")]
    assert {row[1]: row[17] for row in rows if row[1] in CONTROLLERS} == dict.fromkeys(
        CONTROLLERS, "UP"
    )


def test_a_controller_that_is_not_ready_loses_its_streams_and_gets_no_requests(
    proxied: Cluster,
) -> None:
    with client(proxied, "streams", API, "--count", "12") as streams:
        streams.until("ready")
        with not_ready(proxied, "pi4"):
            assert streams.until("broke")["server"] == "pi4"
            # the checks have found it: from here on not one request may fail
            found = ask(proxied, "requests", API, "--count", "200", "--threads", "2")
            assert not found["failures"], found
            assert set(found["servers"]) == {"pi1", "pi7"}
        report = streams.stop()
    assert report["broke_servers"] == {"pi4": report["servers"]["pi4"]}
    assert set(report["servers"]) == CONTROLLERS
    wait_for("pi4 is asked again", healthy(proxied, CONTROLLERS), 30)


def test_changes_of_the_controllers_cut_nothing(proxied: Cluster) -> None:
    """Send 5,000 requests and hold 50 streams through three changes. The last puts pi5 for pi7."""
    try:
        with api_server(proxied, PROXY):
            change_the_controllers(proxied)
            wait_for("pi5 itself is asked", healthy(proxied, {"pi1", "pi4", PROXY}), 30)
    finally:
        proxied.changed("deploy.py", "--limit", PROXY)
    assert proxied.announced("deploy.py", "--limit", PROXY) == {}
    wait_for("the site's controllers", healthy(proxied, CONTROLLERS), 30)


def change_the_controllers(cluster: Cluster) -> None:
    began = cluster.exec(PROXY, "docker inspect -f '{{.State.StartedAt}}' lb-haproxy")
    with (
        client(cluster, "streams", API, "--count", "50") as streams,
        client(cluster, "requests", API, "--count", "5000", "--pace", "180", "--threads", "8")
        as requests,
    ):  # fmt: skip
        streams.until("ready")
        for controllers in (["pi1", "pi4"], ["pi1", "pi4", "pi7"], ["pi1", "pi4", PROXY]):
            value = f"chaos_controllers={json.dumps(controllers)}"
            done = cluster.changed(HAPROXY, "--limit", PROXY, "--data", value)
            assert done == {PROXY: {f"HAProxy | {name}" for name in (RUN, COPY)}}
        found = requests.last()
        report = streams.stop()
    assert (found["count"], found["failures"]) == (5000, 0), found
    assert (report["opened"], report["failed"]) == (50, 0)
    assert not {"pi1", "pi4"} & set(report["broke_servers"]), report["broke_servers"]
    # not a new container, each time the same one
    assert began == cluster.exec(PROXY, "docker inspect -f '{{.State.StartedAt}}' lb-haproxy")


def test_a_configuration_that_haproxy_refuses_leaves_the_running_proxy_alone(
    proxied: Cluster,
) -> None:
    proxied.exec(PROXY, "docker commit -c 'ENTRYPOINT [\"false\"]' lb-haproxy haproxy:broken")
    before = proxied.exec(PROXY, "docker inspect -f '{{.Id}} {{.State.StartedAt}}' lb-haproxy")
    try:
        extra = ("--limit", PROXY, "--data", "chaos_haproxy_image=haproxy:broken")
        run = proxied.pyinfra(HAPROXY, "-y", *extra, ok=False)
        assert run.status
        assert "the new files were refused by" in run.text
    finally:
        proxied.exec(PROXY, "docker rmi haproxy:broken")
    after = proxied.exec(PROXY, "docker inspect -f '{{.Id}} {{.State.StartedAt}}' lb-haproxy")
    assert before == after
    assert proxied.announced("deploy.py", "--limit", PROXY) == {}


def test_an_image_is_taken_by_its_digest(proxied: Cluster) -> None:
    def found(what: str = "{{.Config.Image}} {{.Id}} {{.State.StartedAt}}") -> str:
        return proxied.exec(PROXY, f"docker container inspect -f '{what}' lb-haproxy")

    def image(digest: str) -> tuple[str, ...]:
        return ("--limit", PROXY, "--data", f"chaos_haproxy_image=haproxy:3.0@{digest}")

    names = proxied.exec(PROXY, "docker image inspect -f '{{index .RepoDigests 0}}' haproxy:3.0")
    digest, before = names.partition("@")[2], found()
    wrong = proxied.pyinfra(HAPROXY, "-y", *image(f"sha256:{'0' * 64}"), ok=False)
    assert wrong.status
    assert f"haproxy:3.0@sha256:{'0' * 64} cannot be pulled: " in wrong.text
    assert "or correct the digest" in wrong.text
    assert found() == before
    try:
        # the same image under a longer name: nothing is pulled
        assert proxied.changed(HAPROXY, *image(digest)) == {PROXY: {"HAProxy | Run HAProxy"}}
        assert found("{{.Config.Image}}") == f"haproxy:3.0@{digest}"
        assert proxied.announced(HAPROXY, *image(digest)) == {}
    finally:
        proxied.changed("deploy.py", "--limit", PROXY)
    waited(proxied)
    assert found("{{.Config.Image}}") == "haproxy:3.0"


@pytest.mark.parametrize(
    "name", ["hairpin's address and proxy's configuration", "proxy made by hand"]
)
def test_drift_is_named_and_fixed(proxied: Cluster, name: str) -> None:
    expected = set(drift.apply(proxied, PROXY, name).fixed_by)
    outcome = drift.fix(proxied, PROXY)[PROXY]
    assert outcome == drift.Outcome(expected, expected, failed=False, pending=set())
    assert not proxied.exec(PROXY, "ip -o link show dev foobar", ok=False)
    for look in seen.PROXY_CONCERNS.values():
        look(proxied, PROXY, proxied.host(PROXY))


def test_a_node_stays_reachable_when_a_link_goes_by_which_it_was_known(proxied: Cluster) -> None:
    """Have two links answer for an address, as the predecessor's did. The LAN knows only one."""
    proxied.exec(
        PROXY,
        "ip link delete lb-hairpin; ip link add foobar link eth0 type macvlan mode bridge; "
        "ip address add 192.168.1.222/32 dev foobar; ip link set foobar up; "
        "for link in all eth0 foobar; do for key in arp_ignore arp_announce; do "
        "echo 0 >/proc/sys/net/ipv4/conf/$link/$key; done; done",
    )
    computer = proxied.run("ip", "-br", "link", "show", "eth0").out.split()[2]
    address = proxied.run("ip", "-br", "-4", "address", "show", "eth0").out.split()[2]
    known = f"ip neighbour replace {address.partition('/')[0]} lladdr {computer}"
    proxied.exec(PROXY, f"{known} dev eth0 nud reachable")
    foobar = proxied.exec(PROXY, "cat /sys/class/net/foobar/address")
    known = f"ip neighbour replace {proxied.address(PROXY)} lladdr {foobar}"
    proxied.run(*f"{known} dev eth0 nud reachable".split())
    begin = time.monotonic()
    changed = proxied.changed("deploy.py", "--limit", PROXY)
    assert changed == {PROXY: {f"Proxy | HAProxy | {HAIRPIN}"}}
    assert time.monotonic() - begin < 25  # else a minute, until ARP gives up


def test_containers_of_others_keep_their_network(proxied: Cluster) -> None:
    run = "docker run -d --rm --name other --network lb-network --ip 192.168.1.61 --entrypoint"
    proxied.exec(PROXY, f"{run} sleep haproxy:3.0 600")
    try:
        done = proxied.pyinfra(
            "deploy.py", "-y", "--limit", PROXY, "--data", "chaos_lan_gateway=192.168.1.9", ok=False
        )
        assert done.status
        assert "Refuse node" in done.text
        assert "other" in done.text
        assert proxied.exec(PROXY, "docker inspect -f '{{.State.Running}}' other") == "true"
    finally:
        proxied.exec(PROXY, "docker rm -f other")
    waited(proxied)


def test_an_address_that_another_machine_has_is_not_taken(proxied: Cluster) -> None:
    proxied.exec(PROXY, "systemctl stop docker_haproxy")
    proxied.exec("pi4", "ip address add 192.168.1.60/32 dev eth0")
    try:
        run = proxied.pyinfra("deploy.py", "-y", "--limit", PROXY, ok=False)
        assert run.status
        mac = proxied.exec("pi4", "cat /sys/class/net/eth0/address")
        assert f"192.168.1.60 belongs to the machine with the MAC address {mac}" in run.text
        assert proxied.exec(PROXY, "systemctl is-active docker_haproxy", ok=False) == "inactive"
    finally:
        proxied.exec("pi4", "ip address del 192.168.1.60/32 dev eth0")
        proxied.exec(PROXY, "systemctl start docker_haproxy")
    waited(proxied)


@pytest.mark.parametrize(
    "command",
    [
        "docker kill lb-haproxy",
        "systemctl restart docker",
        "kill -9 $(systemctl show -p MainPID --value docker)",
    ],
    ids=["container killed", "docker restarted", "docker killed"],
)
def test_the_address_answers_again_by_itself(proxied: Cluster, command: str) -> None:
    def started() -> str:
        return proxied.exec(PROXY, "docker inspect -f '{{.State.StartedAt}}' lb-haproxy", ok=False)

    before = started()
    begin = time.monotonic()
    proxied.exec(PROXY, command)
    wait_for("a new container", lambda: started() not in ("", before), 60)
    waited(proxied)
    print(f"{command}: answered after {time.monotonic() - begin:.1f} s")
    assert proxied.announced("deploy.py", "--limit", PROXY) == {}


def test_the_address_comes_back_after_a_reboot(proxied: Cluster) -> None:
    before = proxied.boot_id(PROXY)
    begin = time.monotonic()
    proxied.exec(PROXY, "systemctl reboot")
    wait_for("another boot", lambda: proxied.has_rebooted(PROXY, before), 90)
    waited(proxied)
    print(f"reboot: answered after {time.monotonic() - begin:.1f} s")


def test_the_address_comes_back_after_a_power_cut_without_log_storage(proxied: Cluster) -> None:
    for node in STORAGE:
        proxied.power(node, "cut")
    try:
        begin = time.monotonic()
        proxied.power(PROXY, "cycle")
        waited(proxied)
        print(f"power cut, no log storage: answered after {time.monotonic() - begin:.1f} s")
        assert "var-log-in-ram" in proxied.exec(PROXY, "findmnt -no SOURCE --mountpoint /var/log")
    finally:
        for node in STORAGE:
            proxied.power(node, "on")
    proxied.await_shares()
    assert proxied.announced("deploy.py", "--limit", PROXY) == {}
