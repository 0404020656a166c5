"""Test the proxy: settings, configuration, decisions, and the start script, run by a shell."""

from __future__ import annotations

import hashlib
import stat
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.deploys.haproxy import (
    API_PORT,
    HaproxySettings,
    haproxy_files,
    peers,
    start_script,
)
from chaos_engine.deploys.proxy_group import ProxyNode
from chaos_engine.facts.containers import Container, ContainerState, Image
from chaos_engine.facts.docker import DockerNetwork
from chaos_engine.facts.haproxy import RUN, SCRIPT, HaproxyServers, ServerState
from chaos_engine.facts.haproxy import SEVERAL as SEVERAL_SCRIPT
from chaos_engine.facts.macvlan import MacvlanLink
from chaos_engine.facts.network import InterfaceState
from chaos_engine.facts.share import confined
from chaos_engine.operations.engine.shell import NOTES, PRELUDE
from chaos_engine.operations.files import File, Plan
from chaos_engine.operations.haproxy.container import (
    _PULL,
    _REMOVE_LINKS,
    CHECKSUM,
    OWN,
    UNIT,
    UNIT_FILE,
    UNIT_OF_SEVERAL,
    Proxy,
    address_conflict,
    before,
    check,
    container_conflict,
    differences,
    predecessors,
    sealed,
    with_restart,
)
from chaos_engine.operations.macvlan_network.hairpin import link_problems
from chaos_engine.templates import render
from tests.unit.asking import ask
from tests.unit.scripts import Sandbox
from tests.unit.share import stand_in

VIP = IPv4Address("192.168.1.60")
HAIRPIN = IPv4Address("192.168.1.222")
MAC = "02:42:ac:8f:4c:ff"
PROXY = Proxy("haproxy:3.0", "lb-network", "eth0", VIP, MAC)
RUNNING = ContainerState(
    running=True,
    image="haproxy:3.0",
    image_id="sha256:aa",
    addresses={"lb-network": ("192.168.1.60", MAC)},
    mounts={"/usr/local/etc/haproxy": f"{RUN}/config", "/run/haproxy": f"{RUN}/socket"},
)


def settings(**values: Any) -> HaproxySettings:
    return HaproxySettings(
        **{
            "nodes": {f"pi{n}": f"192.168.1.{49 + n}" for n in range(1, 11)},
            "controllers": ["pi1", "pi4", "pi7"],
            "storage_servers": {"etcd1": "192.168.1.40"},
            "vip": "192.168.1.60",
            "lan_subnet": "192.168.1.0/24",
            "lan_gateway": "192.168.1.1",
            "hairpin_address": "192.168.1.222",
            "vip_mac": MAC,
            **values,
        }
    )


def test_a_mac_address_is_taken_in_capitals() -> None:
    assert settings(vip_mac="02:42:AC:8F:4C:FF").mac == MAC


def test_without_a_mac_address_it_is_made_of_the_address() -> None:
    assert settings(vip_mac=None).mac == "02:42:c0:a8:01:3c"


def test_a_controller_on_the_proxy_is_reached_through_the_hairpin() -> None:
    servers = settings(controllers=["pi1", "pi5"]).servers("pi5")
    assert servers == {"pi1": IPv4Address("192.168.1.50"), "pi5": HAIRPIN}


def test_the_configuration_names_each_controller_once() -> None:
    text = render(
        "haproxy.cfg.j2",
        vip=VIP,
        port=443,
        controllers=settings().servers("pi5"),
        api_port=API_PORT,
    )
    assert [line.split() for line in text.splitlines() if line.startswith("    server ")] == [
        ["server", "pi1", "192.168.1.50:6443"],
        ["server", "pi4", "192.168.1.53:6443"],
        ["server", "pi7", "192.168.1.56:6443"],
    ]
    assert "    bind 192.168.1.60:443\n" in text
    # HAProxy takes a file whose last line has no line feed for truncated
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"running": False}, ["it does not run"]),
        ({"image": "haproxy:2.6"}, ["it runs haproxy:2.6 (sha256:aa)"]),
        ({"image_id": "sha256:bb"}, ["it runs haproxy:3.0 (sha256:bb)"]),
        ({"addresses": {"lb-network": ("192.168.1.61", MAC)}}, ["it has the addresses"]),
        ({"addresses": {"bridge": ("172.17.0.2", MAC)}}, ["it has the addresses"]),
        ({"addresses": {"lb-network": (str(VIP), "02:42:0:0:0:1")}}, ["it has the addresses"]),
        ({"mounts": {"/usr/local/etc/haproxy": "/var/log/haproxy"}}, ["it has the mounts"]),
    ],
)
def test_a_container_that_differs_is_found(change: dict[str, Any], expected: list[str]) -> None:
    found = differences(PROXY, replace(RUNNING, **change), "sha256:aa")
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


