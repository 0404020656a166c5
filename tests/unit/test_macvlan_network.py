"""Test the proxy's Docker network: settings, what is found, refusals, and the script that makes it,
run by a shell."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.deploys import macvlan_network as deploy
from chaos_engine.deploys.macvlan_network import MacvlanNetworkSettings
from chaos_engine.deploys.proxy_group import check_groups, disagreement, proxy_problem
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.facts.docker import DockerInfo, DockerNetwork, DockerNetworks, Engine
from chaos_engine.facts.network import Interface, InterfaceState
from chaos_engine.facts.text import named
from chaos_engine.operations.macvlan_network import network as operation
from chaos_engine.operations.macvlan_network.commands import (
    Macvlan,
    differences,
    network_conflict,
    parent_problem,
)
from chaos_engine.operations.macvlan_network.network import compose, create_network, recreate
from tests.unit.nodes import Nodes

WANTED = Macvlan(
    name="lb-network",
    parent="eth0",
    subnet=IPv4Network("192.168.1.0/24"),
    gateway=IPv4Address("192.168.1.1"),
    vip=IPv4Address("192.168.1.60"),
    hairpin=IPv4Address("192.168.1.222"),
)
PARENT = InterfaceState(
    up=True,
    wireless=False,
    master="",
    mac="dc:a6:32:a8:01:36",
    addresses=("192.168.1.54/24",),
    arp_ignore=0,
)
FOUND = DockerNetwork(
    driver="macvlan",
    parent="eth0",
    mode="bridge",
    subnets=("192.168.1.0/24",),
    gateways=("192.168.1.1",),
    ip_ranges=("192.168.1.60/32",),
    containers={"lb-haproxy": "192.168.1.60"},
    macs={"lb-haproxy": "02:42:ac:8f:4c:ff"},
    auxiliary={"hairpin": "192.168.1.222"},
    options={"parent": "eth0", "macvlan_mode": "bridge"},
)
BRIDGE = DockerNetwork("bridge", "", "", ("172.17.0.0/16",), ("172.17.0.1",))
ENGINE = Engine("26.1.5+dfsg1", "systemd", "overlay2", "json-file", "/var/lib/docker", False, 1)

SITE: dict[str, Any] = {
    "nodes": {f"pi{n}": f"192.168.1.{49 + n}" for n in range(1, 11)},
    "storage_servers": {"etcd1": "192.168.1.40"},
    "vip": "192.168.1.60",
    "lan_subnet": "192.168.1.0/24",
    "lan_gateway": "192.168.1.1",
    "hairpin_address": "192.168.1.222",
}


@pytest.mark.parametrize("key", ["vip", "hairpin_address", "lan_subnet", "lan_gateway"])
def test_what_only_the_site_knows_has_no_default(key: str) -> None:
    with pytest.raises(SettingsError, match=f": {key} is missing; wanted: "):
        MacvlanNetworkSettings(**{name: value for name, value in SITE.items() if name != key})


def test_the_sites_settings_are_taken() -> None:
    settings = MacvlanNetworkSettings(**SITE)
    assert (settings.macvlan_network, settings.parent_interface) == ("lb-network", "eth0")


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        ("pi5", ["pi5"], ""),
        (
            "pi1",
            ["pi5"],
            "pi1: not in the inventory's group proxy, which has only pi5; .*--limit proxy",
        ),
        ("pi1", [], "pi1: not in the inventory's group proxy; .*--limit proxy"),
        ("pi5", ["pi5", "pi6"], ""),
    ],
)
def test_a_host_of_the_group_is_a_proxy(name: str, members: list[str], message: str) -> None:
    problem = proxy_problem(name, members)
    if message:
        assert problem.startswith(message.partition(";")[0])
        assert message.partition(".*")[2] in problem
    else:
        assert problem == ""


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pi1": "192.168.1.60", "pi5": "192.168.1.60"}, ""),
        ({"pi5": "192.168.1.60"}, ""),
        (
            {"pi1": "192.168.1.61", "pi4": "192.168.1.60", "pi5": "192.168.1.60"},
            "chaos_vip: the value is 192.168.1.61 for pi1, 192.168.1.60 for pi4, but all nodes "
            "use the same API",
        ),
    ],
)
def test_hosts_agree_on_the_address_of_the_api(values: dict[str, str], message: str) -> None:
    problem = disagreement("chaos_vip", values)
    assert problem.startswith(message)
    assert bool(problem) == bool(message)


def test_a_host_that_is_no_node_need_not_agree_on_the_name_of_the_api() -> None:
    data = {"chaos_vip_name": "api"}
    with Nodes("pi1", "nas", groups={"workers": (["pi1"], data)}).on("pi1"):
        check_groups()
    named = {"pi1": data}
    with (
        Nodes("pi1", "pi4", hosts=named, groups={"workers": (["pi1", "pi4"], {})}).on("pi1"),
        pytest.raises(SettingsError, match="chaos_vip_name: the value is api for pi1, k8s for pi4"),
    ):
        check_groups()


def test_no_other_host_is_even_read() -> None:
    data = {f"chaos_{key}": value for key, value in SITE.items()}
    run = Nodes("pi1", "pi5", groups={"proxy": (["pi5"], data)})
    with run.on("pi1"), pytest.raises(SettingsError, match=r"pi1: .* group proxy"):
        deploy()
    assert run.commands("pi1") == []


def containers(**networks: list[str]) -> str:
    """Return what Docker lists of containers, by name; of each, the names of its networks."""
    return json.dumps(
        [
            {"Names": [f"/{name}"], "NetworkSettings": {"Networks": {lan: {} for lan in each}}}
            for name, each in networks.items()
        ]
    )


# `docker network inspect --format '{{json .}}'` of Docker 26.1.5 (Debian 13) prints what the API
# answers
RECORDED = [
    '{"Name":"host","Id":"93a6943d1fbd","Created":"2026-11-24T02:00:31.116257591Z","Scope":"local",'
    '"Driver":"host","EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,"Config":null},'
    '"Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},'
    '"ConfigOnly":false,"Containers":{},"Options":{},"Labels":{}}',
    '{"Name":"lb-network","Id":"1524dd33bc4c","Created":"2026-11-24T02:00:43.059706927Z",'
    '"Scope":"local","Driver":"macvlan","EnableIPv6":false,"IPAM":{"Driver":"default",'
    '"Options":{},"Config":[{"Subnet":"192.168.1.0/24","IPRange":"192.168.1.60/32",'
    '"Gateway":"192.168.1.1","AuxiliaryAddresses":{"hairpin":"192.168.1.222"}}]},'
    '"Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},'
    '"ConfigOnly":false,"Containers":{"932420c5cfee":{"Name":"lb-haproxy",'
    '"EndpointID":"0e2e39a6","MacAddress":"02:42:ac:8f:4c:ff","IPv4Address":"192.168.1.60/24",'
    '"IPv6Address":""}},"Options":{"macvlan_mode":"bridge","parent":"eth0"},"Labels":{}}',
]
ONE = containers(**{"lb-haproxy": ["lb-network"]})


def test_networks_are_read() -> None:
    networks = DockerNetworks().parse([*RECORDED, ONE])
    assert networks is not None
    assert networks["lb-network"] == FOUND
    assert networks["host"] == DockerNetwork("host", "", "", ())


def test_a_container_that_does_not_run_belongs_to_its_networks() -> None:
    """Docker starts no container whose network was made anew: "network ... not found"."""
    listed = containers(
        **{"lb-haproxy": ["lb-network"], "web": ["lan", "lb-network"], "db": ["host"]}
    )
    networks = DockerNetworks().parse([*RECORDED, listed])
    assert networks is not None
    assert networks["lb-network"].containers == {"lb-haproxy": "192.168.1.60", "web": ""}
    assert networks["host"].containers == {"db": ""}


def test_a_mode_that_is_not_said_is_bridge() -> None:
    seed = json.loads(RECORDED[1])
    seed["Options"] = {"parent": "eth0"}
    seed["IPAM"]["Config"] = [{"Subnet": "192.168.1.0/24", "Gateway": "192.168.1.1"}]
    networks = DockerNetworks().parse([json.dumps(seed), "[]"])
    assert networks is not None
    assert networks["lb-network"].mode == "bridge"
    assert differences(WANTED, networks["lb-network"]) == []


def test_other_releases_of_docker_are_read() -> None:
    # Docker 20.10.24 (Debian 12) differs in networks without addresses only
    host = {**json.loads(RECORDED[0]), "IPAM": {"Driver": "default", "Config": []}}
    # Docker 28, after the documentation of its API 1.48: EnableIPv4 is new
    ours = {**json.loads(RECORDED[1]), "EnableIPv4": True}
    assert DockerNetworks().parse([json.dumps(host), json.dumps(ours), ONE]) == {
        "host": DockerNetwork("host", "", "", ()),
        "lb-network": FOUND,
    }


# The same of Docker 29.7.2, client too, with the package's network and a container of it, and with
# one made without --gateway: it has none then, neither here nor in its containers
RECORDED_29 = [
    '{"Name":"host","Id":"e32a6f85ea24","Created":"2026-11-28T08:29:50.621916609Z","Scope":"local",'
    '"Driver":"host","EnableIPv4":true,"EnableIPv6":false,"IPAM":{"Driver":"default",'
    '"Options":null,"Config":null},"Internal":false,"Attachable":false,"Ingress":false,'
    '"ConfigFrom":{"Network":""},"ConfigOnly":false,"Options":{},"Labels":{},"Containers":{},'
    '"Status":{"IPAM":{}}}',
    '{"Name":"lb-network","Id":"ebea8564fd75","Created":"2026-11-28T08:30:43.216250605Z",'
    '"Scope":"local","Driver":"macvlan","EnableIPv4":true,"EnableIPv6":false,'
    '"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"192.168.1.0/24",'
    '"IPRange":"192.168.1.60/32","Gateway":"192.168.1.1",'
    '"AuxiliaryAddresses":{"hairpin":"192.168.1.222"}}]},"Internal":false,"Attachable":false,'
    '"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,'
    '"Options":{"macvlan_mode":"bridge","parent":"eth0"},"Labels":{},'
    '"Containers":{"d55b721af75b":{"Name":"lb-haproxy","EndpointID":"bb5aad9e9a2b",'
    '"MacAddress":"02:42:ac:8f:4c:ff","IPv4Address":"192.168.1.60/24","IPv6Address":""}},'
    '"Status":{"IPAM":{"Subnets":{"192.168.1.0/24":{"IPsInUse":5,"DynamicIPsAvailable":0}}}}}',
    containers(**{"stopped": ["lb-network"], "lb-haproxy": ["lb-network"]}),
]
WITHOUT_GATEWAY_29 = (
    '{"Name":"nogw","Id":"e95af749d322","Created":"2026-11-28T08:41:10.025980324Z",'
    '"Scope":"local","Driver":"macvlan","EnableIPv4":true,"EnableIPv6":false,'
    '"IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"192.168.1.0/24"}]},'
    '"Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},'
    '"ConfigOnly":false,"Options":{"parent":"eth0"},"Labels":{},"Containers":{},'
    '"Status":{"IPAM":{"Subnets":{"192.168.1.0/24":{"IPsInUse":2,"DynamicIPsAvailable":254}}}}}'
)


def test_networks_of_docker_29_are_read() -> None:
    networks = DockerNetworks().parse(RECORDED_29)
    assert networks == {
        "host": DockerNetwork("host", "", "", ()),
        "lb-network": replace(FOUND, containers={"stopped": "", "lb-haproxy": "192.168.1.60"}),
    }


def test_a_network_of_docker_29_without_a_gateway_is_made_anew_with_one() -> None:
    networks = DockerNetworks().parse([WITHOUT_GATEWAY_29, "[]"])
    assert networks is not None
    assert differences(WANTED, networks["nogw"]) == ["the gateway none"]
    assert "--gateway" in WANTED.create
    assert "--gateway" not in recreate("nogw", networks["nogw"]), "if that fails, it is as it was"


def test_networks_of_a_docker_that_stops_meanwhile_are_unknown() -> None:
    assert DockerNetworks().parse(["null"]) is None
    assert DockerNetworks().parse([RECORDED[0], "null"]) is None
    with pytest.raises(FactProcessError):
        DockerNetworks().process(RECORDED)


def test_networks_have_an_order_of_their_own() -> None:
    """Docker lists them in any order, and messages name the first one that is in the way."""
    for lines in (RECORDED, RECORDED[::-1]):
        assert [*(DockerNetworks().parse([*lines, ONE]) or {})] == ["host", "lb-network"]


def test_a_configuration_is_read_as_such() -> None:
    """Docker 28.2 prints this after `docker network create --config-only --subnet ...`."""
    one = json.loads(RECORDED[1])
    one |= {"Name": "lan", "Driver": "null", "ConfigOnly": True, "Containers": {}, "Options": {}}
    networks = DockerNetworks().parse([RECORDED[1], json.dumps(one), "[]"])
    assert networks is not None
    assert networks["lan"].config_only
    assert not networks["lb-network"].config_only
    assert network_conflict(WANTED, {"lan": networks["lan"]}, "26.1.5") == ""


def test_a_configuration_of_our_networks_name_refuses_the_node(
    node: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    node[DockerNetworks] = {"lb-network": replace(FOUND, config_only=True)}
    assert "lb-network was created with --config-only" in failure(caplog)


def test_without_docker_there_are_no_networks() -> None:
    assert DockerNetworks().default() == {}
    assert DockerNetworks().requires_command() == "docker"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"ip_ranges": (), "auxiliary": {}, "options": {"parent": "eth0"}}, []),
        ({"ip_ranges": ("192.168.1.32/27",)}, []),
        ({"subnets": ("192.168.1.77/24",)}, []),
        ({"subnets": ("fd00::/64", "192.168.1.0/24"), "gateways": ("fd00::1", "192.168.1.1")}, []),
        ({"subnets": ("192.168.0.0/16",)}, ["the subnet 192.168.0.0/16"]),
        ({"subnets": ("192.168.1.0/24", "10.0.0.0/8")}, ["the subnet 192.168.1.0/24, 10.0.0.0/8"]),
        ({"subnets": ()}, ["the subnet none"]),
        ({"gateways": ("192.168.1.254",)}, ["the gateway 192.168.1.254"]),
        ({"gateways": ()}, ["the gateway none"]),
        ({"parent": "eth1"}, ["the parent eth1"]),
        ({"parent": ""}, ["the parent none"]),
        ({"mode": "private"}, ["the mode private"]),
        ({"driver": "ipvlan", "mode": ""}, ["the driver ipvlan"]),
        ({"ip_ranges": ("192.168.1.61/32",)}, ["the range 192.168.1.61/32 without 192.168.1.60"]),
    ],
)
def test_drift_is_named(change: dict[str, Any], expected: list[str]) -> None:
    assert differences(WANTED, replace(FOUND, **change)) == expected


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        (PARENT, ""),
        (replace(PARENT, addresses=("10.0.0.1/8", "192.168.1.54/24")), ""),
        (None, "eth0: there is no such network interface; set chaos_parent_interface to the LAN's"),
        (replace(PARENT, wireless=True), "eth0 is wireless: access points drop the frames of"),
        (replace(PARENT, master="br0"), "eth0 is a port of br0, .*; set chaos_parent_interface to"),
        (
            replace(PARENT, up=False),
            "eth0 is down, or has no cable; connect the cable and bring eth0",
        ),
        (
            replace(PARENT, addresses=("10.0.0.1/8",)),
            "eth0 has no address in chaos_lan_subnet 192.168.1.0/24, only 10.0.0.1/8; set",
        ),
        (replace(PARENT, addresses=()), "eth0 has no address in .*, nor any other; set"),
        (
            replace(PARENT, addresses=("192.168.1.60/24",)),
            "chaos_vip: 192.168.1.60 is the node's own address on eth0; choose",
        ),
        (
            replace(PARENT, addresses=("192.168.1.54/24", "192.168.1.222/24")),
            "chaos_hairpin_address: 192.168.1.222 is the node's own address on eth0; choose",
        ),
    ],
)
def test_a_parent_that_carries_no_macvlan_links_is_named(
    parent: InterfaceState | None, message: str
) -> None:
    start, _, end = message.partition(".*")
    assert named(parent_problem(WANTED, parent), "chaos_").startswith(start)
    assert end in named(parent_problem(WANTED, parent), "chaos_")
    assert bool(named(parent_problem(WANTED, parent), "chaos_")) == bool(message)


LAN = replace(FOUND, subnets=("10.9.0.0/24",), gateways=("10.9.0.1",), ip_ranges=())


@pytest.mark.parametrize(
    ("other", "version", "message"),
    [
        (BRIDGE, "26.1.5", ""),
        (
            replace(BRIDGE, subnets=("192.168.0.0/16",)),
            "28.2.2",
            "the Docker network other has addresses of chaos_lan_subnet 192.168.1.0/24, and "
            "Docker lets no other network use them; if nothing needs other, remove it: docker",
        ),
        (replace(BRIDGE, subnets=("fd00::/64", "192.168.1.64/28")), "28.2.2", "the Docker network"),
        (replace(BRIDGE, subnets=("fd00::/64",)), "26.1.5", ""),
        (
            FOUND,
            "28.2.2",
            "the Docker network other has addresses of chaos_lan_subnet 192.168.1.0/24, and "
            "Docker lets no other network use them; set chaos_macvlan_network to other, or, "
            "if nothing",
        ),
        (
            LAN,
            "26.1.5+dfsg1",
            "the Docker network other is on eth0, and Docker 26.1.5+dfsg1 allows one macvlan "
            "network on an interface; set chaos_macvlan_network to other, or",
        ),
        (LAN, "", "the Docker network other is on eth0, and Docker before 28 allows one macvlan "),
        (LAN, "28.2.2", ""),
        (replace(LAN, parent="eth1"), "20.10.24", ""),
        (replace(LAN, driver="ipvlan", mode=""), "20.10.24", ""),
        (replace(FOUND, config_only=True), "26.1.5", ""),
        (replace(FOUND, config_only=True), "28.2.2", ""),
        (replace(BRIDGE, subnets=("192.168.0.0/16",), pool="swarm default"), "28.2.2", ""),
        (replace(BRIDGE, subnets=("192.168.0.0/16",), pool="local null"), "28.2.2", ""),
    ],
)
def test_a_network_in_the_way_is_named(other: DockerNetwork, version: str, message: str) -> None:
    problem = named(network_conflict(WANTED, {"bridge": BRIDGE, "other": other}, version), "chaos_")
    assert problem.startswith(message)
    assert bool(problem) == bool(message)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """Return what is found on a node, by fact; a test may change it."""
    found = {DockerNetworks: {"bridge": BRIDGE}, DockerInfo: ENGINE, Interface: PARENT}
    monkeypatch.setattr(operation, "observe", lambda fact, **arguments: found[fact])
    return found


def planned(wanted: Macvlan = WANTED) -> list[str]:
    """Return what a preview lists."""
    run = Nodes("pi5")
    run.prepare(create_network, name="Create", wanted=wanted)
    return run.planned("pi5")


def failure(caplog: pytest.LogCaptureFixture) -> str:
    """Return why the node fails; it must fail."""
    run = Nodes("pi5")
    run.prepare(create_network, name="Create", wanted=WANTED)
    with pytest.raises(Exception, match="No hosts remaining"):
        run.execute()
    assert run.failed == {"pi5"}
    assert run.commands("pi5") == []
    return caplog.text


def test_a_network_is_announced_before_docker_is_installed(node: dict[Any, Any]) -> None:
    node.update({DockerNetworks: {}, DockerInfo: None})
    assert planned() == ["Create"]


def test_a_network_as_wanted_is_left_alone(node: dict[Any, Any]) -> None:
    node[DockerNetworks]["lb-network"] = replace(FOUND, containers={"web": "192.168.1.70"})
    # Docker has taken it, whatever else is there
    node[DockerNetworks]["other"] = replace(FOUND, parent="eth1", ip_ranges=("192.168.1.61/32",))
    assert planned() == []


def test_nothing_is_announced_while_docker_does_not_run(
    node: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    node.update({DockerNetworks: None, DockerInfo: None})
    assert planned() == []
    assert "Docker is installed but does not answer; look at journalctl" in failure(caplog)


@pytest.mark.parametrize("containers", [{"web": "192.168.1.70"}, {"lb-haproxy": "", "web": ""}])
def test_containers_that_are_not_ours_keep_their_network(
    node: dict[Any, Any], containers: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    drifted = replace(FOUND, parent="eth1", mode="private", containers=dict(containers))
    node[DockerNetworks]["lb-network"] = drifted
    assert (
        "the Docker network lb-network must be recreated, because it has the parent eth1, the mode "
        "private; these containers, running or stopped, are connected to it: web; remove each "
        "container, or disconnect it: docker network disconnect -f lb-network CONTAINER"
    ) in failure(caplog)


def test_drift_is_announced(node: dict[Any, Any]) -> None:
    node[DockerNetworks]["lb-network"] = replace(FOUND, parent="eth1")
    assert planned() == ["Create"]


@pytest.mark.parametrize(
    ("fact", "found", "message"),
    [
        (Interface, None, "eth0: there is no such network interface"),
        (DockerNetworks, {"lan": replace(BRIDGE, subnets=("192.168.1.0/24",))}, "network lan has"),
        (DockerNetworks, {"lan": LAN}, "network lan is on eth0"),
    ],
)
def test_what_does_not_fit_fails_the_node(
    node: dict[Any, Any], fact: Any, found: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    node[fact] = found
    assert message in failure(caplog)


def run_script(folder: Path, text: str, service: str, runs: bool, fails: str = "") -> list[str]:
    """Run the script; return its calls of systemctl and docker in order, and its status.

    Calls that match `fails` fail. The service starts the container."""
    log, container = folder / "log", folder / "container"
    if runs:
        container.touch()
    functions = f"""\
