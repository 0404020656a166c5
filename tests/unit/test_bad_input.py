"""Bad input, by the way that it takes: the shipped deploy.py and group_data with one mistake, run
by pyinfra's command line under ``-y``.

Each mistake is told in words, with what is wrong and what to do; there is no traceback, the exit
status is not 0, and nothing that changes a node is sent to one.
"""

from __future__ import annotations

import errno
import gzip
import http.client
import io
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.deploys.proxy import CONCERNS as PROXY_CONCERNS
from chaos_engine.deploys.settings import PREFIX
from chaos_engine.deploys.undo import ORDER
from chaos_engine.deploys.worker import CONCERNS as WORKER_CONCERNS
from chaos_engine.facts.api_servers import ApiServers
from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.clock import ServerSettings, TimeServices, TimeSources
from chaos_engine.facts.cloud_init import CloudInit, CloudInitState
from chaos_engine.facts.container_logs import DataDisk, DockerDisk
from chaos_engine.facts.docker import DockerNetwork, DockerNetworks
from chaos_engine.facts.docker_service import DockerService, Service
from chaos_engine.facts.files import Content
from chaos_engine.facts.journald import DropIns
from chaos_engine.facts.kernel import KernelCmdline
from chaos_engine.facts.kubernetes import Joined, KubernetesSources, Source
from chaos_engine.facts.log_mount import LogShare, LogShares
from chaos_engine.facts.membership import (
    ApiState,
    ClusterApi,
    EtcdKeys,
    Membership,
    MembershipState,
)
from chaos_engine.facts.mounts import Mount, Mounts, parse_mounts
from chaos_engine.facts.network import AddressOwners, Interface
from chaos_engine.facts.node import Node
from chaos_engine.facts.observe import NodeError, Read
from chaos_engine.facts.packages import Removal, RemovalPlan
from chaos_engine.facts.quiet import DropInSetting, TimedWriters, WriterState
from chaos_engine.facts.standing import Standing
from chaos_engine.facts.systemd import Units, UnitState
from chaos_engine.facts.updates import SecurityUpdates
from chaos_engine.facts.vrrp import OtherRouter, RunningPeers
from chaos_engine.facts.watchdog import Watchdog, WatchdogDropIns
from chaos_engine.operations.cri_dockerd.tarball import MAX_PACKED, MIB
from tests.unit.kubeconfig import admin_conf
from tests.unit.models import all_models
from tests.unit.openpgp_samples import CAPTIVE, SHORT
from tests.unit.site import Done, Runner, Site
from tests.unit.test_cri_dockerd import ZEROS, elf, sha256, tarball
from tests.unit.test_etcd_certificates import CLIENT, SERVER, Pair
from tests.unit.test_hostile_values import NODE
from tests.unit.test_preflight import GOOD

BEGIN = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=1)
END = BEGIN + timedelta(days=365)


def pair(name: str, issuer: Pair | None = None, **how: Any) -> Pair:
    """A certificate that is valid today."""
    return Pair(name, issuer, **{"begin": BEGIN, "end": END, **how})


CA = pair("etcd-ca", authority=True)
GOOD_PAIR = pair("client", CA, usages=CLIENT)
RELEASE, TARBALL = "cri-dockerd-0.3.17.arm64.tgz", tarball(elf("arm64"))
SHIPPED = {
    name: (Path(__file__).parents[2] / "group_data" / f"{name}.py").read_text()
    for name in ("proxy", "workers", "all")
}


@dataclass
class Case:
    """A mistake, and what is said of it.

    + settings: by group
    + key: the setting that it is a mistake of
    + files: mends the folder for the worse
    + url: what an address answers
    + answers: what the node says that it does not say else, by fact
    + unreadable: name of a file that this user may not read
    + others: how many hosts are deployed nevertheless
    + deploy: what is run
    """

    says: str
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    key: str = ""
    inventory: str = 'workers = ["pi5"]\nproxy = ["pi5"]\n'
    files: Callable[[Path], object] | None = None
    url: BaseException | bytes | None = None
    answers: Mapping[Any, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    unreadable: str = ""
    others: int = 0
    deploy: str = "deploy.py"


def bad(key: str, value: Any, says: str, **more: Any) -> Case:
    """A setting whose value is bad, in the file where it is shipped, or in all.py."""
    key = PREFIX + key
    group = next((name for name, text in SHIPPED.items() if f"\n{key} = " in text), "all")
    return Case(says, {group: {key: value}}, key, **more)


def node(says: str, answers: Mapping[Any, Any], **more: Any) -> Case:
    """A node in a bad state."""
    return Case(says, answers=answers, **more)


def changed(**values: Any) -> dict[Any, Any]:
    """The node's own description, otherwise."""
    return {Node: replace(GOOD, **values)}


def updates(says: str, **values: Any) -> Case:
    """A node whose security updates are as in `NODE`, otherwise, and the deploy that reads them."""
    found = replace(NODE[SecurityUpdates], **values)
    return Case(says, answers={SecurityUpdates: found}, deploy="chaos_engine.deploys.updates")


TWO_PROXIES = (
    'workers = ["pi4", "pi5"]\n'
    'proxy = ["pi5", ("pi4", {"chaos_hairpin_address": "192.168.1.223"})]\n'
)

FORGET, INIT, JOIN = (f"chaos_engine.deploys.{name}" for name in ("forget", "init", "join"))
VERIFY = "chaos_engine.deploys.verify"
VERIFIED = ", ".join(one.__name__ for one in (*WORKER_CONCERNS, *PROXY_CONCERNS))
READY_TO_JOIN = MembershipState(kubelet="1.36.2", init=True, join="kind: JoinConfiguration\n")
NO_CLUSTER: dict[Any, Any] = {ApiServers: {}, ClusterApi: ApiState("silent")}

CMDLINE = "/boot/firmware/cmdline.txt"
SYSTEM = "/etc/systemd/system.conf.d"
TIME = {"all": {"chaos_ntp_servers": ["192.168.1.1"]}}
WATCHDOG = {"all": {"chaos_watchdog": True}}


def boot(text: str | None = None, **values: Any) -> dict[Any, Any]:
    """The kernel's command line in its file, otherwise."""
    found = NODE[KernelCmdline]
    values = values if text is None else {**values, "text": text}
    return {KernelCmdline: replace(found, file=replace(found.file, **values))}


def running(name: str) -> Callable[..., dict[str, UnitState]]:
    """Each unit as it is otherwise, but for one, which runs."""

    def states(units: tuple[tuple[str, Any], ...]) -> dict[str, UnitState]:
        found: dict[str, UnitState] = NODE[Units](units)
        return {
            unit: replace(state, active="active") if unit == name else state
            for unit, state in found.items()
        }

    return states


def parent(**values: Any) -> dict[Any, Any]:
    """The interface on the LAN, otherwise."""
    state = replace(NODE[Interface]("eth0"), **values)
    return {Interface: lambda interface: state if interface == "eth0" else None}


SPARED = {"all": {"chaos_container_logs_noatime": True, "chaos_container_logs_commit": 600}}


def disk(mount: str | None = None, **values: Any) -> Callable[[str], DataDisk]:
    """The file system of Docker's data, otherwise; MOUNT is a line of mountinfo."""
    if mount is not None:
        (values["mount"],) = parse_mounts(mount)
    return lambda path: replace(NODE[DockerDisk](path), **values)


def files(contents: Mapping[str, bytes]) -> Callable[[Path], object]:
    """Other contents of files."""

    def write(folder: Path) -> None:
        for name, data in contents.items():
            (folder / "files" / name).write_bytes(data)

    return write


def larger(name: str, size: int) -> Callable[[Path], object]:
    """A file that is larger than SIZE, without any place taken on the disk."""

    def write(folder: Path) -> None:
        with (folder / "files" / name).open("wb") as file:
            file.truncate(size + 1)

    return write


def release(data: bytes) -> Callable[[Path], object]:
    """Another tarball, with its checksum."""
    return files({RELEASE: data, "SHA256SUMS": f"{sha256(data)}  {RELEASE}\n".encode()})


def missing(*names: str) -> Callable[[Path], object]:
    """No such files."""

    def remove(folder: Path) -> None:
        for name in names:
            (folder / "files" / name).unlink()

    return remove


def directory(name: str) -> Callable[[Path], object]:
    """A directory in place of a file."""

    def replaced(folder: Path) -> None:
        path = folder / "files" / name
        path.unlink()
        path.mkdir()

    return replaced


def drop(folder: Path, group: str, key: str) -> None:
    """Take a setting out."""
    path = folder / "group_data" / f"{group}.py"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(f"{key} = ")))