DIGEST = f"sha256:{'c2' * 32}"


@pytest.mark.parametrize(
    "image",
    [
        "haproxy:3.0",
        f"haproxy:3.0@{DIGEST}",
        f"haproxy@{DIGEST}",
        "docker.io/library/haproxy:3.0-bookworm",
        f"registry.example:5000/team/haproxy_lb--arm/a.b__c:3.0_x@{DIGEST}",
        "localhost/haproxy:latest",
        "192.168.1.5:5000/haproxy:3.0",
        f"haproxy:{'t' * 128}",
    ],
)
def test_images_have_a_tag_or_a_digest(image: str) -> None:
    assert settings(haproxy_image=image).haproxy_image == image


@pytest.mark.parametrize(
    "image",
    [
        "haproxy",
        "registry.example:5000/haproxy",
        "haproxy:",
        "haproxy@",
        "haproxy@latest",
        "Haproxy:3.0",
        "haproxy:3.0:3.1",
        "haproxy:3.0@sha256:c23f",
        f"haproxy:3.0@{DIGEST.upper()}",
        f"haproxy:3.0@{DIGEST[:-1]}g",
        f"haproxy:3.0@{DIGEST}0",
        f"haproxy:3.0@{DIGEST}@{DIGEST}",
        f"haproxy:3.0{DIGEST}",
        f"haproxy@{DIGEST}:3.0",
        f"haproxy@sha512:{'c2' * 64}",
        DIGEST.replace("sha256:", ""),
        "/haproxy:3.0",
        "a//haproxy:3.0",
        "registry.example:port/haproxy:3.0",
        "--privileged:3.0",
        f"haproxy:{'t' * 129}",
        "haproxy:3.0\n",
    ],
)
def test_what_is_no_image_with_a_tag_or_a_digest_is_refused(image: str) -> None:
    with pytest.raises(ValueError, match="image with a tag, a digest or both"):
        settings(haproxy_image=image)


def test_another_digest_is_another_image() -> None:
    """Docker keeps the full image name that a container was started with."""
    pinned = replace(PROXY, image=f"haproxy:3.0@{DIGEST}")
    assert differences(pinned, RUNNING, "sha256:aa") == ["it runs haproxy:3.0 (sha256:aa)"]
    running = replace(RUNNING, image=pinned.image)
    assert differences(pinned, running, "sha256:aa") == []
    assert differences(pinned, running, "") == []
    moved = replace(PROXY, image=f"haproxy:3.0@sha256:{'d3' * 32}")
    assert len(differences(moved, running, "")) == 1
    assert f"{pinned.image} haproxy -c" in check(Plan(write=(File(SCRIPT, ""),)), pinned.image)


