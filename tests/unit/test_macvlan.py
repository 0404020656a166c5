"""Test the node's macvlan links, as several releases of iproute2 print them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.facts.macvlan import MacvlanLink, MacvlanLinks

# `ip -j -d address show type macvlan` on Debian 13 (iproute2 6.15)
LINKS = (
    '[{"ifindex":4,"link":"eth0","ifname":"lb-hairpin","flags":["BROADCAST","MULTICAST","UP",'
    '"LOWER_UP"],"mtu":1500,"qdisc":"noqueue","operstate":"UP","group":"default","txqlen":1000,'
    '"link_type":"ether","address":"2e:cd:38:90:1e:d5","broadcast":"ff:ff:ff:ff:ff:ff",'
    '"promiscuity":0,"allmulti":0,"min_mtu":68,"max_mtu":65535,"linkinfo":{"info_kind":"macvlan",'
    '"info_data":{"mode":"bridge","bcqueuelen":1000,"usedbcqueuelen":1000}},'
    '"inet6_addr_gen_mode":"eui64","num_tx_queues":1,"num_rx_queues":1,"gso_max_size":65536,'
    '"gso_max_segs":65535,"tso_max_size":524280,"tso_max_segs":65535,"gro_max_size":65536,'
    '"gso_ipv4_max_size":65536,"gro_ipv4_max_size":65536,"addr_info":[{"family":"inet",'
    '"local":"192.168.1.222","prefixlen":32,"scope":"global","label":"lb-hairpin",'
    '"valid_life_time":4294967295,"preferred_life_time":4294967295}]}]'
)
# Some releases print an empty object for each interface that is no macvlan link
WITH_OTHERS = LINKS.replace("[{", "[{},{},{},{", 1)
ROUTES = (
    '[{"dst":"default","gateway":"192.168.1.1","dev":"eth0","flags":[]},'
    '{"dst":"172.17.0.0/16","dev":"docker0","protocol":"kernel","scope":"link",'
    '"prefsrc":"172.17.0.1","flags":["linkdown"]},'
    '{"dst":"192.168.1.0/24","dev":"eth0","protocol":"kernel","scope":"link",'
    '"prefsrc":"192.168.1.54","flags":[]},'
    '{"dst":"192.168.1.60","dev":"lb-hairpin","scope":"link","prefsrc":"192.168.1.222",'
    '"flags":[]}]'
)
CONF = "/proc/sys/net/ipv4/conf"
ARP_IGNORE = [f"{CONF}/all/arp_ignore:0", f"{CONF}/lb-hairpin/arp_ignore:1"]

HAIRPIN = MacvlanLink(
    parent="eth0",
    mode="bridge",
    up=True,
    mac="2e:cd:38:90:1e:d5",
    addresses=("192.168.1.222/32",),
    routes={"192.168.1.60/32": "192.168.1.222"},
    arp_ignore=1,
)


@pytest.mark.parametrize("links", [LINKS, WITH_OTHERS], ids=["alone", "with others"])
def test_a_link_is_read_with_its_address_and_route(links: str) -> None:
    found = MacvlanLinks().parse([links, ROUTES, *ARP_IGNORE])
    assert found == {"lb-hairpin": HAIRPIN}


def test_what_an_interrupted_run_has_left_is_seen_as_that() -> None:
    (link,) = json.loads(LINKS)
    link |= {"flags": ["BROADCAST", "MULTICAST"], "addr_info": []}
    found = MacvlanLinks().parse([json.dumps([link]), "[]", *ARP_IGNORE[:1]])
    assert found == {
        "lb-hairpin": replace(HAIRPIN, up=False, addresses=(), routes={}, arp_ignore=0)
    }


def test_a_link_may_have_several_addresses_and_routes() -> None:
    (hairpin,) = json.loads(LINKS)
    hairpin["addr_info"] += [
        {"family": "inet", "local": "10.0.0.1", "prefixlen": 24},
        {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
    ]
    routes = '[{"dst":"10.0.0.0/24","dev":"lb-hairpin"},{"dst":"default","dev":"lb-hairpin"}]'
    (found,) = MacvlanLinks().parse([json.dumps([hairpin]), routes]).values()
    assert found.addresses == ("192.168.1.222/32", "10.0.0.1/24")
    assert found.routes == {"10.0.0.0/24": "", "default": ""}


# iproute2 6.1, of a link without addresses that was moved to this namespace: its parent has only a
# number
STRAY = (
    '[{"ifindex":5,"link_index":3,"ifname":"mv1","flags":["BROADCAST","MULTICAST"],"mtu":1500,'
    '"qdisc":"noop","operstate":"DOWN","linkmode":"DEFAULT","group":"default","txqlen":1000,'
    '"link_type":"ether","address":"36:bb:8d:13:d5:1c","broadcast":"ff:ff:ff:ff:ff:ff",'
    '"link_netnsid":0,"promiscuity":0,"allmulti":0,"min_mtu":68,"max_mtu":65535,'
    '"linkinfo":{"info_kind":"macvlan","info_data":{"mode":"vepa","bcqueuelen":1000,'
    '"usedbcqueuelen":1000}},"inet6_addr_gen_mode":"eui64","num_tx_queues":1,"num_rx_queues":1,'
    '"gso_max_size":65536,"gso_max_segs":65535,"tso_max_size":524280,"tso_max_segs":65535,'
    '"gro_max_size":65536,"addr_info":[]}]'
)


def test_a_parent_in_another_namespace_has_no_name() -> None:
    found = MacvlanLinks().parse([STRAY, "[]"])["mv1"]
    assert (found.parent, found.mode, found.up) == ("", "vepa", False)


@pytest.mark.parametrize("printed", ["", "[]", "[{},{}]"])
def test_without_macvlan_links_there_are_none(printed: str) -> None:
    """`ip -j` prints one of these where there is nothing, by release and object."""
    command = f"ip() {{ printf '%s' {printed!r}; }}\n" + MacvlanLinks().command()
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert MacvlanLinks().process(ran.stdout.splitlines()) == {}


def test_a_read_that_fails_is_no_answer() -> None:
    command = "ip() { return 1; }\n" + MacvlanLinks().command()
    assert subprocess.run(["sh", "-c", command], capture_output=True).returncode == 1
    with pytest.raises(FactProcessError):
        MacvlanLinks().process(["[]"])