SETTINGS = [
    bad(
        "nodes",
        ["pi5"],
        'pi5, group all: chaos_nodes = [\'pi5\']: it has to be a dict, such as {"a": "b"}',
    ),
    bad(
        "nodes",
        {"pi5": "192.168.1.500"},
        "pi5, group all: chaos_nodes['pi5'] = '192.168.1.500': Input is not a valid IPv4 address",
    ),
    bad(
        "nodes",
        {"Pi_5": "192.168.1.54"},
        "pi5, group all: chaos_nodes['Pi_5'] = 'Pi_5': it has to be a machine's name "
        "without its domain, in lower case, such as pi1",
    ),
    bad(
        "nodes",
        {"pi5": "192.168.1.54", "pi6": "192.168.1.54"},
        "pi5: chaos_nodes: pi6 and pi5 have the same address 192.168.1.54; give each node its own",
    ),
    bad(
        "nodes",
        {"pi1": "192.168.1.50"},
        "pi5: chaos_controllers: pi4 is not in chaos_nodes; add its address there",
    ),
    bad(
        "nodes",
        {"pi5": 3232235830},
        "pi5, group all: chaos_nodes['pi5'] = 3232235830: it has to be text, in quotes,"
        ' such as "192.168.1.42"',
    ),
    bad(
        "nodes",
        {"pi5": "127.0.0.1"},
        "pi5, group all: chaos_nodes['pi5'] = '127.0.0.1': this address "
        "cannot belong to another machine; give an address of the LAN",
    ),
    bad(
        "nodes",
        None,
        "pi5, group all: chaos_nodes = None: None is not a value; remove the key to use the "
        "default",
    ),
    bad(
        "controllers",
        "pi1",
        'pi5, group all: chaos_controllers = \'pi1\': it has to be a list, such as ["a", "b"], '
        "even for one element",
    ),
    bad(
        "controllers",
        ["pi9x"],
        "pi5: chaos_controllers: pi9x is not in chaos_nodes; add its address there",
    ),
    bad(
        "controllers",
        ["pi1", "pi1"],
        "pi5: chaos_controllers: a name is listed twice; list each controller once",
    ),
    bad(
        "controllers",
        [],
        "pi5: chaos_controllers is empty, so HAProxy would have no API server to forward to; add "
        "the controllers' names",
    ),
    bad(
        "storage_servers",
        ["etcd1"],
        "pi5, group all: chaos_storage_servers = ['etcd1']: it has to be a dict, such as "
        '{"a": "b"}',
    ),
    bad(
        "storage_servers",
        {"etcd1": "etcd1"},
        "pi5, group all: chaos_storage_servers['etcd1'] = 'etcd1': Input is not a valid"
        " IPv4 address",
    ),
    bad(
        "storage_servers",
        {},
        "pi5: chaos_storage_servers is empty, so no server has the Gluster volume pi5; add the "
        "names and addresses of the Gluster servers",
    ),
    bad(
        "storage_servers",
        {"pi5": "192.168.1.40"},
        "pi5: chaos_storage_servers: pi5 has the address 192.168.1.40 here, but "
        "192.168.1.54 in chaos_nodes; set the same address in both",
    ),
    bad(
        "storage_servers",
        {"etcd1.lan": "192.168.1.40"},
        "pi5, group all: chaos_storage_servers['etcd1.lan'] = 'etcd1.lan': it has to be"
        " a machine's name without its domain, in lower case, such as pi1",
    ),
    bad(
        "log_server",
        "etcd3",
        "pi5, group all: chaos_log_server = 'etcd3': Input is not a valid IPv4 address",
    ),
    bad(
        "log_server",
        "127.0.0.1",
        "pi5, group all: chaos_log_server = '127.0.0.1': this address"
        " cannot belong to another machine; give an address of the LAN",
    ),
    bad(
        "log_server",
        "224.0.0.1",
        "pi5, group all: chaos_log_server = '224.0.0.1': this address"
        " cannot belong to another machine; give an address of the LAN",
    ),
    bad(
        "log_server",
        None,
        "pi5, group all: chaos_log_server = None: None is not a value",
    ),
    bad(
        "log_server",
        "192.168.1.42:514",
        "pi5, group all: chaos_log_server = '192.168.1.42:514': Input is not a valid IPv4 address",
    ),
    bad(
        "log_store",
        "smb",
        "pi5, group all: chaos_log_store = 'smb': Input should be 'gluster', 'nfs' or 'ram'",
    ),
    bad(
        "log_store",
        "nfs",
        'pi5: chaos_log_nfs_servers is empty, but chaos_log_store is "nfs"; add the names and '
        "addresses of the NFS servers",
    ),
    bad(
        "log_nfs_servers",
        {"nas": "192.168.1.9"},
        "pi5: chaos_log_nfs_servers is set, but chaos_log_store is not set and defaults to "
        '"gluster"; set chaos_log_store to the kind of share that you want, such as "nfs"',
    ),
    bad(
        "log_nfs_servers",
        {"nas,ro": "192.168.1.9"},
        "pi5, group all: chaos_log_nfs_servers['nas,ro'] = 'nas,ro': it has to be a machine's name "
        "without its domain, in lower case, such as pi1",
    ),
    bad(
        "log_nfs_folder",
        "srv/log",
        "pi5, group all: chaos_log_nfs_folder = 'srv/log': it has to be the path of an NFS export, "
        "such as /srv/log",
    ),
    bad(
        "log_nfs_folder",
        "/srv/../etc",
        "pi5, group all: chaos_log_nfs_folder = '/srv/../etc': it has to be the path of an NFS "
        "export, such as /srv/log",
    ),
    bad(
        "report_dir",
        7,
        "pi5, group all: chaos_report_dir = 7: it has to be text, in quotes",
        deploy="chaos_engine.deploys.report",
    ),
    bad(
        "report_dir",
        "inventory.py",
        "site/inventory.py cannot be written: there is a file of that name",
        deploy="chaos_engine.deploys.report",
    ),
    bad(
        "card_tbw",
        0,
        "pi5, group all: chaos_card_tbw = 0: Input should be greater than 0",
        deploy="chaos_engine.deploys.report",
    ),
    bad(
        "card_tbw",
        True,
        "pi5, group all: chaos_card_tbw = True: it has to be a number",
        deploy="chaos_engine.deploys.report",
    ),
    bad(
        "card_tbw",
        "117 TB",
        "pi5, group all: chaos_card_tbw = '117 TB': it has to be a number",
        deploy="chaos_engine.deploys.report",
    ),
    bad(
        "summary_file",
        7,
        "pi5, group all: chaos_summary_file = 7: it has to be text, in quotes",
    ),
    bad(
        "log_ram_size",
        "16",
        "pi5, group all: chaos_log_ram_size = '16': it has to be a size with a suffix K, M or "
        "G, such as 64M",
    ),
    bad(
        "kubernetes_packages",
        "kubeadm",
        "pi5, group all: chaos_kubernetes_packages = 'kubeadm': it has to be True or False",
    ),
    bad(
        "log_protocol",
        "relp",
        "pi5, group all: chaos_log_protocol = 'relp': Input should be 'udp' or 'tcp'",
    ),
    bad(
        "log_port",
        0,
        "pi5, group all: chaos_log_port = 0: Input should be greater than or equal to 1",
    ),
    bad(
        "log_port",
        "syslog",
        "pi5, group all: chaos_log_port = 'syslog': it has to be a whole number",
    ),
    bad(
        "log_port",
        True,
        "pi5, group all: chaos_log_port = True: it has to be a number",
    ),
    bad(
        "vip",
        "192.168.2.60",
        "pi5: chaos_vip: 192.168.2.60 is not in chaos_lan_subnet 192.168.1.0/24; correct the "
        "address or the subnet",
    ),
    bad(
        "vip",
        "192.168.1.0",
        "pi5: chaos_vip: 192.168.1.0 is the subnet's own address; choose an unused address",
    ),
    bad(
        "vip",
        "192.168.1.255",
        "pi5: chaos_vip: 192.168.1.255 is the subnet's broadcast address; choose an unused address",
    ),
    bad(
        "vip",
        "192.168.1.1",
        "pi5: chaos_vip: 192.168.1.1 is chaos_lan_gateway; choose an unused address",
    ),
    bad(
        "vip",
        "192.168.1.54",
        "pi5: chaos_vip: 192.168.1.54 is the address of pi5; choose an unused address",
    ),
    bad(
        "vip",
        "192.168.1.40",
        "pi5: chaos_vip: 192.168.1.40 is the address of etcd1; choose an unused address",
    ),
    bad(
        "vip",
        "192.168.1.222",
        "pi5: chaos_vip: 192.168.1.222 is the value of chaos_hairpin_address too; choose an "
        "unused address",
    ),
    bad(
        "vip",
        "192.168.1.60/24",
        "pi5, group all: chaos_vip = '192.168.1.60/24': Input is not a valid IPv4 address",
    ),
    bad(
        "vip",
        None,
        "pi5, group all: chaos_vip = None: None is not a value",
    ),
    bad(
        "vip_name",
        "etcd1",
        "pi5: chaos_vip_name: etcd1 is a machine's name; choose another name",
    ),
    bad(
        "vip_name",
        "k8s.example.org",
        "pi5, group all: chaos_vip_name = 'k8s.example.org': it has to be a machine's "
        "name without its domain, in lower case, such as pi1",
    ),
    bad(
        "vip_port",
        65536,
        "pi5, group all: chaos_vip_port = 65536: Input should be less than or equal to 65535",
    ),
    bad(
        "vip_port",
        "https",
        "pi5, group all: chaos_vip_port = 'https': it has to be a whole number",
    ),
    bad(
        "lan_subnet",
        "192.168.1.5/24",
        "pi5, group proxy: chaos_lan_subnet = '192.168.1.5/24': this is the "
        "address of a machine; its network is 192.168.1.0/24",
    ),
    bad(
        "lan_subnet",
        "192.168.1.0",
        "pi5, group proxy: chaos_lan_subnet = '192.168.1.0': the prefix is missing; "
        "write it as in 192.168.1.0/24",
    ),
    bad(
        "lan_subnet",
        "fd00::/64",
        "pi5, group proxy: chaos_lan_subnet = 'fd00::/64': Input is not a valid IPv4 network",
    ),
    bad(
        "lan_gateway",
        "10.0.0.1",
        "pi5: chaos_lan_gateway: 10.0.0.1 is not in chaos_lan_subnet 192.168.1.0/24; correct the "
        "address or the subnet",
    ),
    bad(
        "lan_gateway",
        "router",
        "pi5, group proxy: chaos_lan_gateway = 'router': Input is not a valid IPv4 address",
    ),
    bad(
        "parent_interface",
        "enx001122334455-lan",
        "pi5, group proxy: chaos_parent_interface = 'enx001122334455-lan': it has to be"
        " the name of a network interface, such as eth0",
    ),
    bad(
        "parent_interface",
        "eth0 ",
        "pi5, group proxy: chaos_parent_interface = 'eth0 ': it has to be the name of a"
        " network interface, such as eth0",
    ),
    bad(
        "vip_mac",
        "02-42-ac-8f-4c-ff",
        "pi5, group proxy: chaos_vip_mac = '02-42-ac-8f-4c-ff': it has to be a MAC "
        "address with colons, such as 02:42:ac:8f:4c:ff",
    ),
    bad(
        "vip_mac",
        "03:42:ac:8f:4c:ff",
        "pi5: chaos_vip_mac: 03:42:ac:8f:4c:ff is not a unicast, locally administered address; "
        "its second digit has to be 2, 6, a or e, as in 02:42:ac:8f:4c:ff",
    ),
    bad(
        "vip_mac",
        "dc:a6:32:00:00:01",
        "pi5: chaos_vip_mac: dc:a6:32:00:00:01 is not a unicast, locally administered address; "
        "its second digit has to be 2, 6, a or e, as in de:a6:32:00:00:01",
    ),
    bad(
        "hairpin_address",
        "10.0.0.1",
        "pi5: chaos_hairpin_address: 10.0.0.1 is not in chaos_lan_subnet 192.168.1.0/24; correct "
        "the address or the subnet",
    ),
    bad(
        "hairpin_address",
        "192.168.1.60",
        "pi5: chaos_vip: 192.168.1.60 is the value of chaos_hairpin_address too; choose an "
        "unused address",
    ),
    bad(
        "hairpin_address",
        "192.168.1.50",
        "pi5: chaos_hairpin_address: 192.168.1.50 is the address of pi1; choose an unused address",
    ),
    bad(
        "hairpin_address",
        "192.168.1.255",
        "pi5: chaos_hairpin_address: 192.168.1.255 is the subnet's broadcast address; choose an "
        "unused address",
    ),
    bad(
        "vrrp_interval",
        40,
        "pi5, group all: chaos_vrrp_interval = 40: Input should be greater than or equal to 50",
    ),
    bad(
        "vrrp_interval",
        105,
        "pi5, group all: chaos_vrrp_interval = 105: Input should be a multiple of 10",
    ),
    bad(
        "vrrp_id",
        256,
        "pi5, group all: chaos_vrrp_id = 256: Input should be less than or equal to 255",
    ),
    bad("vrrp_id", "sixty", "pi5, group all: chaos_vrrp_id = 'sixty': it has to be a whole number"),
    bad(
        "hairpin_link",
        "lb-hairpin-of-the-proxy",
        "pi5, group all: chaos_hairpin_link = 'lb-hairpin-of-the-proxy': it has to be "
        "the name of a network interface, such as eth0",
    ),
    bad(
        "hairpin_link",
        "eth0",
        "pi5: chaos_hairpin_link: eth0 is the name of chaos_parent_interface too; choose another "
        "name",
    ),
    bad(
        "haproxy_image",
        "haproxy",
        "pi5, group all: chaos_haproxy_image = 'haproxy': it has to be "
        "a container image with a tag, a digest or both, such as haproxy:3.0 or "
        "haproxy:3.0@sha256:DIGEST; DIGEST is 64 hex digits in lower case",
    ),
    bad(
        "haproxy_image",
        "haproxy:3.0@sha256:c23fbc0ebf914d81",
        "chaos_haproxy_image = 'haproxy:3.0@sha256:c23fbc0ebf914d81': it has to be "
        "a container image with a tag, a digest or both, such as haproxy:3.0 or "
        "haproxy:3.0@sha256:DIGEST; DIGEST is 64 hex digits in lower case",
    ),
    bad(
        "haproxy_image",
        "haproxy:3.0; reboot",
        "pi5, group all: chaos_haproxy_image = 'haproxy:3.0; reboot': it has to be "
        "a container image with a tag, a digest or both, such as haproxy:3.0 or "
        "haproxy:3.0@sha256:DIGEST; DIGEST is 64 hex digits in lower case",
    ),
    bad(
        "haproxy_dir",
        "/var/log/$(reboot)",
        "pi5, group all: chaos_haproxy_dir = '/var/log/$(reboot)': it has to be an "
        "absolute path with only letters, digits and /._-, such as /mnt/ssd",
    ),
    bad(
        "haproxy_dir",
        "/srv/../etc",
        "chaos_haproxy_dir = '/srv/../etc': give the path of the folder without . and ..; wanted: ",
    ),
    bad(
        "haproxy_run_dir",
        "/var/log",
        "pi5: chaos_haproxy_run_dir: /var/log becomes a symbolic link, so chaos_haproxy_dir, "
        "/var/log/haproxy, cannot be in it; choose another folder",
    ),
    bad(
        "macvlan_network",
        "-x",
        "pi5, group all: chaos_macvlan_network = '-x': it has to be a name that "
        "Docker accepts, such as lb-network",
    ),
    bad(
        "journald_max_use",
        "64MB",
        "pi5, group all: chaos_journald_max_use = '64MB': it has to be a size with a "
        "suffix K, M or G, such as 64M",
    ),
    bad(
        "journald_max_use",
        64,
        "pi5, group all: chaos_journald_max_use = 64: it has to be text, in quotes",
    ),
    bad(
        "journald_max_file_size",
        "128M",
        "pi5: chaos_journald_max_file_size: one file may take 128M, but all files "
        "together only 64M (chaos_journald_max_use); choose a smaller file size",
    ),
    bad(
        "quiet_apt_timers",
        "monthly",
        "pi5, group all: chaos_quiet_apt_timers = 'monthly': Input should be 'daily', 'weekly' or "
        "'off'",
    ),
    *(
        bad(
            name,
            "maybe",
            f"pi5, group all: chaos_{name} = 'maybe': it has to be True or False",
        )
        for name in ("quiet_apt_cache", "quiet_man_db", "quiet_clock", "quiet_coredumps")
    ),
    bad(
        "ntp_servers",
        "192.168.1.1",
        "pi5, group all: chaos_ntp_servers = '192.168.1.1': it has to be a list, such as "
        '["a", "b"], even for one element',
    ),
    bad(
        "ntp_servers",
        ["192.168.1.1", "time server"],
        "pi5, group all: chaos_ntp_servers[1] = 'time server': it has to be the name of a machine, "
        "such as pi1",
    ),
    bad(
        "ntp_servers",
        ["192.168.1.1", "192.168.1.1"],
        "pi5, group all: chaos_ntp_servers = ['192.168.1.1', '192.168.1.1']: a server is in the "
        "list twice; remove one of the two",
    ),
    bad(
        "clock_wait",
        -1,
        "pi5, group all: chaos_clock_wait = -1: Input should be greater than or equal to 0",
    ),
    bad(
        "clock_wait",
        601,
        "pi5, group all: chaos_clock_wait = 601: Input should be less than or equal to 600",
    ),
    bad(
        "docker_log_max_size",
        "10MB",
        "pi5, group all: chaos_docker_log_max_size = '10MB': it has to be a size "
        "with a suffix k, m or g, such as 10m",
    ),
    bad(
        "docker_log_max_file",
        0,
        "pi5, group all: chaos_docker_log_max_file = 0: Input should be greater than or equal to 1",
    ),
    bad(
        "docker_log_max_file",
        "many",
        "pi5, group all: chaos_docker_log_max_file = 'many': it has to be a whole number",
    ),
    bad(
        "docker_log_max_file",
        2.5,
        "pi5, group all: chaos_docker_log_max_file = 2.5: it has to be a whole number",
    ),
    bad(
        "docker_data_root",
        "ssd",
        "pi5, group all: chaos_docker_data_root = 'ssd': it has to be an absolute path "
        "with only letters, digits and /._-, such as /mnt/ssd",
    ),
    bad(
        "docker_data_root",
        "/",
        "pi5, group all: chaos_docker_data_root = '/': it has to be an absolute path "
        "with only letters, digits and /._-, such as /mnt/ssd",
    ),
    bad(
        "docker_data_root",
        "/tmp/docker",
        "pi5, group all: chaos_docker_data_root = '/tmp/docker': /tmp may lose its "
        "content at the next boot; choose another folder",
    ),
    bad(
        "container_logs_noatime",
        "perhaps",
        "pi5, group all: chaos_container_logs_noatime = 'perhaps': it has to be True or False",
    ),
    bad(
        "container_logs_lazytime",
        5,
        "pi5, group all: chaos_container_logs_lazytime = 5: it has to be True or False",
    ),
    bad(
        "container_logs_commit",
        0,
        "pi5, group all: chaos_container_logs_commit = 0: Input should be greater than or equal "
        "to 5",
    ),
    bad(
        "container_logs_commit",
        "10 minutes",
        "pi5, group all: chaos_container_logs_commit = '10 minutes': it has to be a whole number",
    ),
    bad(
        "container_logs_writeback",
        5,
        "pi5, group all: chaos_container_logs_writeback = 5: Input should be greater than or "
        "equal to 30",
    ),
    bad(
        "container_logs_writeback",
        True,
        "pi5, group all: chaos_container_logs_writeback = True: it has to be a number",
    ),
    bad(
        "docker_live_restore",
        "perhaps",
        "pi5, group all: chaos_docker_live_restore = 'perhaps': it has to be True or False",
    ),
    bad(
        "packages_absent",
        "snapd",
        "pi5, group workers: chaos_packages_absent = 'snapd': it has to be a list, such as "
        '["a", "b"], even for one element',
    ),
    bad(
        "packages_absent",
        ["snapd-"],
        "pi5, group workers: chaos_packages_absent[0] = 'snapd-': it has to be the name"
        " of a Debian package, such as docker.io",
    ),
    bad(
        "packages_absent",
        ["openssh-server"],
        "pi5, group workers: chaos_packages_absent = ['openssh-server']: a work node needs "
        "openssh-server; do not list packages that it needs",
    ),
    bad(
        "packages_absent",
        ["nodem manager"],
        "pi5, group workers: chaos_packages_absent[0] = 'nodem manager': it has to be "
        "the name of a Debian package, such as docker.io",
    ),
    bad(
        "kernel_words",
        ["x$(reboot)"],
        "pi5, group all: chaos_kernel_words[0] = 'x$(reboot)': it has to be a word of "
        "the kernel's command line, such as cgroup_enable=memory",
    ),
    bad(
        "kernel_words",
        ["quiet", "quiet"],
        "pi5, group all: chaos_kernel_words = ['quiet', 'quiet']: a word is in the list twice; "
        "list each word once",
    ),
    bad(
        "kernel_words",
        "cgroup_enable=memory",
        "pi5, group all: chaos_kernel_words = 'cgroup_enable=memory': it has to be a list, such "
        'as ["a", "b"], even for one element',
    ),
    bad(
        "kubernetes_version",
        "v1.28.15",
        "pi5, group workers: chaos_kubernetes_version = 'v1.28.15': it has to be a "
        "version of three numbers, such as 1.36.2",
    ),
    bad(
        "kubernetes_version",
        "1.28",
        "pi5, group workers: chaos_kubernetes_version = '1.28': it has to be a version "
        "of three numbers, such as 1.36.2",
    ),
    bad(
        "kubernetes_version",
        1.28,
        "pi5, group workers: chaos_kubernetes_version = 1.28: it has to be text, in quotes",
    ),
    bad(
        "kubernetes_version",
        "1.23.17",
        "pi5: chaos_kubernetes_version: pkgs.k8s.io has no 1.23.17; choose 1.35 or newer",
    ),
    bad(
        "cri_dockerd_version",
        "v0.3.17",
        "pi5, group workers: chaos_cri_dockerd_version = 'v0.3.17': it has to be a "
        "version of three numbers, such as 1.36.2",
    ),
    bad(
        "cri_dockerd_version",
        "0.3.4",
        "pi5: files/cri-dockerd-0.3.4.arm64.tgz is missing, and so is "
        "files/cri-dockerd-0.3.4.amd64.tgz; download the tarball from "
        "https://github.com/Mirantis/cri-dockerd/releases/download/v0.3.4/cri-dockerd-0.3.4.arm64.tgz"
        ", or set chaos_cri_dockerd_tarball to its path",
    ),
    bad(
        "kubernetes_kubectl",
        "maybe",
        "pi5, group all: chaos_kubernetes_kubectl = 'maybe': it has to be True or False",
    ),
    bad(
        "kubernetes_pod_network",
        "10.244.0.0/25",
        "pi5: chaos_kubernetes_pod_network: 10.244.0.0/25 is too small, because each node needs "
        "a /24 network; choose a larger network, such as 10.244.0.0/16",
    ),
    bad(
        "kubernetes_pod_network",
        "192.168.0.0/16",
        "pi5: chaos_kubernetes_pod_network: 192.168.0.0/16 contains 192.168.1.40, the address of "
        "etcd1, so pods could not reach etcd1; choose an unused network, such as 10.244.0.0/16",
    ),
    bad(
        "kubernetes_pod_network",
        "10.244.0.0",
        "pi5, group all: chaos_kubernetes_pod_network = '10.244.0.0': the prefix is "
        "missing; write it as in 10.244.0.0/24",
    ),
    bad(
        "log_containers",
        "perhaps",
        "pi5, group all: chaos_log_containers = 'perhaps': it has to be True or False",
    ),
    bad(
        "log_server_ssh",
        "-oProxyCommand=x",
        "pi5, group all: chaos_log_server_ssh = '-oProxyCommand=x': it has to be a destination "
        "for ssh, such as admin@192.168.1.42",
    ),
    bad(
        "log_server_files",
        "/var/log/$(id).log",
        "pi5, group all: chaos_log_server_files = '/var/log/$(id).log': it has to be an absolute "
        "path, in which * and ? stand for other characters, such as /var/log/nodes/*.log",
    ),
    bad(
        "etcd_certificates_dir",
        "etc/kubernetes",
        "pi5, group all: chaos_etcd_certificates_dir = 'etc/kubernetes': it has to be "
        "an absolute path with only letters, digits and /._-, such as /mnt/ssd",
    ),
    bad(
        "etcd_certificates_dir",
        "/run/kubernetes",
        "pi5, group all: chaos_etcd_certificates_dir = '/run/kubernetes': /run may lose "
        "its content at the next boot; choose another folder",
    ),
    bad(
        "etcd_certificates_dir",
        "/etc/../tmp",
        "pi5, group all: chaos_etcd_certificates_dir = '/etc/../tmp': give the path of "
        "the folder without . and ..",
    ),
    bad(
        "etcd_client_certificate",
        "",
        "pi5, group all: chaos_etcd_client_certificate = '': it has to be the path of a file",
    ),
    bad(
        "etcd_client_key",
        "-----BEGIN PRIVATE KEY-----\nMARKED\n",
        "pi5, group all: chaos_etcd_client_key = (a private key, not shown): this is the "
        "content of a file; save the content to a file, and give the file's path",
    ),
    bad(
        "etcd_certificates_hosts",
        "workers",
        "pi5, group workers: chaos_etcd_certificates_hosts = 'workers': Input should be"
        " 'controllers', 'all' or 'none'",
    ),
    bad(
        "cri_dockerd_tarball",
        "",
        "pi5, group all: chaos_cri_dockerd_tarball = '': it has to be the path of a file",
    ),
    bad(
        "cri_dockerd_tarball",
        "files/cri.tgz",
        "pi5: files/cri.tgz is missing; download the tarball from "
        "https://github.com/Mirantis/cri-dockerd/releases/download/v0.3.17/cri.tgz, or set "
        "chaos_cri_dockerd_tarball to its path",
    ),
    bad(
        "cri_dockerd_url",
        "http://example.org/x.tgz",
        "pi5, group all: chaos_cri_dockerd_url = 'http://example.org/x.tgz': it has to "
        "be an https:// address",
    ),
    bad(
        "cri_dockerd_sha256",
        {"arm64": "abc"},
        "pi5, group all: chaos_cri_dockerd_sha256['arm64'] = 'abc': it has to be a "
        "sha256 in 64 hex digits",
    ),
    bad(
        "cri_dockerd_sha256",
        {"armhf": "0000000000000000000000000000000000000000000000000000000000000000"},
        "pi5, group all: chaos_cri_dockerd_sha256['armhf'] = 'armhf': Input should be "
        "'amd64' or 'arm64'",
    ),
    bad(
        "cri_dockerd_infra_image",
        "pause --log-level=debug",
        "pi5, group all: chaos_cri_dockerd_infra_image = 'pause --log-level=debug': it "
        "has to be a container image with a tag, a digest or both, such as haproxy:3.0 or "
        "haproxy:3.0@sha256:DIGEST; DIGEST is 64 hex digits in lower case",
    ),
    bad(
        "log_volumes",
        {
            "pi5": {"volume": "a", "servers": ["etcd1"]},
            "pi6": {"volume": "a", "servers": ["etcd1"]},
        },
        "pi5: chaos_log_volumes['pi6']: a is the volume of pi5 too, so their logs would mix; "
        "give each node its own volume",
    ),
    bad(
        "log_volumes",
        {"pi99": {"volume": "a", "servers": ["etcd1"]}},
        "pi5: chaos_log_volumes['pi99']: pi99 is not in chaos_nodes; add the node's address there",
    ),
    bad(
        "log_volumes",
        {"pi5": {"volume": "a", "servers": []}},
        "pi5, group all: chaos_log_volumes['pi5']['servers'] = []: it is empty",
    ),
    bad(
        "log_volumes",
        {"pi5": {"volume": "a", "servers": ["etcd9"]}},
        "pi5: chaos_log_volumes['pi5']: etcd9 is not in chaos_storage_servers; add the server's "
        "address there",
    ),
    bad(
        "log_volumes",
        {"pi5": {"volume": "a", "servers": ["etcd1", "etcd1"]}},
        "pi5: chaos_log_volumes['pi5']: etcd1 is in the list twice; list each server once",
    ),
    bad(
        "log_volumes",
        {"pi5": {"volume": "a/../b", "servers": ["etcd1"]}},
        "pi5, group all: chaos_log_volumes['pi5']['volume'] = 'a/../b': it has to be a "
        "Gluster volume, such as pi1",
    ),
    bad(
        "log_volumes",
        {"pi5": {"volume": "-o", "servers": ["etcd1"]}},
        "pi5, group all: chaos_log_volumes['pi5']['volume'] = '-o': it has to be a "
        "Gluster volume, such as pi1",
    ),
    bad(
        "log_volumes",
        {"pi5": {"volume": "a", "server": "etcd1"}},
        "pi5, group all: chaos_log_volumes['pi5']['servers'] is missing",
    ),
    bad(
        "log_volumes",
        {"pi5": "a"},
        "pi5, group all: chaos_log_volumes['pi5'] = 'a': it has to be a dict, such as "
        '{"a": "b"}',
    ),
    bad(
        "log_volumes",
        {"pi1": {"volume": "pi1", "servers": ["etcd1"]}},
        'pi5: chaos_log_volumes has no Gluster volume for this node, only for pi1; add "pi5": '
        '{"volume": ..., "servers": [...]}',
    ),
    bad(
        "reboot_force",
        "perhaps",
        "pi5, group all: chaos_reboot_force = 'perhaps': it has to be True or False",
    ),
    bad(
        "reboot_timeout",
        1,
        "pi5, group all: chaos_reboot_timeout = 1: Input should be greater than or equal to 10",
    ),
    bad(
        "metrics",
        "/var/lib/metrics",
        "pi5, group all: chaos_metrics = '/var/lib/metrics': it has to be True or False",
    ),
    bad(
        "watchdog",
        "15s",
        "pi5, group all: chaos_watchdog = '15s': it has to be True or False",
    ),
    bad(
        "watchdog_seconds",
        30,
        "pi5, group all: chaos_watchdog_seconds = 30: it has to be from 5 to 15, or 0; the "
        "watchdog of a Raspberry Pi waits at most 15 seconds",
    ),
    bad(
        "watchdog_seconds",
        True,
        "pi5, group all: chaos_watchdog_seconds = True: it has to be a number",
    ),
    bad(
        "watchdog_reboot_seconds",
        "15s",
        "pi5, group all: chaos_watchdog_reboot_seconds = '15s': it has to be a whole number",
    ),
    bad(
        "watchdog_link_minutes",
        -1,
        "pi5, group all: chaos_watchdog_link_minutes = -1: Input should be greater than or equal "
        "to 0",
    ),
    bad(
        "watchdog_reboot_proxy",
        "sometimes",
        "pi5, group all: chaos_watchdog_reboot_proxy = 'sometimes': it has to be True or False",
    ),
    bad(
        "undo",
        "docker,dokcer",
        "pi5, group all: chaos_undo = 'docker,dokcer': dokcer is no concern; did you mean docker?; "
        f"concerns are {', '.join(ORDER)}",
        deploy="chaos_engine.deploys.undo",
    ),
    bad(
        "undo",
        "preflight",
        "pi5, group all: chaos_undo = 'preflight': preflight is no concern; "
        f"concerns are {', '.join(ORDER)}",
        deploy="chaos_engine.deploys.undo",
    ),
    bad(
        "verify",
        "docker,dokcer",
        "pi5, group all: chaos_verify = 'docker,dokcer': dokcer is no concern; did you mean "
        f"docker?; concerns are {VERIFIED}",
        deploy=VERIFY,
    ),
    bad(
        "verify",
        "reboot",
        f"pi5, group all: chaos_verify = 'reboot': reboot is no concern; concerns are {VERIFIED}",
        deploy="chaos_engine.deploys.report",
    ),
    bad(
        "verify",
        [],
        "pi5, group all: chaos_verify = []: it is empty; give a concern's name, or remove the "
        "setting to verify all concerns",
        deploy=VERIFY,
    ),
    Case(
        "pi5: not in the inventory's group proxy",
        {"all": {"chaos_verify": "haproxy"}},
        inventory='workers = ["pi5"]\n',
        deploy=VERIFY,
    ),
    bad(
        "forget",
        "PI_3",
        "pi5, group all: chaos_forget = 'PI_3': it has to be a machine's name without its domain, "
        "in lower case, such as pi1",
        deploy=FORGET,
    ),
    bad(
        "forget_host_key",
        "perhaps",
        "pi5, group all: chaos_forget_host_key = 'perhaps': it has to be True or False",
        deploy=FORGET,
    ),
    bad("join", "perhaps", "pi5, group all: chaos_join = 'perhaps': it has to be True or False"),
    Case(
        "chaos_forget is not set; name the node to remove from the cluster: --data "
        "chaos_forget=pi3",
        deploy=FORGET,
    ),
    Case(
        "chaos_kubeconfig is not set, but the deploy forget needs it to remove a node; copy "
        "/etc/kubernetes/admin.conf from a controller",
        {"all": {"chaos_forget": "pi3"}},
        deploy=FORGET,
    ),
    Case(
        "pi5: init creates the cluster on a controller, and this host is not in chaos_controllers "
        "(pi1, pi4, pi7); run it with --limit and the name of one controller",
        deploy=INIT,
    ),
    Case(
        "init creates the cluster on one controller, but this run has 2 hosts; run it with --limit "
        "pi1",
        inventory='workers = ["pi1", "pi4"]\n',
        deploy=INIT,
    ),
    Case(
        "pi5: the Kubernetes API has no address, because neither chaos_vip nor chaos_controllers "
        "is set; set one of them in group_data/all.py",
        {"all": {"chaos_vip": None, "chaos_controllers": []}},
        inventory='workers = ["pi5"]\n',
        deploy=JOIN,
    ),
    bad(
        "rolling_batch",
        0,
        "pi5, group all: chaos_rolling_batch = 0: Input should be greater than or equal to 1",
    ),
    bad(
        "drain_timeout",
        0,
        "pi5, group all: chaos_drain_timeout = 0: Input should be greater than or equal to 1",
    ),
    bad(
        "drain_timeout",
        "5m",
        "pi5, group all: chaos_drain_timeout = '5m': it has to be a whole number",
    ),
    Case(
        "pi5: chaos_vip: chaos_log_server has the same address 192.168.1.70; choose an address "
        "that no machine has",
        {"all": {"chaos_vip": "192.168.1.70", "chaos_log_server": "192.168.1.70"}},
    ),
    Case(
        "pi5: chaos_hairpin_address: 192.168.1.70 is chaos_log_server; choose an unused address",
        {
            "all": {"chaos_log_server": "192.168.1.70"},
            "proxy": {"chaos_hairpin_address": "192.168.1.70"},
        },
    ),
    Case(
        "pi5: chaos_log_server_ssh: there is no log server to look at, because chaos_log_server = "
        "none",
        {"all": {"chaos_log_server": "none", "chaos_log_server_ssh": "admin@log"}},
    ),
    Case(
        "pi5: chaos_log_containers: there is no log server to send to, because chaos_log_server = "
        "none",
        {"all": {"chaos_log_server": "none", "chaos_log_containers": True}},
    ),
    Case(
        "pi5: chaos_log_server is not set; set it in the inventory or in group_data/; wanted: "
        "address of the syslog server that receives the logs of all nodes",
        files=lambda folder: drop(folder, "all", "chaos_log_server"),
    ),
    Case(
        "pi5: chaos_lan_subnet is not set; set it in the inventory or in group_data/; wanted: "
        "subnet of the nodes' LAN",
        files=lambda folder: drop(folder, "proxy", "chaos_lan_subnet"),
    ),
    Case(
        "pi5: Kubernetes 1.26 and newer need cri-dockerd 0.3.0 or newer; "
        "chaos_kubernetes_version is 1.28.15 and chaos_cri_dockerd_version is 0.2.6; ",
        {"workers": {"chaos_cri_dockerd_version": "0.2.6"}},
    ),
    Case(
        "pi5, inventory: chaos_vip_port = 0: Input should be greater than or equal to 1",
        inventory='workers = [("pi5", {"chaos_vip_port": 0})]\nproxy = ["pi5"]\n',
    ),
    Case(
        "pi5, --data: chaos_vip_port = 0: Input should be greater than or equal to 1",
        arguments=("--data", "chaos_vip_port=0"),
    ),
    Case(
        "pi5, group proxy: chaos_vip_port = 0: Input should be greater than or equal to 1",
        {"proxy": {"chaos_vip_port": 0}},
    ),
]