@pytest.mark.parametrize(
    ("image", "said", "tries", "hint"),
    [
        (f"haproxy:3.0@{DIGEST}", "manifest unknown", 1, "or correct the digest"),
        (f"haproxy:3.0@{DIGEST}", "no such host", 3, "or correct the digest"),
        (
            "haproxy:3.0",
            "docker.io/library/haproxy:3.0: not found",
            1,
            "or bring it by docker load",
        ),
        ("haproxy:3.0", "i/o timeout", 3, "or bring it by docker load"),
    ],
)
def test_a_pull_is_tried_again_while_the_registry_does_not_answer(
    tmp_path: Path, image: str, said: str, tries: int, hint: str
) -> None:
    docker = f"""
    sleep() {{ :; }}
    docker() {{ echo "$*" >>{tmp_path}/docker.log; echo "error: {said}" >&2; return 1; }}
    """
    script = Sandbox(tmp_path).localise(f"{PRELUDE}{NOTES}{_PULL}")
    done = subprocess.run(
        ["sh", "-c", f"{docker}{script}", "sh", image],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    calls = (tmp_path / "docker.log").read_text().splitlines()
    assert calls == [f"pull -- {image}"] * tries
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"{image} cannot be pulled: ")
    assert done.stderr.rstrip().partition(" (docker pull of")[0].endswith(hint)


def test_an_image_that_nobody_can_tell_of_is_no_difference() -> None:
    assert differences(PROXY, RUNNING, None) == []
    assert differences(PROXY, None, None) == ["it does not run"]


def test_a_container_that_differs_is_made_anew_once() -> None:
    assert with_restart(Plan(), ["it does not run"]).restart == (UNIT,)
    assert with_restart(Plan(start=(UNIT,)), ["it does not run"]) == Plan(start=(UNIT,))
    assert with_restart(Plan(), []) == Plan()
    several = with_restart(Plan(), ["it does not run"], UNIT_OF_SEVERAL).restart
    assert several == (UNIT_OF_SEVERAL,)


def test_another_container_with_the_address_is_left_alone() -> None:
    network = DockerNetwork(
        driver="macvlan",
        parent="eth0",
        mode="bridge",
        subnets=("192.168.1.0/24",),
        containers={"nosy_tesla": "192.168.1.60", "web": "192.168.1.70"},
    )
    assert "docker rm -f nosy_tesla" in container_conflict(PROXY, network)
    assert (
        container_conflict(PROXY, replace(network, containers={"lb-haproxy": "192.168.1.60"})) == ""
    )
    assert container_conflict(PROXY, None) == ""


def test_a_container_that_was_the_proxy_is_replaced() -> None:
    """The proxy has both addresses. A container with another MAC address is somebody else's."""
    network = DockerNetwork(
        "macvlan",
        "eth0",
        "bridge",
        ("192.168.1.0/24",),
        containers={"brave_cohen": "192.168.1.60", "other": "192.168.1.61", "stopped": ""},
        macs={"brave_cohen": MAC, "other": MAC},
    )
    assert predecessors(PROXY, network) == ["brave_cohen"]
    assert container_conflict(PROXY, network) == ""
    stranger = replace(network, macs={"brave_cohen": "02:42:c0:a8:01:3c"})
    assert predecessors(PROXY, stranger) == []
    assert "docker rm -f brave_cohen" in container_conflict(PROXY, stranger)
    own = replace(network, containers={"lb-haproxy": "192.168.1.60"}, macs={"lb-haproxy": MAC})
    assert predecessors(PROXY, own) == predecessors(PROXY, None) == []


ONE = {
    "haproxy.cfg": "4e8a654283f4419d0bf360ba8d4982700f61fb5032d8825d8f33a4608176e09d",
    "haproxy_start.sh": "aba8846789fc6d24a1b17d12745f99cef5805487604cbb6d004ce8788e5c8bc9",
    "docker_haproxy.service": "17b60aa8d1dc9b8686837b6e443e90dcfd2528ca16a89673763804ffbe27d0c6",
}
"""Checksums of the files on a single proxy, as they were before there could be several proxies. Who
changes one of them on purpose puts the new checksum here: the proxy is then restarted once."""


def test_a_single_proxy_has_the_files_it_always_had() -> None:
    only = settings()
    api = {"vip": VIP, "port": 6443}
    config = render("haproxy.cfg.j2", **api, controllers=only.servers("pi4"), api_port=API_PORT)
    unit = render("docker_haproxy.service.j2", **api, container="lb-haproxy", several=False)
    texts = {
        "haproxy.cfg": sealed(config),
        "haproxy_start.sh": start_script(only),
        "docker_haproxy.service": unit,
    }
    found = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    assert found == ONE