sleep() {{ :; }}
systemctl() {{
  case $1 in
    is-active) echo {service}; return ;;
    start) touch {container} ;;
    stop) rm -f {container} ;;
  esac
  echo "systemctl $*" >>{log}
}}
docker() {{
  case $* in
    *inspect*) [ -e {container} ] && echo true; return ;;
  esac
  echo "docker $*" >>{log}
  case $* in {fails or '""'}) echo "refused: $2" >&2; return 1 ;; esac
}}
"""
    text = functions + text.replace("/run/chaos-engine", str(folder / "run"))
    ran = subprocess.run(["sh", "-c", text], capture_output=True, text=True)
    return [*log.read_text().splitlines(), f"status {ran.returncode}", *ran.stderr.splitlines()]


CREATE = WANTED.create
OLD = replace(FOUND, subnets=("192.168.1.0/25",), labels={"a": "b c"})
STOP, START = "systemctl stop docker_haproxy.service", "systemctl start docker_haproxy.service"
RM = ["docker rm --force lb-haproxy", "docker network rm lb-network"]


def test_the_command_has_all_that_is_wanted() -> None:
    assert CREATE == (
        "docker network create --driver macvlan --subnet 192.168.1.0/24 --gateway 192.168.1.1 "
        "--ip-range 192.168.1.60/32 --aux-address hairpin=192.168.1.222 --opt parent=eth0 "
        "--opt macvlan_mode=bridge lb-network"
    )


@pytest.mark.parametrize("last", [True, False])
def test_a_proxy_that_runs_stops_while_its_network_is_made_anew(tmp_path: Path, last: bool) -> None:
    done = run_script(tmp_path, compose(WANTED, OLD, last), "active", runs=True)
    assert done == [STOP, *RM, CREATE, START, "status 0"]


def test_a_proxy_that_does_not_run_is_not_started(tmp_path: Path) -> None:
    done = run_script(tmp_path, compose(WANTED, OLD, True), "inactive", runs=False)
    assert done == [STOP, *RM, CREATE, "status 0"]


def test_a_proxy_that_comes_and_goes_is_left_to_what_follows(tmp_path: Path) -> None:
    """The preview has listed the operation that starts it: that one has to find work."""
    done = run_script(tmp_path, compose(WANTED, None), "activating", runs=False)
    assert done == [STOP, CREATE, "status 0"]


def test_a_proxy_that_comes_and_goes_gets_its_network_if_nothing_follows(tmp_path: Path) -> None:
    done = run_script(tmp_path, compose(WANTED, None, True), "activating", runs=False)
    assert done == [CREATE, "status 0"]


@pytest.mark.parametrize("last", [True, False])
def test_one_of_several_proxies_keeps_its_container(tmp_path: Path, last: bool) -> None:
    """It is on another network. All proxies would stop together, as the network has no turns."""
    without = replace(OLD, containers={})
    done = run_script(tmp_path, compose(WANTED, without, last, several=True), "active", runs=True)
    assert done == [RM[1], CREATE, "status 0"]
    (tmp_path / "log").unlink()
    done = run_script(tmp_path, compose(WANTED, None, last, several=True), "active", runs=True)
    assert done == [CREATE, "status 0"]


def test_a_proxy_that_was_the_only_one_leaves_the_network_that_changes(tmp_path: Path) -> None:
    held = replace(OLD, containers={"lb-haproxy": "192.168.1.60"})
    done = run_script(tmp_path, compose(WANTED, held, several=True), "active", runs=True)
    assert done == [STOP, *RM, CREATE, START, "status 0"]


@pytest.mark.parametrize("service", ["active", "activating"])
def test_the_old_network_comes_back_with_the_proxy_on_it(tmp_path: Path, service: str) -> None:
    script = compose(WANTED, OLD)
    done = run_script(tmp_path, script, service, service == "active", fails="*/24*")
    again = "docker " + recreate("lb-network", OLD).partition(" ")[2].replace("'", "")
    assert done == [
        *[STOP, *RM, CREATE, again, START, "status 1"],
        *["refused: create", "the old network lb-network was restored"],
    ]


def test_a_network_that_cannot_be_removed_stops_the_proxy_for_a_moment_only(tmp_path: Path) -> None:
    done = run_script(tmp_path, compose(WANTED, OLD), "active", True, fails='"network rm"*')
    assert done == [STOP, *RM, START, "status 1", "refused: rm"]


def test_without_docker_the_script_says_so() -> None:
    for found in (None, OLD):
        ran = subprocess.run(
            ["sh", "-c", "PATH=/nowhere\n" + compose(WANTED, found)], capture_output=True, text=True
        )
        assert (ran.returncode, ran.stderr) == (
            1,
            "Docker is not installed; deploy chaos_engine.deploys.docker first\n",
        )


def test_a_network_comes_back_with_all_that_it_had() -> None:
    found = replace(
        OLD,
        subnets=("192.168.1.0/25", "fd00::/64"),
        ip_ranges=(),
        auxiliary={"a": "192.168.1.9"},
        internal=True,
        ipv6=True,
    )
    assert recreate("lb-network", found) == (
        "docker network create --driver macvlan --internal --ipv6 --subnet=192.168.1.0/25 "
        "--subnet=fd00::/64 --gateway=192.168.1.1 --aux-address=a=192.168.1.9 --opt=parent=eth0 "
        "--opt=macvlan_mode=bridge '--label=a=b c' lb-network"
    )