INVENTORY = [
    Case(
        "pi5, group all: chaos_log_sever is no setting; did you mean chaos_log_server?",
        {"all": {"chaos_log_sever": "192.168.1.42"}},
    ),
    Case(
        "pi5, --data: chaos_log_sever is no setting; did you mean chaos_log_server?",
        arguments=("--data", "chaos_log_sever=192.168.1.42"),
    ),
    Case(
        "pi5, group workers: chaos_qqqq is no setting; docs/settings.md lists all settings",
        {"workers": {"chaos_qqqq": 1}},
    ),
    Case(
        "pi5, group all: choas_log_server is no setting; did you mean chaos_log_server?",
        {"all": {"choas_log_server": "192.168.1.42"}},
    ),
    Case(
        "pi5, group all: CHAOS_LOG_SERVER is no setting; did you mean chaos_log_server?",
        {"all": {"CHAOS_LOG_SERVER": "192.168.1.42"}},
    ),
    Case(
        "group wokers: the group has settings, but no hosts; did you mean group_data/workers.py?",
        files=lambda folder: (folder / "group_data/workers.py").rename(
            folder / "group_data/wokers.py"
        ),
    ),
    Case(
        "pi2: not in the inventory's group workers, only in wokers, inventory; add the host to "
        "workers in inventory.py, or exclude it with --exclude pi2",
        inventory='workers = ["pi5"]\nproxy = ["pi5"]\nwokers = ["pi2"]\n',
    ),
    Case(
        "chaos_vip: the value is 192.168.1.60 for pi4, 192.168.1.61 for pi5, but all nodes use "
        "the same API; set chaos_vip once, in group_data/all.py",
        {"proxy": {"chaos_vip": "192.168.1.61"}},
        inventory='workers = ["pi4", "pi5"]\nproxy = ["pi5"]\n',
    ),
    # A host without the setting has the default
    Case(
        "chaos_vip_name: the value is k8s for pi4, api for pi5, but all nodes use the same API; "
        "set chaos_vip_name once, in group_data/all.py",
        {"proxy": {"chaos_vip_name": "api"}},
        inventory='workers = ["pi4", "pi5"]\nproxy = ["pi5"]\n',
    ),
    Case(
        "chaos_rolling_batch: the value is 3 for pi4, 1 for pi5, but all nodes of a run share "
        "their turns; set chaos_rolling_batch once, in group_data/all.py",
        inventory='workers = [("pi4", {"chaos_rolling_batch": 3}), "pi5"]\nproxy = ["pi5"]\n',
    ),
    Case(
        "chaos_rolling_batch: the value is 1 for pi4, 3 for pi5, but all nodes of a run share "
        "their turns",
        inventory='workers = ["pi4", ("pi5", {"chaos_rolling_batch": 3})]\n',
        deploy="chaos_engine.deploys.docker",
    ),
    Case(
        "pi5: in the inventory's group proxy, but not in workers, so the host would not get the "
        "settings in group_data/workers.py; add the host to workers in inventory.py too",
        inventory='workers = []\nproxy = ["pi5"]\n',
    ),
    Case(
        "chaos_hairpin_address: pi4 and pi5 have the same address 192.168.1.222; give each proxy "
        'its own: in inventory.py, write ("pi5", {"chaos_hairpin_address": "ADDRESS"}) in the '
        "group proxy, with a free address for ADDRESS",
        inventory='workers = ["pi4", "pi5"]\nproxy = ["pi4", "pi5"]\n',
    ),
    # The other proxy is not in the run
    Case(
        "chaos_hairpin_address: pi4 and pi5 have the same address 192.168.1.222; give each proxy ",
        inventory='workers = ["pi4", "pi5"]\nproxy = ["pi4", "pi5"]\n',
        arguments=("--limit", "pi5"),
    ),
    Case(
        "pi4: chaos_hairpin_address is not set; give each proxy its own: in inventory.py, write "
        '("pi4", {"chaos_hairpin_address": "ADDRESS"}) in the group proxy',
        inventory=(
            'workers = ["pi4", "pi5"]\n'
            'proxy = [("pi5", {"chaos_hairpin_address": "192.168.1.222"}), "pi4"]\n'
        ),
        arguments=("--limit", "pi5"),
        files=lambda folder: drop(folder, "proxy", "chaos_hairpin_address"),
    ),
    Case(
        "pi4: chaos_hairpin_address is '192.168.1', which is no IPv4 address; give each proxy its "
        "own: in inventory.py",
        inventory=TWO_PROXIES.replace("192.168.1.223", "192.168.1"),
        arguments=("--limit", "pi5"),
    ),
    Case(
        "chaos_vrrp_interval: the value is 200 for pi4, not set for pi5, but all proxies need the "
        "same value; set chaos_vrrp_interval once, in group_data/proxy.py",
        inventory=TWO_PROXIES.replace('{"', '{"chaos_vrrp_interval": 200, "'),
    ),
    Case(
        "chaos_vrrp_id: the value is 7 for pi4, not set for pi5, but all proxies need the same "
        "value; set chaos_vrrp_id once, in group_data/proxy.py",
        inventory=TWO_PROXIES.replace('{"', '{"chaos_vrrp_id": 7, "'),
        arguments=("--limit", "pi5"),
    ),
    Case(
        "pi4: its address 10.0.0.4 in chaos_nodes is not in chaos_lan_subnet 192.168.1.0/24; all "
        "proxies have to be in that subnet, because they share the API's address",
        {
            "all": {
                "chaos_nodes": {
                    "pi4": "10.0.0.4",
                    "pi5": "192.168.1.54",
                    "pi1": "192.168.1.50",
                    "pi7": "192.168.1.56",
                }
            }
        },
        inventory=TWO_PROXIES,
    ),
    Case(
        "pi4: in the inventory's group proxy, but not in workers, so the host would not get the "
        "settings in group_data/workers.py; add the host to workers in inventory.py too",
        inventory=TWO_PROXIES.replace('workers = ["pi4", ', "workers = ["),
        arguments=("--limit", "pi5"),
    ),
    Case(
        "192.168.1.53 and pi4 are the same node pi4 of chaos_nodes; list it only once in the group "
        "proxy of inventory.py",
        inventory=TWO_PROXIES.replace('["pi5",', '["192.168.1.53",').replace(
            '["pi4", "pi5"]', '["192.168.1.53", "pi4"]'
        ),
    ),
    Case(
        "pi11: this host is not in chaos_nodes; add 'pi11' with its address to chaos_nodes in "
        "group_data/all.py, or remove the host from inventory.py",
        inventory='workers = ["pi11"]\n',
    ),
    Case(
        "192.168.1.99: this host is not in chaos_nodes; add a name with the address "
        "192.168.1.99 to chaos_nodes in group_data/all.py, or remove the host from inventory.py",
        inventory='workers = ["192.168.1.99"]\n',
    ),
    Case(
        "etcd1: this host is not in chaos_nodes; add 'etcd1' with its address to chaos_nodes in "
        "group_data/all.py, or remove the host from inventory.py",
        inventory='workers = ["etcd1"]\n',
    ),
    Case(
        "PI5: this host is not in chaos_nodes; add 'PI5' with its address to chaos_nodes",
        inventory='workers = ["PI5"]\nproxy = ["PI5"]\n',
    ),
    Case(
        "pi99: this node is not in chaos_nodes, so it has no Gluster volume; add the node's name "
        "and address to chaos_nodes",
        inventory='workers = [("pi99", {"ssh_hostname": "192.168.1.99"})]\n',
    ),
    Case(
        # of all concerns of all roles, and of all hosts
        f"pi4 and 2 more: files/{RELEASE} is missing, and so is "
        f"files/{RELEASE.replace('arm64', 'amd64')}; download the tarball from "
        f"https://github.com/Mirantis/cri-dockerd/releases/download/v0.3.17/{RELEASE}, or set "
        "chaos_cri_dockerd_tarball to its path pi4 and 2 more: "
        "chaos_etcd_client_certificate: {}/etcd-client.crt: there is no such file; put the "
        "file at this path, or set chaos_etcd_client_certificate to the file's path pi4 and 2 "
        "more: chaos_etcd_client_key: {}/etcd-client.key: there is no such file; put the file "
        "at this path, or set chaos_etcd_client_key to the file's path",
        inventory='workers = ["pi4", "pi5", "pi6"]\nproxy = ["pi5"]\n',
        files=missing(RELEASE, "etcd-client.crt", "etcd-client.key"),
    ),
    Case(
        "pi4 and 1 more, group all: chaos_log_prtocol is no setting; did you mean "
        "chaos_log_protocol? "
        "pi4 and 1 more, group all: chaos_log_port = 0: Input should be greater than or equal to 1",
        {"all": {"chaos_log_prtocol": "udp", "chaos_log_port": 0}},
        inventory='workers = ["pi4", "pi5"]\nproxy = ["pi5"]\n',
    ),
    Case(
        "; list it only once in inventory.py",
        inventory='workers = ["pi5", "pi6"]\nproxy = ["pi5"]\n',
        answers={Node: replace(GOOD, boot_id="one", machine_id="one", addresses=())},
        others=1,
    ),
    Case(
        "the node is reached by a .local name, which avahi-daemon answers, but avahi-daemon is to "
        "be removed; connect by address or another name, or keep avahi-daemon: take it out of "
        "chaos_packages_absent",
        inventory='workers = ["pi5.local"]\n',
        answers={RemovalPlan: Removal(("avahi-daemon",), ("avahi-daemon",))},
    ),
]