NODES = (
    ProxyNode("pi5", "pi5", IPv4Address("192.168.1.54"), HAIRPIN),
    ProxyNode("pi7", "pi7", IPv4Address("192.168.1.56"), IPv4Address("192.168.1.223")),
    ProxyNode("pi8", "pi8", IPv4Address("192.168.1.57"), IPv4Address("192.168.1.224")),
)


def test_each_of_several_proxies_knows_the_links_of_the_others() -> None:
    assert peers(NODES, "pi5") == (
        "169.254.1.223=06:42:c0:a8:01:df 169.254.1.224=06:42:c0:a8:01:e0\n"
    )
    script = start_script(settings(), NODES[0])
    assert "  add_link drain 06:42:c0:a8:01:de\n" in script
    assert 'echo "address replace 169.254.1.222/32 dev drain noprefixroute"' in script
    assert "marker=127.60.0.60 " in script
    assert "node=192.168.1.54 " in script
    assert "--network bridge --sysctl net.ipv4.ip_nonlocal_bind=1 --cidfile" in script
    assert '--ip "$vip"' not in script


def test_several_proxies_reach_a_controller_on_their_own_node_directly() -> None:
    assert settings(controllers=["pi1", "pi5"]).servers_of_several() == {
        "pi1": IPv4Address("192.168.1.50"),
        "pi5": IPv4Address("192.168.1.54"),
    }


def test_one_of_several_proxies_hands_the_address_over_before_its_container_stops() -> None:
    text = render(
        "docker_haproxy.service.j2",
        vip=VIP,
        port=6443,
        container="lb-haproxy",
        several=True,
        vrrp="haproxy_vrrp.service",
    )
    lines = text.splitlines()
    hand_over = lines.index("ExecStop=-/usr/sbin/haproxy_several.sh hand-over")
    assert lines[hand_over + 1].startswith("ExecStop=-/usr/bin/docker stop ")
    assert "After=haproxy_vrrp.service" in lines
    assert "ExecStartPost=/usr/sbin/haproxy_several.sh links" in lines


def test_the_unit_alone_makes_an_only_proxy_one_of_several() -> None:
    """A run may be killed between any two files. So the script that runs is never replaced."""
    one = settings()
    config = sealed("global\n")
    only = haproxy_files(one, (), "pi5", config)
    several = haproxy_files(one, NODES, "pi5", config)
    assert {file.path for file in only} - {UNIT_FILE} < {file.path for file in several}
    for file in only:
        same = next(other for other in several if other.path == file.path)
        assert (same == file) == (file.path != UNIT_FILE)
    assert only[-1].path == several[-1].path == UNIT_FILE
    assert SEVERAL_SCRIPT not in str(only[-1].content)
    assert SCRIPT not in str(several[-1].content)


@pytest.mark.parametrize("followed", [False, True], ids=["the last one", "another follows"])
def test_the_links_of_one_of_several_stay_until_its_container_has_ended(
    tmp_path: Path, followed: bool
) -> None:
    (tmp_path / "bin").mkdir()
    ip = tmp_path / "bin/ip"
    ip.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/ip.log\n')
    ip.chmod(0o755)
    with subprocess.Popen(["sleep", "60"]) as container:
        (tmp_path / "pid").write_text(f"{container.pid}\n")
        script = subprocess.Popen(
            ["sh", "-euc", f"exec 9>/dev/null\n{_REMOVE_LINKS}wait".replace(RUN, str(tmp_path))],
            env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
        )
        with pytest.raises(subprocess.TimeoutExpired):
            script.wait(0.3)
        assert not (tmp_path / "ip.log").exists()
        if followed:
            (tmp_path / "pid").write_text("1\n")
        container.kill()
    assert script.wait(20) == 0
    assert (tmp_path / "pid").exists() == followed
    assert (tmp_path / "ip.log").exists() != followed
    if not followed:
        assert "netns delete lb-haproxy" in (tmp_path / "ip.log").read_text()


