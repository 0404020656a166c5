"""Collect every shell script that this package has a node run, as it is rendered."""

from __future__ import annotations

import inspect
import pkgutil
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase

from chaos_engine import facts
from chaos_engine.deploys.concern import DECLARED
from chaos_engine.deploys.log_mount import files_of
from chaos_engine.deploys.metrics import metrics_files
from chaos_engine.deploys.proxy_group import ProxyNode
from chaos_engine.deploys.vrrp import VrrpSettings, vrrp_files
from chaos_engine.deploys.watchdog import WatchdogSettings, link_files
from chaos_engine.facts.api_servers import ApiServers
from chaos_engine.facts.card import RootCard
from chaos_engine.facts.certificates import Certificates
from chaos_engine.facts.clock import ClockSynchronised
from chaos_engine.facts.container_logs import LostOptions
from chaos_engine.facts.docker import DockerNetwork
from chaos_engine.facts.haproxy import RUN, HaproxyServers
from chaos_engine.facts.health import Health
from chaos_engine.facts.kernel import KernelRelease
from chaos_engine.facts.manifest import Entry, Remembered
from chaos_engine.facts.membership import INIT
from chaos_engine.facts.node import AsRoot
from chaos_engine.facts.observe import ComposedFact, Read
from chaos_engine.facts.rsyslog import Canary
from chaos_engine.facts.share import CONFINED, TARGET
from chaos_engine.facts.standing import NOTE
from chaos_engine.facts.suspects import Search, Suspects
from chaos_engine.facts.thermal import Thermal
from chaos_engine.facts.updates import Update, Updates
from chaos_engine.facts.vrrp import AddressOwner
from chaos_engine.facts.writers import Writers
from chaos_engine.operations.files import File, Unit
from chaos_engine.operations.haproxy.container import CHECKSUM, OWN
from chaos_engine.operations.macvlan_network import CONTAINER, network
from chaos_engine.operations.membership.credentials import delete_script, make_script
from chaos_engine.operations.membership.kubeadm import init_script, join_script, reset_script
from chaos_engine.operations.reboot.boot_cycle import reboot_script
from chaos_engine.operations.rolling.cordon import note
from chaos_engine.operations.undo import concerns as undo
from chaos_engine.operations.updates import HEAD as UPDATES_HEAD
from chaos_engine.operations.updates import compose
from chaos_engine.templates import render
from tests.unit.test_hostile_values import (
    CALLS,
    MACVLAN,
    OPERATIONS,
    _reads,
    commands,
    words_of_unit,
)

CHECKOUT = Path(__file__).resolve().parents[2]

PROXIES = tuple(
    ProxyNode(name, name, IPv4Address(f"192.168.1.{host}"), IPv4Address(f"192.168.1.{hairpin}"))
    for name, host, hairpin in (("pi4", 53, 223), ("pi5", 54, 222), ("pi6", 55, 224))
)
VRRP = VrrpSettings(
    nodes={one.name: one.address for one in PROXIES},
    vip=MACVLAN.vip,
    lan_subnet=MACVLAN.subnet,
    lan_gateway=MACVLAN.gateway,
    hairpin_address=MACVLAN.hairpin,
)
"""Several proxies, and their settings."""

ALONE = (
    Read.of(
        AddressOwner,
        interface="eth0",
        address="192.168.1.54",
        vip="192.168.1.60",
        number=60,
        milliseconds=100,
        marker="127.60.0.60",
    ),
    Read.of(ApiServers, addresses=("192.168.1.50",)),
    Read.of(AsRoot),
    Read.of(Canary, token="chaos-engine-1f"),
    Read.of(Certificates, folder="/etc/kubernetes/pki/etcd-external"),
    Read.of(ClockSynchronised),
    Read.of(LostOptions),
    Read.of(Health, checks=tuple(one for each in DECLARED.values() for one in each.health)),
    Read.of(HaproxyServers),
    Read.of(KernelRelease),
    Read.of(RootCard),
    Read.of(Suspects, searches=(Search("x", "x", "y", "/etc/x", "eth0"),)),
    Read.of(Thermal),
    Read.of(Writers),
)
"""Reads of facts that no operation in `CALLS` asks."""

KINDS = {
    "file": "original", "folder": "created", "unit": "active enabled", "package": "absent",
    "removed": "1 manual hold", "hold": "set", "manual": "auto", "sysctl": "0", "swap": "-2",
    "link": "created", "image": "pulled", "network": "created", "wrote": "-",
}  # fmt: skip
"""A state of each kind of thing that undo handles."""


def scripts() -> Iterator[tuple[str, str]]:
    """Give each whole script that changes a node, with a name."""
    for name in CALLS:
        found = list(commands(OPERATIONS[name], CALLS[name]))[1:]
        for number, command in enumerate(found):
            yield f"{name}{number or ''}", inner(command)
    yield "cordon.note", note("pi1")
    updates = Updates((Update("libssl3", "1", "2"), Update("linux-image-6.8-raspi", "1", "2")))
    yield "updates.compose", compose(updates, UPDATES_HEAD, "6.8-raspi")
    yield "membership.init", init_script(INIT)
    for unfinished in (True, False):
        yield f"membership.join.{unfinished}", join_script(unfinished)
    yield "membership.reset", reset_script(NOTE)
    yield "boot_cycle.reboot_script", reboot_script("id", {"swap": "id"})
    seen = []
    for name, declared in DECLARED.items():
        how = declared.undo
        particular = (how.first, how.stopped, how.last, how.removed, how.purged)
        if particular in seen:
            continue
        seen.append(particular)
        entries = [Entry(name, kind, state, "/x/y") for kind, state in KINDS.items()]
        entries += [Entry(name, "package", "absent", package) for package in how.purged]
        entries += [Entry(name, "file", "created", path) for path in (*how.removed, "/x/new")]
        entries += [Entry(name, "secret", "-", "/x/new")]
        todo = undo.Changes(
            (*how.removed, "/x/new"), ("/x/y",), aside=("/x/other",), write=(File("/x/merged", ""),)
        )
        yield f"undo.{name}", undo.compose(Remembered(tuple(entries)), name, todo, how)
    yield "undo.none", undo.compose(Remembered(), "docker", undo.Changes())
    left = (Entry("-", "package", "absent", "x"), Entry("-", "folder", "created", "/x"))
    yield "undo.end", undo.compose_end(Remembered(left))
    yield "undo.end.none", undo.compose_end(Remembered())