OTHER = pair("other", authority=True)
LOOKALIKE = pair("etcd-ca", authority=True)
EXPIRED = pair("client", CA, usages=CLIENT, begin=BEGIN - timedelta(9), end=BEGIN)
FUTURE = pair("client", CA, usages=CLIENT, begin=BEGIN + timedelta(2))
OF_SERVER = pair("server", CA, usages=SERVER)
NO_CA = pair("self", authority=False)
SILENT = pair("self", authority=None)
OLD_CA = pair("old-ca", authority=True, begin=BEGIN - timedelta(9), end=BEGIN)
OF_OLD_CA = pair("client", OLD_CA, usages=CLIENT)

CRT, KEY, AUTHORITY = "etcd-client.crt", "etcd-client.key", "ca.crt"
CRT_SETTING = f"pi5: chaos_etcd_client_certificate: {{}}/{CRT}"
KEY_SETTING = f"pi5: chaos_etcd_client_key: {{}}/{KEY}"
CA_SETTING = f"pi5: chaos_etcd_ca: {{}}/{AUTHORITY}"
DOWNLOAD = f"https://github.com/Mirantis/cri-dockerd/releases/download/v0.3.17/{RELEASE}"
URL = {"all": {"chaos_cri_dockerd_url": "https://example.org/{version}.{arch}.tgz"}}