SEVERAL = replace(PROXY, several=True)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ({"bridge": ("172.17.0.2", "02:42:ac:11:00:02")}, 0),
        ({"lb-network": ("192.168.1.60", MAC)}, 1),
        ({"bridge": ("172.17.0.2", MAC), "lb-network": ("192.168.1.60", MAC)}, 1),
        ({}, 1),
    ],
)
def test_the_container_of_several_proxies_is_on_the_bridge(
    addresses: dict[str, tuple[str, str]], expected: int
) -> None:
    found = differences(SEVERAL, replace(RUNNING, addresses=addresses), "sha256:aa")
    assert len(found) == expected
    assert differences(PROXY, replace(RUNNING, addresses={"bridge": ("172.17.0.2", MAC)}), "")


def test_who_was_one_of_several_proxies_asks_for_the_others_first() -> None:
    bridged = replace(RUNNING, addresses={"bridge": ("172.17.0.2", MAC)})
    assert before(PROXY, bridged).endswith("others 192.168.1.60\n")
    assert before(PROXY, RUNNING) == before(PROXY, None) == before(SEVERAL, bridged) == ""


@pytest.mark.parametrize(
    ("owns", "taken", "answers", "fails"),
    [
        (True, False, False, False),
        (True, True, True, True),
        (False, False, True, True),
        (False, False, False, False),
    ],
    ids=["alone", "another takes it", "another has it", "nobody has it"],
)
def test_a_proxy_becomes_the_only_one_if_no_other_has_the_address(
    tmp_path: Path, owns: bool, taken: bool, answers: bool, fails: bool
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "down").write_text("0\n")
    if owns:
        (run / "owns").touch()
    programs = f"""
    sleep() {{ {f"rm -f {run}/owns" if taken else ":"}; }}
    timeout() {{ :; }}
    ip() {{ case $* in *show*) {"echo 192.168.1.60 lladdr 02:42" if answers else ":"} ;; esac; }}
    """
    bridged = replace(RUNNING, addresses={"bridge": ("172.17.0.2", MAC)})
    script = before(PROXY, bridged).replace(RUN, str(run))
    done = subprocess.run(
        ["sh", "-euc", f"{programs}{script}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 1) == fails, done.stderr
    assert ("owned by another proxy" in done.stderr) == fails
    assert (run / "down").read_text() == "0\n"


def test_another_proxy_may_have_the_address_but_no_other_machine() -> None:
    assert address_conflict(SEVERAL, MAC) == ""
    assert "belongs to the machine" in address_conflict(SEVERAL, "dc:a6:32:0:0:1")


def test_another_machine_with_the_address_keeps_it() -> None:
    assert "on another node, or in another container on this node" in address_conflict(PROXY, MAC)
    assert "belongs to the machine with the MAC address dc:a6:32:0:0:1" in address_conflict(
        PROXY, "dc:a6:32:0:0:1"
    )
    assert address_conflict(PROXY, "") == ""


LINK = MacvlanLink(
    parent="eth0",
    mode="bridge",
    up=True,
    mac="5e:00:00:00:00:01",
    addresses=("192.168.1.222/32",),
    routes={"192.168.1.60/32": "192.168.1.222"},
    arp_ignore=1,
)
PARENT = InterfaceState(
    up=True,
    wireless=False,
    master="",
    mac="dc:a6:32:a8:01:36",
    addresses=("192.168.1.54/24",),
    arp_ignore=1,
)


@pytest.mark.parametrize(
    ("links", "parent", "expected"),
    [
        ({"lb-hairpin": LINK}, PARENT, []),
        ({}, PARENT, ["lb-hairpin is not there"]),
        (
            {"lb-hairpin": replace(LINK, addresses=())},
            PARENT,
            ["lb-hairpin has the addresses none"],
        ),
        (
            {"lb-hairpin": replace(LINK, routes={})},
            PARENT,
            ["lb-hairpin should have exactly one route"],
        ),
        ({"lb-hairpin": replace(LINK, up=False)}, PARENT, ["lb-hairpin is down"]),
        ({"lb-hairpin": replace(LINK, mode="vepa")}, PARENT, ["lb-hairpin is on eth0 in the mode"]),
        ({"lb-hairpin": replace(LINK, parent="eth1")}, PARENT, ["lb-hairpin is on eth1"]),
        ({"lb-hairpin": replace(LINK, arp_ignore=0)}, PARENT, ["arp_ignore of lb-hairpin"]),
        ({"lb-hairpin": LINK}, replace(PARENT, arp_ignore=0), ["arp_ignore of eth0"]),
        ({"lb-hairpin": LINK, "foobar": LINK}, PARENT, ["foobar has the address 192.168.1.222"]),
    ],
)
def test_each_piece_of_the_hairpin_is_missed(
    links: dict[str, MacvlanLink], parent: InterfaceState, expected: list[str]
) -> None:
    found = link_problems(links, parent, "lb-hairpin", "eth0", HAIRPIN, VIP)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found.values(), expected, strict=True))