def changes() -> Iterator[tuple[str, str]]:
    """Give each script that changes a node, and the parts that `CALLS` does not reach."""
    yield from scripts()
    for last in (True, False):
        for found_network in (None, DockerNetwork("bridge", "x", "", ())):
            text = network.compose(MACVLAN, found_network, last)
            yield f"network.{last}.{found_network is not None}", text


def inner(command: str) -> str:
    """Return the script of ``sh -c SCRIPT``, or the command itself if it is no such command."""
    words = shlex.split(command)
    return words[2] if words[:2] == ["sh", "-c"] else command


def fact_classes() -> set[type[FactBase[Any]]]:
    """Return each fact of this package that can be read."""
    return {
        member
        for module in pkgutil.walk_packages(facts.__path__, f"{facts.__name__}.")
        for member in vars(import_module(module.name)).values()
        if inspect.isclass(member)
        and issubclass(member, FactBase)
        and member.__module__ == module.name
        and hasattr(member, "command")
        and member is not ComposedFact
    }


def reads() -> Iterator[Read]:
    """Give a read of each fact."""
    seen = set()
    asked = [read for name in CALLS for read in _reads(OPERATIONS[name], CALLS[name])]
    for read in (one for whole in (*asked, *ALONE) for one in (whole, *whole.parts)):
        if read.fact not in seen and read.fact in fact_classes():
            seen.add(read.fact)
            yield read


def questions() -> Iterator[tuple[str, str]]:
    """Give the command of each fact, with its name, and what a controller of a cluster is asked."""
    for read in reads():
        command = read.fact().command(**dict(read.arguments))
        text = command.get_raw_value() if isinstance(command, StringCommand) else command
        yield read.fact.__name__, text
    for controller in (True, False):
        yield f"membership.make.{controller}", make_script(controller)
        yield f"membership.delete.{controller}", delete_script("abcdef", controller)


def start_script(several: bool) -> str:
    """Return the script that runs HAProxy on the only proxy, or on one of several."""
    more: dict[str, object] = {
        "namespace": CONTAINER,
        "drain_mac": "06:42:c0:a8:01:de",
        "drain_address": "169.254.1.222",
        "subnet": MACVLAN.subnet,
        "prefix": MACVLAN.subnet.prefixlen,
        "gateway": MACVLAN.gateway,
        "marker": "127.60.0.60",
        "vrrp": "haproxy_vrrp.service",
        "tries": 28,
        "node": "192.168.1.54",
        "index_seen": "/run/chaos-engine/vrrp/ifindex",
    }
    return render(
        "haproxy_start.sh.j2",
        path="/usr/sbin:/usr/bin:/sbin:/bin",
        container=CONTAINER,
        image="haproxy:3.0",
        network=MACVLAN.name,
        vip=MACVLAN.vip,
        port=6443,
        mac="02:42:ac:8f:4c:ff",
        parent=MACVLAN.parent,
        link="lb-hairpin",
        hairpin="192.168.1.222",
        log=TARGET,
        run_directory="/var/log/haproxy/run",
        own=OWN,
        checksum=CHECKSUM,
        confined=CONFINED,
        run=RUN,
        conf="/proc/sys/net/ipv4/conf",
        several=several,
        **(more if several else {}),
    )


def files() -> Iterator[tuple[str, str]]:
    """Give each file that is put on a node and run there, or has a command in it, with a name."""
    for store in ("gluster", "nfs", "ram"):
        volume = "" if store == "ram" else "pi1"
        servers = ("192.168.1.40", "192.168.1.41") if volume else ()
        for file in files_of(store, volume, servers, "16M"):
            text = str(file.content)
            if text.startswith("#!/bin/sh"):
                yield f"{Path(file.path).name}.{store}", text
    yield "haproxy_start.sh", start_script(several=False)
    yield "haproxy_several.sh", start_script(several=True)
    yield "haproxy_vrrp.sh", str(vrrp_files(VRRP, PROXIES, "pi5")[1].content)
    check = link_files(WatchdogSettings(nodes={"pi1": "192.168.1.50"}))[0]
    for file in (check, metrics_files()[0]):
        yield Path(file.path).name, str(file.content)
    record = Unit("one.service", reads=("/etc/one", "/etc/two.d/*.conf")).record
    for line in str(record.content).splitlines():
        if line.startswith("Exec"):
            yield "record", words_of_unit(line.partition("=")[2])[2]


def functions(text: str) -> list[str]:
    """Return the names of the functions that a script defines, one that is quoted in it too."""
    return re.findall(r"(?:^|[;'{(] ?)\s*([a-z_]+)\(\) ?[({]", text, re.MULTILINE)