def both(client: Pair) -> Callable[[Path], object]:
    """Another certificate, with its key."""
    return files({CRT: client.certificate, KEY: client.private()})


def no_archive(data: bytes) -> Case:
    """A tarball that is none, with its checksum."""
    return Case(
        f"pi5: files/{RELEASE}: the file is not a complete gzipped tar archive: ",
        files=release(data),
    )


FILES = [
    *(
        Case(
            f"pi5: {key}: {{}}/{name}: there is no such file; put the file at this path, or set "
            f"{key} to the file's path",
            key=key,
            files=missing(name),
        )
        for key, name in (
            ("chaos_etcd_client_certificate", CRT),
            ("chaos_etcd_client_key", KEY),
            ("chaos_etcd_ca", AUTHORITY),
        )
    ),
    Case(
        f"{CA_SETTING}: that is a folder, not a file; put the file at this path, or set "
        "chaos_etcd_ca to the file's path",
        files=directory(AUTHORITY),
    ),
    Case(
        f"{KEY_SETTING}: it cannot be read: Permission denied; put the file at this path, or set",
        unreadable=KEY,
    ),
    Case(
        f"{CRT_SETTING}: it cannot be read: File name too long; put the file at this path".replace(
            CRT, "x" * 300
        ),
        {"all": {"chaos_etcd_client_certificate": f"files/{'x' * 300}"}},
    ),
    *(
        Case(
            f"{setting}: it cannot be read: it is larger than 1 MiB; put the file at this path, "
            "or set",
            files=files({name: bytes(MIB + 1)}),
        )
        for setting, name in ((CRT_SETTING, CRT), (KEY_SETTING, KEY), (CA_SETTING, AUTHORITY))
    ),
    Case(
        f"{CRT_SETTING} is a private key, not the client's certificate; are two files swapped?",
        files=files({CRT: GOOD_PAIR.private()}),
    ),
    Case(
        f"{KEY_SETTING} is a certificate, not a private key; are two files swapped?",
        files=files({KEY: GOOD_PAIR.certificate}),
    ),
    Case(
        f"{CRT_SETTING} contains a private key besides the certificate; remove the key from the "
        "file: on a node, all users can read the file",
        files=files({CRT: GOOD_PAIR.certificate + GOOD_PAIR.private()}),
    ),
    Case(
        f"{CA_SETTING} contains a private key besides the certificate; remove the key from the "
        "file: on a node, all users can read the file",
        files=files({AUTHORITY: CA.private() + CA.certificate}),
    ),
    Case(
        f"{CRT_SETTING} is not the client's certificate in PEM form; put the client's certificate "
        "into the file",
        files=files({CRT: b"\x30\x82\x01"}),
    ),
    Case(
        f"{CA_SETTING} is not the CA's certificate in PEM form; put the CA's certificate into the "
        "file",
        files=files({AUTHORITY: b""}),
    ),
    Case(
        f"{KEY_SETTING} is not a private key in PEM form; put the client's key into it",
        files=files({KEY: b"-----BEGIN PRIVATE KEY-----\nMARKED\n-----END PRIVATE KEY-----\n"}),
    ),
    *(
        Case(
            f"{KEY_SETTING} is encrypted, but the API server cannot ask for a passphrase; decrypt "
            "the key: openssl pkey -in OLD -out NEW",
            files=files({KEY: GOOD_PAIR.private(b"secret", old=old)}),
        )
        for old in (False, True)
    ),
    Case(
        f"{KEY_SETTING} is not the private key of the certificate in {{}}/{CRT}; use a "
        "certificate and a key that belong together",
        files=files({KEY: OTHER.private()}),
    ),
    *(
        Case(
            f"{CRT_SETTING} was not issued by a CA in {{}}/{AUTHORITY}: the issuer is CN=etcd-ca, "
            f"and the CA file has the certificates of CN={name}; use the CA that etcd trusts, and "
            "a client's certificate that this CA issued",
            files=files({AUTHORITY: authority.certificate}),
        )
        for name, authority in (("other", OTHER), ("etcd-ca", LOOKALIKE))
    ),
    *(
        Case(
            f"{CA_SETTING} is not a CA's certificate: CN=self may not issue certificates; use the "
            "certificate of the CA that issued the client's certificate",
            files=files({AUTHORITY: authority.certificate}),
        )
        for authority in (NO_CA, SILENT)
    ),
    Case(f"{CRT_SETTING} expired on {BEGIN:%Y-%m-%d}; renew it", files=both(EXPIRED)),
    Case(
        f"{CA_SETTING} expired on {BEGIN:%Y-%m-%d}; renew it",
        files=files(
            {
                CRT: OF_OLD_CA.certificate,
                KEY: OF_OLD_CA.private(),
                AUTHORITY: OLD_CA.certificate,
            }
        ),
    ),
    Case(
        f"{CRT_SETTING} is not valid before {BEGIN + timedelta(2):%Y-%m-%d %H:%M} UTC; wait until "
        "that time, or correct this computer's clock, which shows ",
        files=both(FUTURE),
    ),
    Case(
        f"{CRT_SETTING} is not for clients: its extended key usage lacks clientAuth; use a "
        "client's certificate, not a server's",
        files=both(OF_SERVER),
    ),
    Case(
        f"pi5: files/{RELEASE} is missing, and so is files/{RELEASE.replace('arm64', 'amd64')}; "
        f"download the tarball from {DOWNLOAD}, or set chaos_cri_dockerd_tarball to its path",
        files=missing(RELEASE),
    ),
    Case(
        f"pi5: files/{RELEASE} could not be read or downloaded: it is larger than 128 MiB; "
        f"download it yourself from {DOWNLOAD}",
        files=larger(RELEASE, MAX_PACKED),
    ),
    Case(
        "pi5: {}/SHA256SUMS: it cannot be read: it is larger than 1 MiB; this file should have "
        "the output of sha256sum: fix or remove the file",
        files=larger("SHA256SUMS", MIB),
    ),
    Case(
        f"pi5: files/{RELEASE}: the tarball unpacks to more than 192 MiB; the expected sha256 is "
        "from",
        files=release(ZEROS),
    ),
    Case(
        f"pi5: files/{RELEASE} could not be read or downloaded: [Errno 21] Is a directory: "
        f"'{{}}/{RELEASE}'; download it yourself from {DOWNLOAD}",
        files=directory(RELEASE),
    ),
    Case(
        "pi5: the sha256 of files/release.tgz is not known; check that you trust the "
        "tarball, then run: (cd {} && sha256sum release.tgz >> SHA256SUMS)",
        {"all": {"chaos_cri_dockerd_tarball": "files/release.tgz"}},
        files=files({"release.tgz": b""}),
    ),
    Case(
        f"pi5: files/{RELEASE}: the tarball's sha256 is {sha256(b'x')}, not {sha256(TARBALL)}; the "
        "expected sha256 is from {}/SHA256SUMS; if the tarball is wrong, download it from "
        f"{DOWNLOAD}",
        files=files({RELEASE: b"x"}),
    ),
    Case(
        f"pi5: files/{RELEASE}: the tarball's sha256 is {sha256(TARBALL)}, not {'0' * 64}; "
        "the expected sha256 is from chaos_cri_dockerd_sha256; if the tarball is wrong, "
        f"download it from {DOWNLOAD}",
        {"all": {"chaos_cri_dockerd_sha256": {"arm64": "0" * 64}}},
    ),
    *map(
        no_archive,
        (
            TARBALL[:-1],
            b"",
            b"<html>not found</html>",
            gzip.compress(b"not a tar archive", mtime=0),
        ),
    ),
    Case(
        f"pi5: files/{RELEASE}: the member 'cri-dockerd/../../etc/cron.d/x' leads out of the "
        "tarball",
        files=release(tarball(name="cri-dockerd/../../etc/cron.d/x")),
    ),
    Case(
        f"pi5: files/{RELEASE}: the tarball has no cri-dockerd/cri-dockerd",
        files=release(tarball(name="cri-dockerd/other")),
    ),
    Case(
        f"pi5: files/{RELEASE}: the program cri-dockerd/cri-dockerd is for amd64, not for arm64",
        files=release(tarball(elf("amd64"))),
    ),
    Case(
        "pi5: {}/SHA256SUMS: it cannot be read: Permission denied; this file should have the "
        "output of sha256sum: fix or remove the file",
        unreadable="SHA256SUMS",
    ),
    Case(
        "pi5: {}/SHA256SUMS: that is a folder, not a file; this file should have the output of "
        "sha256sum",
        files=directory("SHA256SUMS"),
    ),
    *(
        Case(
            f"pi5: files/{RELEASE} could not be read or downloaded: {said}; download it yourself "
            f"from {DOWNLOAD}",
            URL,
            files=missing(RELEASE),
            url=problem,
        )
        for problem, said in (
            (urllib.error.URLError("no route to host"), "<urlopen error no route to host>"),
            (
                http.client.IncompleteRead(b"x", 9),
                "https://example.org/0.3.17.arm64.tgz: IncompleteRead(1 bytes read, 9 more "
                "expected)",
            ),
            (
                http.client.BadStatusLine("SSH-2.0-OpenSSH"),
                "https://example.org/0.3.17.arm64.tgz: SSH-2.0-OpenSSH",
            ),
        )
    ),
    Case(
        f"pi5: files/{RELEASE} could not be read or downloaded: https://example.org:https/: "
        "nonnumeric port: 'https'",
        {"all": {"chaos_cri_dockerd_url": "https://example.org:https/"}},
        files=missing(RELEASE),
    ),
    Case(
        f"pi5: files/{RELEASE}: the tarball's sha256 is "
        f"{sha256(b'<html>log in first</html>')}, not ",
        URL,
        files=missing(RELEASE),
        url=b"<html>log in first</html>",
    ),
    bad(
        "kubernetes_key",
        "files/Release.key",
        "pi5: chaos_kubernetes_key: {}/Release.key: there is no such file; save the apt "
        "repository's Release.key at this path",
    ),
    bad(
        "kubernetes_key",
        "files",
        "pi5: chaos_kubernetes_key: {}: that is a folder, not a file; save the apt repository's "
        "Release.key at this path",
    ),
    bad(
        "kubernetes_key",
        "files/Release.key",
        "pi5: chaos_kubernetes_key: {}/Release.key is not an OpenPGP public key: ",
        files=files({"Release.key": CAPTIVE.encode()}),
    ),
    bad(
        "kubernetes_key",
        "files/Release.key",
        "pi5: chaos_kubernetes_key: {}/Release.key expired on 2024-12-31; save the apt "
        "repository's Release.key at this path",
        files=files({"Release.key": SHORT.encode()}),
    ),
    bad(
        "kubeconfig",
        "files/admin.conf",
        "pi5: chaos_kubeconfig: {}/admin.conf: there is no such file; copy "
        "/etc/kubernetes/admin.conf from a controller to this path, and run chmod 600 on the copy",
    ),
    bad(
        "kubeconfig",
        "files",
        "pi5: chaos_kubeconfig: {}: that is a folder, not a file; copy "
        "/etc/kubernetes/admin.conf from a controller to this path",
    ),
    bad(
        "kubeconfig",
        "files/admin.conf",
        "pi5: chaos_kubeconfig is set, but this computer has no kubectl; install it as described "
        "at kubernetes.io/docs/tasks/tools, or do not set chaos_kubeconfig",
        files=files({"admin.conf": admin_conf("192.168.1.60")}),
    ),
    *(
        bad(
            "kubeconfig",
            "files/admin.conf",
            f"pi5: chaos_kubeconfig: {{}}/admin.conf is not a kubeconfig: {why}; copy "
            "/etc/kubernetes/admin.conf from a controller to this path",
            files=files({"admin.conf": content}),
        )
        for content, why in (
            (b"a: [", "it is not YAML"),
            (b"", "its current-context is missing, or has no cluster with a server"),
            (b"{}", "its current-context is missing, or has no cluster with a server"),
            (b"[1, 2]", "its current-context is missing, or has no cluster with a server"),
            (admin_conf("").replace(b":6443", b""), "its server is not an address"),
            (admin_conf("10.0.0.1").replace(b"6443", b"x"), "its server is not an address"),
        )
    ),
]