def test_only_what_haproxy_reads_is_checked_by_it() -> None:
    config = File(f"{OWN}/haproxy.cfg", "global\n")
    script = File(SCRIPT, "#!/bin/sh\n", mode="755")
    unit = File("/etc/systemd/system/docker_haproxy.service", "[Unit]\n")
    assert check(Plan(write=(unit,)), "haproxy:3.0") == ""
    assert f'"$stage"{OWN}/haproxy.cfg' in check(Plan(write=(config,)), "haproxy:3.0")
    # the script names the image: another one may refuse the configuration that is there
    other = check(Plan(write=(script,)), "haproxy:2.6")
    assert f"install -m 644 {OWN}/haproxy.cfg" in other
    assert "haproxy:2.6 haproxy -c -f" in other


def test_containers_are_read() -> None:
    line = """{"Image": "sha256:aa", "State": {"Running": true},
      "Config": {"Image": "haproxy:3.0"},
      "Mounts": [{"Type": "bind", "Source": "/run/a", "Destination": "/run/haproxy"}],
      "NetworkSettings": {"Networks": {"lb-network": {"IPAddress": "192.168.1.60",
        "MacAddress": "02:42:ac:8f:4c:ff"}}}}"""
    found = Container().parse([line.replace("\n", "")])
    assert found == replace(RUNNING, mounts={"/run/haproxy": "/run/a"})
    assert Container().parse([]) is None


# `docker container inspect` of Docker 29.7.2 prints what the API answers. It is cut down to what is
# read. No address, nor a MAC address, is in Config or beside Networks any more
RECORDED_29 = """{"Image": "sha256:aa", "State": {"Status": "running", "Running": true},
  "Config": {"Hostname": "d55b721af75b", "User": "haproxy", "Image": "haproxy:3.0",
    "Labels": {}, "StopSignal": "TERM"},
  "Mounts": [{"Type": "bind", "Source": "/run/a", "Destination": "/run/haproxy", "Mode": "",
    "RW": true, "Propagation": "rprivate"}],
  "NetworkSettings": {"SandboxID": "d704ad8b9f25", "SandboxKey": "/var/run/docker/netns/d704",
    "Ports": {}, "Networks": {"lb-network": {"IPAMConfig": {"IPv4Address": "192.168.1.60"},
      "Links": null, "Aliases": null, "DriverOpts": null, "GwPriority": 0,
      "NetworkID": "ebea8564fd75", "EndpointID": "bb5aad9e9a2b", "Gateway": "192.168.1.1",
      "IPAddress": "192.168.1.60", "MacAddress": "02:42:ac:8f:4c:ff", "IPPrefixLen": 24,
      "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
      "DNSNames": ["lb-haproxy", "d55b721af75b"]}}}}""".replace("\n", "")


def test_containers_of_docker_29_are_read() -> None:
    running = Container().parse([RECORDED_29])
    assert running == replace(RUNNING, mounts={"/run/haproxy": "/run/a"})
    stopped = Container().parse(
        [RECORDED_29.replace("true", "false").replace('"192.168.1.60", "Mac', '"", "Mac')]
    )
    assert stopped is not None
    assert not stopped.running
    assert differences(PROXY, stopped, "sha256:aa") == ["it does not run"]


def test_images_are_read() -> None:
    assert Image().parse(['{"Id":"sha256:aa"}']) == "sha256:aa"
    assert Image().parse([]) == ""
    assert Image().parse(["null"]) is None
    with pytest.raises(FactProcessError):
        Image().process(["{}"])


class Node:
    """The start script in a folder of its own, with stand-ins for docker and ip."""

    def __init__(self, root: Path, sockets: str = "") -> None:
        self.root = root
        for name in ("bin", "log", "own"):
            (root / name).mkdir()
        self.program("docker", f'echo "$*" >>{root}/docker.log')
        self.program("chown", f'echo "$*" >>{root}/chown.log')
        self.program("ip", "exit 1")
        stand_in(root / "bin")
        self.script = root / "bin" / "haproxy_start.sh"
        self.script.write_text(
            render(
                "haproxy_start.sh.j2",
                path=f"{root}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                container="lb-haproxy",
                image="haproxy:3.0",
                network="lb-network",
                vip=VIP,
                port=6443,
                mac=MAC,
                parent="eth0",
                link="lb-hairpin",
                hairpin=HAIRPIN,
                log=f"{root}/log",
                run_directory=sockets or f"{root}/log/haproxy/run",
                own=f"{root}/own",
                checksum=CHECKSUM,
                confined=confined(f"{root}/bin/mountinfo"),
                run=f"{root}/run",
                conf=f"{root}/conf",
                several=False,
            )
        )
        self.script.chmod(0o755)
        self.config(sealed("global\n"))

    def program(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def config(self, text: str) -> None:
        (self.root / "own/haproxy.cfg").write_text(text)

    def run(self, *words: str) -> int:
        done = subprocess.run(
            [self.script, *words], capture_output=True, text=True, timeout=20, check=False
        )
        self.said = done.stderr
        return done.returncode

    def start(self) -> str:
        """Start the container; return the configuration that it got."""
        assert self.run() == 0, self.said
        assert "run --rm --pull never --name lb-haproxy" in (self.root / "docker.log").read_text()
        return (self.root / "run/config/haproxy.cfg").read_text()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_configuration_of_the_last_deploy_runs_whatever_the_share_has(node: Node) -> None:
    (node.root / "log/haproxy").mkdir()
    (node.root / "log/haproxy/haproxy.cfg").write_text(sealed("global # edited\n"))
    assert node.start() == sealed("global\n")
    assert "edited" not in node.said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "global\n",
        sealed("global\n").replace("global", "global # edited"),
        sealed("global\n") + "program sh\n",
        sealed("global\n")[:-20],
        CHECKSUM,
    ],
)
def test_another_configuration_is_not_run(node: Node, text: str) -> None:
    node.config(text)
    for word in ("start", "reload"):
        assert node.run(word) == 78
        assert "is not as the last deploy wrote it" in node.said
        assert "deploy this node again" in node.said
        assert not (node.root / "docker.log").exists()
        assert not (node.root / "run/config/haproxy.cfg").exists()


def test_a_configuration_that_is_not_the_last_deploys_is_tried_once() -> None:
    unit = render(
        "docker_haproxy.service.j2", vip=VIP, port=6443, container="lb-haproxy", several=False
    ).splitlines()
    assert "RestartPreventExitStatus=78" in unit


def test_what_is_sealed_is_whole() -> None:
    text = "global\n  a\n"
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    assert sealed(text) == f"{text}{CHECKSUM}{sha256}\n"


def test_the_container_reads_what_others_on_the_node_cannot_reach(node: Node) -> None:
    """The image's user does not exist on the node."""
    node.start()
    mode = {
        name: stat.S_IMODE((node.root / "run" / name).stat().st_mode)
        for name in (".", "config", "config/haproxy.cfg", "socket")
    }
    assert mode == {".": 0o700, "config": 0o755, "config/haproxy.cfg": 0o644, "socket": 0o750}
    assert (node.root / "chown.log").read_text() == f"99:99 {node.root}/run/socket\n"