JOINED = {Joined: True, Standing: replace(NODE[Standing], joined=True)}
INSTALLED = {"docker.io": PackageState("20.10.24+dfsg1-1+deb12u1", True, True)}

JOINING: tuple[tuple[str, dict[Any, Any]], ...] = (
    (
        "the node has no kubelet; deploy the node first: pyinfra inventory.py deploy.py",
        {Membership: MembershipState()},
    ),
    (
        "the node has no /etc/kubernetes/chaos-engine/kubeadm-join.yaml; deploy the node "
        "first: pyinfra inventory.py deploy.py",
        {Membership: MembershipState(kubelet="1.36.2")},
    ),
    (
        "nothing accepts a connection at k8s:6443, the API's address; deploy the proxy, "
        "and look at: chaos_engine.deploys.verify --limit proxy",
        {ClusterApi: ApiState()},
    ),
    (
        "no API server is ready at k8s:6443 (silent); to create the cluster, run "
        "chaos_engine.deploys.init on one controller; if there is a cluster, look at: "
        "curl -k https://k8s:6443/readyz",
        {ClusterApi: ApiState("silent")},
    ),
    (
        "kubelet and kubeadm 1.36.2 cannot join a cluster of version 1.28.15; set "
        "chaos_kubernetes_version to a release of 1.28 and deploy the node, or upgrade the "
        "cluster first",
        {ClusterApi: ApiState("200", "1.28.15")},
    ),
    (
        "a controller has to make a bootstrap token, but the API server of none is ready "
        "(pi1, pi4, pi7)",
        {ApiServers: {"192.168.1.53": "silent"}},
    ),
    (
        "a controller has to make a bootstrap token, but none whose API server is ready is "
        "in the inventory (pi4); add one to inventory.py, or join the node by hand: "
        "/etc/kubernetes/chaos-engine/kubeadm-join.yaml says how",
        {},
    ),
)
"""What a node that cannot join is told."""