def test_the_admin_socket_is_found_on_the_share(node: Node) -> None:
    node.start()
    assert (node.root / "log/haproxy/run").readlink() == node.root / "run/socket"


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_what_is_on_the_share_in_its_place_is_left_to_the_deploy(node: Node, there: str) -> None:
    place = node.root / "log/haproxy/run"
    place.parent.mkdir()
    if there == "link":
        place.symlink_to("/nowhere")
    elif there == "folder":
        place.mkdir()
    else:
        place.touch()

    def state() -> tuple[int, int]:
        # it did not run when it was last checked
        return place.lstat().st_ino, place.lstat().st_ctime_ns

    before = state()
    node.start()
    assert state() == before


def test_a_share_where_links_may_be_followed_is_left_alone(node: Node) -> None:
    node.program("mount", "exit 1")
    node.start()
    assert "the socket is in" in node.said
    assert list((node.root / "log").iterdir()) == []


def test_the_admin_socket_elsewhere_leads_into_ram(tmp_path: Path) -> None:
    node = Node(tmp_path, sockets=f"{tmp_path}/elsewhere/run")
    (node.root / "elsewhere/run").mkdir(parents=True)
    (node.root / "elsewhere/run/admin.sock").touch()
    node.start()
    assert (node.root / "elsewhere/run").readlink() == node.root / "run/socket"


def test_a_folder_in_its_place_elsewhere_is_kept_aside(tmp_path: Path) -> None:
    node = Node(tmp_path, sockets=f"{tmp_path}/elsewhere/run")
    (node.root / "elsewhere/run").mkdir(parents=True)
    (node.root / "elsewhere/run/haproxy.cfg").write_text("global\n")
    node.start()
    assert (node.root / "elsewhere/run").is_symlink()
    assert (node.root / "elsewhere/run.old/haproxy.cfg").read_text() == "global\n"


def test_the_container_that_was_the_proxy_makes_room(node: Node) -> None:
    node.program(
        "docker",
        f"""echo "$*" >>{node.root}/docker.log
        case $* in "network inspect lb-network "*)
          printf '%s\\n' "aa 192.168.1.60/24 {MAC}" "bb 192.168.1.61/24 {MAC}" "cc  " \\
            "dd 192.168.1.60/24 02:42:c0:a8:01:3c" ""
        esac""",
    )
    node.start()
    calls = (node.root / "docker.log").read_text().splitlines()
    removed = [call for call in calls if call.startswith("rm ")]
    assert removed == ["rm --force lb-haproxy", "rm --force aa"]
    assert calls.index("rm --force aa") < len(calls) - 1
    assert calls[-1].startswith("run --rm --pull never --name lb-haproxy")


def test_a_node_without_a_way_to_its_proxy_still_runs_it(node: Node) -> None:
    node.start()
    assert "eth0: there is no such interface" in node.said
    assert "this node itself cannot reach 192.168.1.60" in node.said


# HAProxy 3.0, the first columns
STAT = """\
# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,\
econ,eresp,wretr,wredis,status,weight,act,bck,chkfail,chkdown,lastchg,downtime
kube_controllers,pi1,0,0,0,0,,0,0,0,,0,,0,0,0,0,DOWN,1,1,0,1,1,707,707
kube_controllers,pi7,0,0,0,0,,0,0,0,,0,,0,0,0,0,UP,1,1,0,1,1,12,704
"""


def test_servers_are_read_as_haproxy_sees_them() -> None:
    assert HaproxyServers().parse(STAT.splitlines()) == (
        ServerState("pi1", "DOWN", 707),
        ServerState("pi7", "UP", 12),
    )


def test_a_node_without_haproxy_has_no_servers() -> None:
    assert ask(HaproxyServers) is None


def test_an_answer_without_the_columns_is_an_error() -> None:
    with pytest.raises(FactProcessError):
        HaproxyServers().process(["Permission denied", "x"])
    with pytest.raises(FactProcessError, match="32 bits"):
        HaproxyServers().process(STAT.replace(",707,", f",{10**400},").splitlines())