NODES = [
    node(
        "pyinfra does not run as root on the node; set _sudo = True in group_data/all.py",
        changed(root=False),
    ),
    node(
        "systemd does not run on the node; use a system that boots with systemd",
        changed(systemd=False),
    ),
    node(
        "its system, fedora, has no apt; use Ubuntu or Debian",
        changed(apt=False, system="fedora"),
    ),
    node(
        "the node's system is for armhf; install a 64-bit system (arm64 or amd64)",
        changed(architecture="armhf"),
    ),
    node("the node's system is for riscv64; install a 64-bit", changed(architecture="riscv64")),
    node(
        "/sys/fs/cgroup is tmpfs, not cgroup version 2; remove "
        "systemd.unified_cgroup_hierarchy=0 from the kernel's command line and reboot",
        changed(cgroup="tmpfs"),
    ),
    node(
        "its root file system is read-only, perhaps after errors on the card; look at dmesg, and "
        "check or replace the card",
        changed(read_only=True),
    ),
    node(
        "the kernel's command line has boot=overlay, so changes are lost at the next boot; turn "
        "off the overlay file system, for example with raspi-config",
        changed(overlay="boot=overlay"),
    ),
    node(
        "its root file system has only 199 MiB free, 200 are needed; remove files from that file "
        "system",
        changed(free_mib=199),
    ),
    node(
        "the log server's address 192.168.1.42 is this node's own; set chaos_log_server to the "
        "address of another machine",
        changed(addresses=("192.168.1.42",)),
    ),
    node(
        "/etc/rsyslog.conf includes all files in /etc/rsyslog.d, also /etc/rsyslog.d/"
        "container-output.rsyslog, which is for another rsyslogd; change the include to *.conf, "
        "and run again",
        {Content: {"/etc/rsyslog.conf": b"$IncludeConfig /etc/rsyslog.d/\n"}},
        settings={"all": {"chaos_log_containers": True}},
    ),
    node(
        "Docker's data folder '/mnt/my disk' has characters that rsyslog or systemd would read "
        "otherwise; move the folder to a path with only letters, digits and /._-, or remove "
        "chaos_log_containers for this node",
        {Content: {"/etc/docker/daemon.json": b'{"data-root": "/mnt/my disk"}'}},
        settings={"all": {"chaos_log_containers": True}},
    ),
    node(
        f"{CMDLINE}: the file has more than one line, but only the first line would be read; join "
        "the lines, or remove the wrong ones",
        boot("root=/dev/sda1\nquiet\n"),
    ),
    node(f"{CMDLINE}: the file is empty; restore the node's original command line", boot("\n")),
    node(f"{CMDLINE}: the file has no root=; restore the node's original", boot("quiet\n")),
    node(
        f"{CMDLINE}: the file has control characters; rewrite the line without them",
        boot("root=/dev/sda1 \0\n"),
    ),
    node(
        f"{CMDLINE}: this file says that the real file is elsewhere; find the real file",
        boot("DO NOT EDIT THIS FILE root=x\n"),
    ),
    node(
        f"{CMDLINE}: init=/usr/lib/raspberrypi-sys-mods/firstboot shows that the first boot has "
        "not finished; wait for its end",
        boot("root=/dev/sda1 init=/usr/lib/raspberrypi-sys-mods/firstboot\n"),
    ),
    node(
        f"{CMDLINE}: a double quote is not closed; close or remove it", boot('root=/dev/sda1 "x\n')
    ),
    node(
        f"{CMDLINE}: words after -- are for init; remove the -- and these words",
        boot("root=/dev/sda1 -- x\n"),
    ),
    node(
        f"{CMDLINE}: the command line would be too long for the kernel, whose limit is 2048 bytes; "
        "remove words from the file",
        boot(f"root=/dev/sda1 {'x' * 2048}\n"),
    ),
    node(
        f"{CMDLINE}: its file system (vfat) is mounted read-only, perhaps after an error; check "
        "the file system with fsck and mount it read-write",
        boot(read_only=True),
    ),
    node(
        f"{CMDLINE}: only 4096 bytes are free on its file system, but 65536 are needed; remove "
        "old kernels or files there",
        boot(free=4096),
    ),
    node(
        "the kernel has no memory controller, and the node has neither GRUB nor a cmdline.txt with "
        "root= in /boot/firmware or /boot; mount the boot partition",
        {KernelCmdline: replace(NODE[KernelCmdline], file=None)},
    ),
    node(
        "log2ram (tmpfs) is mounted on /var/log; unmount",
        {Mounts: (Mount("/var/log", "log2ram", "tmpfs", ("rw",), ("rw",), "/", "0:52", 2, 1),)},
    ),
    node(
        "line 7 of /etc/fstab would mount something else on /var/log; remove",
        {LogShares: LogShare(("line 7 of /etc/fstab",), "")},
    ),
    node(
        "removing snapd would also remove openssh-server, which the node needs; run apt-get "
        "-s remove NAME for each package in chaos_packages_absent to find the package that "
        "causes the removal, and delete that package from the setting",
        {RemovalPlan: Removal(("snapd",), ("snapd", "openssh-server"))},
    ),
    node(
        "snapd is to be removed, but snaps are installed: lxd; remove these with snap remove, or "
        "keep snapd: take it out of chaos_packages_absent",
        {RemovalPlan: Removal(("snapd",), ("snapd",), snaps=("lxd",))},
    ),
    node(
        "apt cannot remove snapd: E: broken packages. Fix apt on the node, or take these packages "
        "out of chaos_packages_absent",
        {RemovalPlan: Removal(("snapd",), (), error="E: broken packages.")},
    ),
    node(
        "apt would leave plymouth installed; to find the reason, run on the node: apt-get -s "
        "remove snapd plymouth",
        {RemovalPlan: Removal(("snapd", "plymouth"), ("snapd",))},
    ),
    node(
        "cloud-init is still setting the node up; wait for it (cloud-init status --wait) and run "
        "again",
        {CloudInit: CloudInitState(running=True)},
    ),
    node(
        "cloud-init is to be removed, but nothing else configures the network: there is no "
        "NetworkManager, no dhcpcd, and no file in /etc/netplan, /etc/network or "
        "/etc/systemd/network; write a file into one of these folders, or keep cloud-init: take "
        "it out of chaos_packages_absent",
        {CloudInit: CloudInitState()},
    ),
    node(
        "/etc/docker/daemon.json is not JSON: Expecting value: line 1 column 7 (char 6); fix it, "
        "or move it away to start anew",
        {Content: {"/etc/docker/daemon.json": b'{"a": '}},
    ),
    node(
        "/etc/docker/daemon.json is not a JSON object; fix it, or move it away to start anew",
        {Content: {"/etc/docker/daemon.json": b"[]"}},
    ),
    node(
        "/etc/docker/daemon.json: each value in log-opts has to be a string; fix it by hand",
        {Content: {"/etc/docker/daemon.json": b'{"log-opts": {"labels": 1}}'}},
    ),
    node(
        "Docker would not start: --log-driver in /etc/default/docker and log-driver in "
        "/etc/docker/daemon.json are the same option; remove the flag",
        {DockerService: Service({"--log-driver": "/etc/default/docker"})},
    ),
    node(
        "Docker would not start: -H in docker.io's docker.service and hosts in "
        "/etc/docker/daemon.json are the same option; remove hosts",
        {
            Content: {"/etc/docker/daemon.json": b'{"hosts": ["fd://"]}'},
            DockerService: Service({"-H": "docker.io's docker.service"}),
        },
    ),
    node(
        "/etc/docker/daemon.json sets userns-remap. With this option, containers on the host's "
        "network do not start, such as the containers of Kubernetes' control plane; remove "
        "userns-remap",
        {Content: {"/etc/docker/daemon.json": b'{"userns-remap": "default"}'}},
    ),
    node(
        "docker-ce is installed. docker.io would replace it, and stop its containers; drain the "
        "node and remove docker-ce first: apt-get remove docker-ce",
        {Packages: {"docker-ce": PackageState("5:28.0.1", False, True)}},
    ),
    node(
        "cri-dockerd 0.4.1 needs Docker 23 or newer",
        {Packages: INSTALLED},
        settings={
            "workers": {
                "chaos_cri_dockerd_version": "0.4.1",
            }
        },
        files=files({"cri-dockerd-0.4.1.arm64.tgz": b""}),
    ),
    node(
        "/etc/hosts has the line '# BEGIN chaos-engine' 1 times and '# END chaos-engine' 0 times, "
        "but it must have each line once, in this order. Remove all of these lines, and the lines "
        "with the nodes' addresses and names after the first one",
        {Content: {"/etc/hosts": b"# BEGIN chaos-engine\n"}},
    ),
    node(
        "/etc/apt/sources.list has apt sources for Kubernetes and for other repositories; remove "
        "the sources for Kubernetes from this file, because they belong in "
        "/etc/apt/sources.list.d/kubernetes.list",
        {KubernetesSources: (Source("/etc/apt/sources.list", False),)},
    ),
    node(
        "the node has joined a cluster, so kubelet 1.30.1 cannot be downgraded to 1.28.15; set "
        "chaos_kubernetes_version to 1.30.1 or later",
        {**JOINED, Packages: {"kubelet": PackageState("1.30.1-1.1", True, True)}},
    ),
    node(
        "the node has joined a cluster, but the version '2024.1' of its kubelet is no release of "
        "Kubernetes; install a release of kubelet on this node",
        {**JOINED, Packages: {"kubelet": PackageState("2024.1-1", True, True)}},
    ),
    node(
        "the node has joined a cluster, and kubelet 1.27.9 must not become 1.28.15 before all API "
        "servers have that minor version; upgrade the whole cluster with "
        "chaos_engine.deploys.upgrade, or set chaos_kubernetes_version to a release of 1.27",
        {**JOINED, Packages: {"kubelet": PackageState("1.27.9-1.1", True, True)}},
    ),
    node(
        "settings in /etc/systemd/journald.conf.d/90-chaos-engine.conf are overridden, because "
        "/etc/systemd/journald.conf.d/99-own.conf sets Storage=auto; remove the overriding "
        "settings and run again",
        {DropIns: (("/etc/systemd/journald.conf.d/99-own.conf", "Storage=auto"),)},
    ),
    node(
        "settings in /etc/systemd/system.conf.d/90-chaos-engine.conf are overridden, because "
        "/etc/systemd/system.conf.d/99-own.conf sets RuntimeWatchdogSec=1min; remove the "
        "overriding settings and run again",
        {WatchdogDropIns: ((f"{SYSTEM}/99-own.conf", "RuntimeWatchdogSec", "1min"),)},
        settings=WATCHDOG,
    ),
    node(
        "watchdog.service uses the hardware watchdog, which only one program can use; either "
        "disable watchdog.service (systemctl disable --now watchdog.service) and run again, or let "
        "watchdog.service keep the watchdog: set chaos_watchdog_seconds and "
        "chaos_watchdog_reboot_seconds to 0",
        {Units: running("watchdog.service")},
        settings=WATCHDOG,
    ),
    node(
        "this node lacks the program ping, which the check of the network link needs; install "
        "ping: apt-get install iputils-ping",
        {Watchdog: replace(NODE[Watchdog], ping=False)},
        settings=WATCHDOG,
    ),
    node(
        "the time servers cannot be set, because no time service runs on this node; install one, "
        "and run again: apt-get install systemd-timesyncd",
        {TimeServices: ()},
        settings=TIME,
    ),
    node(
        "the time servers cannot be set, because ntpsec.service sets this node's clock; either set "
        "them in its own configuration, and not here, or replace it: apt-get install "
        "systemd-timesyncd",
        {TimeServices: ("ntpsec.service",)},
        settings=TIME,
    ),
    node(
        "the time servers in /etc/systemd/timesyncd.conf.d/90-chaos-engine-servers.conf are "
        "overridden, because /etc/systemd/timesyncd.conf.d/99-own.conf sets NTP= to nothing; "
        "remove this line and run again",
        {
            ServerSettings: TimeSources(
                reset_by="/etc/systemd/timesyncd.conf.d/99-own.conf", chrony_reads=False, strict=""
            )
        },
        settings=TIME,
    ),
    node(
        "/etc/chrony/chrony.conf does not read /etc/chrony/conf.d, which the time servers are "
        "written to; add the line: confdir /etc/chrony/conf.d",
        {
            TimeServices: ("chrony.service",),
            ServerSettings: TimeSources(reset_by="", chrony_reads=False, strict=""),
        },
        settings=TIME,
    ),
    node(
        "chrony may refuse the time servers, because of authselectmode require in "
        "/etc/chrony/chrony.conf; remove this line and run again",
        {
            TimeServices: ("chrony.service",),
            ServerSettings: TimeSources(
                reset_by="",
                chrony_reads=True,
                strict="authselectmode require in /etc/chrony/chrony.conf",
            ),
        },
        settings=TIME,
    ),
    node(
        "settings of /etc/systemd/timesyncd.conf.d are overridden, because "
        "/etc/systemd/timesyncd.conf.d/99-own.conf sets SaveIntervalSec=10; remove the overriding "
        "settings and run again",
        {
            TimedWriters: WriterState(
                {"systemd-timesyncd.service": True},
                (
                    DropInSetting(
                        "/etc/systemd/timesyncd.conf.d/99-own.conf",
                        "timesyncd.conf",
                        "SaveIntervalSec=10",
                    ),
                ),
            )
        },
        settings={"all": {"chaos_quiet_clock": True}},
    ),
    node(
        "settings of /etc/systemd/system/apt-daily.timer.d are overridden, because "
        "/etc/systemd/system/apt-daily.timer.d/override.conf sets OnCalendar=daily; remove the "
        "overriding settings and run again",
        {
            TimedWriters: WriterState(
                {"apt-daily.timer": True},
                (
                    DropInSetting(
                        "/etc/systemd/system/apt-daily.timer.d/override.conf",
                        "apt-daily.timer",
                        "OnCalendar=daily",
                    ),
                ),
            )
        },
        settings={"all": {"chaos_quiet_apt_timers": "weekly"}},
    ),
    node(
        "/etc/fstab has no entry for /, so its mount options would not outlast a reboot; add an "
        "entry, and run again",
        {DockerDisk: disk(fstab="proc /proc proc defaults 0 0\n# / is not here\n")},
        settings=SPARED,
    ),
    node(
        "/etc/fstab has several entries for /, in lines 1 and 3; keep one",
        {DockerDisk: disk(fstab="/dev/a / ext4 defaults\n\n/dev/b / ext4 defaults\n")},
        settings=SPARED,
    ),
    node(
        "/etc/fstab: line 1 ends with a carriage return, which systemd reads as part of the line; "
        "remove the carriage return",
        {DockerDisk: disk(fstab="/dev/a / ext4 defaults\r\n")},
        settings=SPARED,
    ),
    node(
        "/etc/fstab: line 2 has no type, so mount(8) skips the line; add the type and the options",
        {DockerDisk: disk(fstab="# mine\nLABEL=root /\n")},
        settings=SPARED,
    ),
    node(
        "/, which holds Docker's data, is mounted read-only; look for the reason in the kernel's "
        "messages (dmesg), check the disk, and mount / again",
        {DockerDisk: disk(mount="24 1 179:2 / / rw,relatime - ext4 /dev/root ro")},
        settings=SPARED,
    ),
    node(
        "the ext4 on / has no journal, and the kernel does not mount such a file system with "
        "commit=; remove chaos_container_logs_commit for this node",
        {DockerDisk: disk(commit=None)},
        settings=SPARED,
    ),
    node(
        "eth0: there is no such network interface; set chaos_parent_interface to the LAN's "
        "interface",
        {Interface: None},
    ),
    node(
        "eth0 is down, or has no cable; connect the cable and bring eth0 up, or set "
        "chaos_parent_interface to the LAN's interface",
        parent(up=False),
    ),
    node(
        "eth0 is wireless: access points drop the frames of a second MAC address; connect the node "
        "by cable and set chaos_parent_interface to the wired interface",
        parent(wireless=True),
    ),
    node(
        "eth0 is a port of br0, so a macvlan link on eth0 gets no frames; set "
        "chaos_parent_interface to br0",
        parent(master="br0"),
    ),
    node(
        "the node already has an interface lb-hairpin, which is not a macvlan link; choose another "
        "chaos_hairpin_link, or remove that interface",
        {Interface: lambda interface: NODE[Interface]("eth0")},
    ),
    node(
        "192.168.1.60 belongs to the machine with the MAC address aa:bb:cc:dd:ee:ff; choose "
        "another chaos_vip, outside of the router's DHCP range",
        {AddressOwners: {"192.168.1.60": "aa:bb:cc:dd:ee:ff"}},
    ),
    node(
        "192.168.1.55 and 192.168.1.56 were proxies until now, still run as proxies, and would "
        "take the API's address too. Before they leave the group proxy of the inventory",
        {RunningPeers: ("192.168.1.55", "192.168.1.56")},
        inventory=TWO_PROXIES,
    ),
    node(
        "the VRRP router 192.168.1.9 on the LAN of eth0 uses the number 60 already; choose another "
        "chaos_vrrp_id, the same for all proxies",
        {OtherRouter: "192.168.1.9"},
        inventory=TWO_PROXIES,
    ),
    node(
        "192.168.1.53 was a proxy until now, still runs as a proxy, and would take the API's "
        "address too. Before it leaves the group proxy of the inventory, undo the concerns haproxy "
        "and vrrp on each former proxy, or run on each former proxy: systemctl disable --now "
        "docker_haproxy haproxy_vrrp.service",
        {RunningPeers: ("192.168.1.53",)},
    ),
    node(
        "192.168.1.222 belongs to the machine with the MAC address aa:bb:cc:dd:ee:ff; choose "
        "another chaos_hairpin_address, outside of the router's DHCP range",
        {AddressOwners: {"192.168.1.222": "aa:bb:cc:dd:ee:ff"}},
    ),
    node(
        "other",
        {
            DockerNetworks: {
                "other": DockerNetwork("macvlan", "eth0", "bridge", ("192.168.1.0/24",))
            }
        },
    ),
    updates(
        "apt cannot read its sources and package lists: Malformed entry 1 in list file "
        "/etc/apt/sources.list (URI). Fix what apt says on the node, and run again",
        error="Malformed entry 1 in list file /etc/apt/sources.list (URI)",
    ),
    updates(
        "the node's security updates are not known, because apt says: Failed to fetch "
        "http://deb.debian.org/debian-security/dists/trixie-security/InRelease Could not resolve "
        "'deb.debian.org'. Fix the node's network, its clock or its apt sources, and run again",
        said=(
            "Failed to fetch http://deb.debian.org/debian-security/dists/trixie-security/InRelease"
            " Could not resolve 'deb.debian.org'",
            "Failed to fetch http://other/dists/x/InRelease Could not resolve 'other'",
        ),
    ),
    updates(
        "none of apt's sources has security updates of Debian or Ubuntu. Add the distribution's "
        "security source to the files in /etc/apt",
        pockets=(),
    ),
    updates(
        "the security updates need 1051 MiB on /, but only 1000 MiB are free. Make room",
        needs=1001,
    ),
    *(node(says, answers, deploy=JOIN) for says, answers in JOINING),
    *(
        node(says, {**NO_CLUSTER, **answers}, inventory='workers = ["pi1"]\n', deploy=INIT)
        for says, answers in (
            (
                "the node has no /etc/kubernetes/chaos-engine/kubeadm-init.yaml; deploy the node "
                "first, as one of the controllers: pyinfra inventory.py deploy.py",
                {Membership: replace(READY_TO_JOIN, init=False)},
            ),
            (
                "there is a cluster, because an API server answers: pi7 (200); have this node join "
                "it: pyinfra inventory.py chaos_engine.deploys.join --limit pi1",
                {ApiServers: {"192.168.1.53": "absent", "192.168.1.56": "200"}},
            ),
            (
                "there is a cluster, because an API server answers: k8s:6443 (200)",
                {ClusterApi: ApiState("200", "1.36.2")},
            ),
            (
                "nothing accepts a connection at k8s:6443, the API's address, so kubeadm init "
                "would fail; deploy the proxy first; without a proxy, run this on the node that "
                "has k8s",
                {ClusterApi: ApiState()},
            ),
            (
                "etcd has the data of a cluster, 212 keys below /registry/; if the cluster lives, "
                "start its controllers; if nobody needs it any more, remove its data on one of the "
                "etcd servers: etcdctl del --prefix /registry/",
                {EtcdKeys: 212},
            ),
            (
                "an earlier kubeadm init did not finish on this node; to begin anew, run kubeadm "
                "reset -f --cri-socket unix:///run/cri-dockerd.sock on it, and, if no other "
                "cluster uses this etcd, etcdctl del --prefix /registry/ on one of its servers",
                {Membership: replace(READY_TO_JOIN, joined=True, unfinished="init")},
            ),
        )
    ),
    node(
        "Mounts: no answer in 20 s; check the node's load",
        {Mounts: NodeError("Mounts: no answer in 20 s; check the node's load")},
    ),
]

CASES = {
    f"{table} {number}": case
    for table, cases in {
        "setting": SETTINGS,
        "inventory": INVENTORY,
        "file": FILES,
        "node": NODES,
    }.items()
    for number, case in enumerate(cases)
}


WARNED = {
    "two proxies": Case(
        "Proxy | VRRP | Choose the owner of the API's address", inventory=TWO_PROXIES
    ),
    "one of two proxies": Case(
        "Proxy | VRRP | Choose the owner of the API's address",
        inventory=TWO_PROXIES,
        arguments=("--limit", "pi5"),
    ),
    "": Case("Warning: Kubernetes 1.28.15 gets no more security fixes"),
    "one server": Case(
        "Warning: etcd1 is the only server of the Gluster volume pi5: while that server is away, "
        "logs stay in RAM; add another server to chaos_storage_servers",
        {"all": {"chaos_storage_servers": {"etcd1": "192.168.1.40"}}},
    ),
    "one server in the table": Case(
        "Warning: etcd2 is the only server of the Gluster volume logs: while that server is "
        "away, logs stay in RAM; add another server to chaos_log_volumes",
        {"all": {"chaos_log_volumes": {"pi5": {"volume": "logs", "servers": ["etcd2"]}}}},
    ),
}
"""What is no mistake, but worth a warning; "" is the site as it is shipped."""


def run(name: str, folder: Path) -> Done:
    """pyinfra's run in a site with a mistake, or its preview in one that is warned of."""
    case = WARNED[name] if name in WARNED else CASES[name]
    site = Site(folder, case.inventory)
    files({CRT: GOOD_PAIR.certificate, KEY: GOOD_PAIR.private(), AUTHORITY: CA.certificate})(folder)
    release(TARBALL)(folder)
    for group, values in case.settings.items():
        site.set(group, values)
    if case.files is not None:
        case.files(folder)

    def urlopen(url: str, timeout: int) -> io.BytesIO:
        if isinstance(case.url, BaseException):
            raise case.url
        return io.BytesIO(case.url or b"")

    def guarded(read: Any) -> Any:
        def guard(path: Path, *args: Any, **kwargs: Any) -> Any:
            if path.name == case.unreadable:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return read(path, *args, **kwargs)

        return guard

    def answer(name: str, read: Read) -> Any:
        own = {Node: replace(GOOD, hostname=name, boot_id=name, machine_id=name, addresses=())}
        value = {**NODE, **own, **case.answers}[read.fact]
        given = dict(read.arguments)
        if read.fact is Content and isinstance(value, dict):
            return value.get(given["path"])
        return value(**given) if callable(value) else value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "which", lambda program: None)
        if case.url is not None:
            patch.setattr(urllib.request, "urlopen", urlopen)
        if case.unreadable:  # whoever runs the tests may be root, who may read all
            patch.setattr(Path, "open", guarded(Path.open))
        how = ("--dry" if name in WARNED else "-y", *case.arguments)
        return site.run("inventory.py", case.deploy, *how, answer=answer)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """Calls `run`."""
    runner = Runner(run)
    yield runner
    runner.stop()


@pytest.mark.parametrize("name", WARNED)
def test_a_site_without_a_mistake_is_deployed(name: str, runner: Runner, tmp_path: Path) -> None:
    # Otherwise the mistakes would not be what is told of
    done = runner(name, tmp_path / "site")
    assert (done.status, done.sent) == (0, []), done.text
    assert WARNED[name].says in done.said
    assert "Refuse" not in done.said
    hosts = "2 (pi4, pi5)" if name == "two proxies" else "1 (pi5)"
    assert f"Worker | Kernel | Edit the kernel's command line {hosts}" in done.said
    assert f"Proxy | HAProxy | Run HAProxy {hosts}" in done.said


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_told_and_changes_nothing(name: str, runner: Runner, tmp_path: Path) -> None:
    case = CASES[name]
    done = runner(name, tmp_path / "site")
    assert case.says.replace("{}", f"{tmp_path}/site/files") in done.said
    if case.says.startswith("pi5, ") and " is no setting" not in case.says:
        assert f"{case.says}; wanted: " in done.said
    if case.answers:  # a node's state: the host is named beside the reason
        lines = [line.strip() for line in done.text.splitlines()]
        assert any(line.startswith("[pi") and case.says in line for line in lines)
    assert "Traceback" not in done.text
    assert done.status != 0
    assert len({host for host, _ in done.sent}) == case.others
    assert "MARKED" not in done.text


def test_there_is_bad_input_of_every_setting() -> None:
    settings = {PREFIX + name for model in all_models() for name in model.model_fields}
    assert settings == {case.key for case in CASES.values() if case.key}


def test_there_are_as_many_as_were_wanted() -> None:
    assert len(CASES) >= 60
