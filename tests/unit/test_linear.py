"""What is read of a node or a file takes time in proportion to its size.

Four times as much may take four times as long; quadratic code takes sixteen times as long. The
limit lies between, the time is this process's own, and the best of several tries counts, so that a
busy machine does not fail it.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from chaos_engine.facts import fstab
from chaos_engine.facts.apt import Installed
from chaos_engine.facts.apt_sources import entries
from chaos_engine.facts.cloud_init import SERVICES, CloudInit
from chaos_engine.facts.docker import DockerNetwork, DockerNetworks
from chaos_engine.facts.docker_service import parse_service
from chaos_engine.facts.files import parse_files
from chaos_engine.facts.hosts import entries as hosts
from chaos_engine.facts.journald import FOLDERS, KERNEL, DropIns
from chaos_engine.facts.kernel import RECORD, BootFiles, BootFilesState, KernelCmdline, split_words
from chaos_engine.facts.kubernetes import parse_source
from chaos_engine.facts.macvlan import MacvlanLink, MacvlanLinks
from chaos_engine.facts.manifest import Manifest
from chaos_engine.facts.mounts import mounted_at, parse_mounts
from chaos_engine.facts.observe.batch import split
from chaos_engine.facts.openpgp import dearmor, parse_keys, parse_signers
from chaos_engine.facts.packages import Simulation
from chaos_engine.facts.rsyslog import main_problem
from chaos_engine.facts.swap import parse_areas, parse_noted
from chaos_engine.facts.sysctl import Sysctls
from chaos_engine.facts.systemd import UnitProperties, parse_properties
from chaos_engine.facts.text import unescaped
from chaos_engine.facts.unit_traces import Traces
from chaos_engine.operations import hosts_file
from chaos_engine.operations.docker import daemon_json
from chaos_engine.operations.haproxy.container import Proxy, container_conflict, predecessors
from chaos_engine.operations.journald import overrides
from chaos_engine.operations.kernel import cmdline
from chaos_engine.operations.macvlan_network.commands import Macvlan, network_conflict
from chaos_engine.operations.macvlan_network.hairpin import link_problems
from chaos_engine.operations.rolling.kubectl import error_lines, parse_nodes
from chaos_engine.operations.swap import without_swap
from chaos_engine.operations.undo import concerns as undo

MORE = 4
LIMIT = 10.0
ENOUGH = 0.008
"""Seconds of work from which on a comparison is one."""
LARGEST = 64_000

VIP = IPv4Address("192.168.1.60")
MAC = "02:42:ac:8f:4c:ff"
PROXY = Proxy("haproxy:3.0", "lb-network", "eth0", VIP, MAC)
MACVLAN = Macvlan(
    "lb-network",
    "eth0",
    IPv4Network("192.168.1.0/24"),
    IPv4Address("192.168.1.1"),
    VIP,
    IPv4Address("192.168.1.222"),
)


def text64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def networks(n: int) -> list[str]:
    """A network with n containers that run, and n that do not."""
    containers = {
        f"{i:064x}": {
            "Name": f"c{i}",
            "IPv4Address": f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}/8",
            "MacAddress": "02:42:00:00:00:01",
        }
        for i in range(n)
    }
    one = {"Name": "lb-network", "Driver": "macvlan", "Containers": containers}
    both: dict[str, object] = {"lb-network": {}, "other": {}}
    listed = [
        {"Names": [f"/{state}{i}"], "NetworkSettings": {"Networks": both}}
        for state in "cs"
        for i in range(n)
    ]
    return [json.dumps(one), json.dumps(listed)]


def many_networks(n: int) -> list[str]:
    """n networks, and a container that is on all of them."""
    names = [f"net{i}" for i in range(n)]
    return [
        *(json.dumps({"Name": name, "Driver": "bridge"}) for name in names),
        json.dumps(
            [{"Names": ["/c"], "NetworkSettings": {"Networks": {name: {} for name in names}}}]
        ),
    ]


def macvlan_links(n: int) -> list[str]:
    links = [
        {
            "ifname": f"m{i}",
            "link": "eth0",
            "flags": ["UP"],
            "address": MAC,
            "linkinfo": {"info_kind": "macvlan", "info_data": {"mode": "bridge"}},
            "addr_info": [{"family": "inet", "local": "10.0.0.1", "prefixlen": 32}],
        }
        for i in range(n)
    ]
    routes = [{"dst": f"10.0.{i >> 8 & 255}.{i & 255}", "dev": f"m{i}"} for i in range(n)]
    ignore = [f"/proc/sys/net/ipv4/conf/m{i}/arp_ignore:1" for i in range(n)]
    return [*map(json.dumps, (links, routes)), *ignore]


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 255]) + len(body).to_bytes(4, "big") + body


KEY = packet(6, b"\4" + bytes(20))
SUBKEY = packet(14, b"\4" + bytes(20))


def signature(subpackets: bytes, version: int = 6) -> bytes:
    """A signature with unhashed subpackets."""
    wide = 4 if version == 6 else 2
    size = len(subpackets).to_bytes(wide, "big")
    return packet(2, bytes([version, 0x13, 1, 8]) + bytes(wide) + size + subpackets + bytes(8))


def armoured(n: int) -> bytes:
    lines = b"A" * 64 + b"\n"
    head, end = (f"-----{word} PGP PUBLIC KEY BLOCK-----\n".encode() for word in ("BEGIN", "END"))
    return head + b"\n" + lines * n + end


def manifest(n: int) -> list[str]:
    return [
        "there",
        *(f"line docker\tfile\tcreated\t/etc/{i}\t." for i in range(n)),
        *(f"line docker\twrote\t-\t{'a' * 64} /etc/{i}\t." for i in range(n)),
        *(f"state wff 644 root root 1 /etc/{i}" for i in range(n)),
        *(f"state {'a' * 64}  /etc/{i}" for i in range(n)),
        *(f"text {text64('x')} /etc/{i}" for i in range(n)),
    ]


def units(n: int) -> list[str]:
    block = ["Id=a", "LoadState=loaded", "ActiveState=active", "ExecStart=a", "ExecStart=b"]
    return [
        *(f"unit u{i}.service" for i in range(n)),
        *(line for _ in range(n) for line in (*block, "MainPID=1", "")),
    ]


def boot_files(n: int) -> list[str]:
    values = ("file place /boot/{}", "stat 644 root root", "free 1 1", "text yes eA==")
    return [value.format(i) for i in range(n) for value in values]


def kernel(n: int) -> dict[str, bytes | None]:
    return {
        "/proc/cmdline": b" ".join(b"word%d=1" % i for i in range(n)),
        "/proc/sys/kernel/random/boot_id": b"b",
        "/proc/self/mountinfo": b"",
        RECORD: b"".join(b"what%d boot\n" % i for i in range(n)),
    }


def answers(n: int) -> list[str]:
    nonce = "d0e1"
    out = f"{nonce}\n" + "".join(f"x\n\n{nonce} 0\n" for _ in range(n))
    return [text64(out), text64(f"\n{nonce}\n" * n)]


def network(n: int) -> DockerNetwork:
    names = [f"c{i}" for i in range(n)]
    addresses = dict.fromkeys(names, str(VIP))
    return DockerNetwork(
        "macvlan", "eth0", "bridge", (), containers=addresses, macs=dict.fromkeys(names, MAC)
    )


def links(n: int) -> dict[str, MacvlanLink]:
    one = MacvlanLink("eth0", "bridge", True, MAC, ("10.0.0.1/32",), {}, 1)
    return {f"m{i}": one for i in range(n)}


def on(function: Callable[..., Any], make: Callable[[int], Any]) -> Callable[[int], Any]:
    """What makes an input of a size, and returns the function that reads it."""

    def prepare(n: int) -> Callable[[], Any]:
        made = make(n)
        return lambda: function(made)

    return prepare


WORDS = ("cgroup_enable=memory", "cgroup_memory=1")
CASES: dict[str, Callable[[int], Callable[[], Any]]] = {
    "containers of a network": on(DockerNetworks().parse, networks),
    "networks of a container": on(DockerNetworks().parse, many_networks),
    "macvlan links": on(MacvlanLinks().parse, macvlan_links),
    "subkeys": on(parse_keys, lambda n: KEY + SUBKEY * n),
    "keys": on(parse_keys, lambda n: KEY * n),
    "small packets": on(parse_keys, lambda n: KEY + b"\xcd\x01x" * n),
    "signatures": on(parse_signers, lambda n: signature(b"\x09\x10" + bytes(8)) * n),
    "subpackets": on(parse_signers, lambda n: signature(b"\x02\x02\x00" * n)),
    "armour": on(dearmor, armoured),
    "files": on(
        parse_files,
        lambda n: [
            *(f"wff 644 root root 1 /etc/{i}" for i in range(n)),
            *(f"{'a' * 64}  /etc/{i}" for i in range(n)),
        ],
    ),
    "manifest": on(Manifest().parse, manifest),
    "mounts": on(
        parse_mounts,
        lambda n: "".join(
            f"{i} 1 0:{i} / /m/{i} rw{',x' * 10} shared:1 - ext4 s rw\n" for i in range(n)
        ),
    ),
    "mounts on one another": on(
        lambda mounts: mounted_at(mounts, "/m"),
        lambda n: parse_mounts(
            "".join(f"{i} {i - 1} 0:1 / /m rw - ext4 s rw\n" for i in range(1, n))
        ),
    ),
    "packages": on(
        Installed().parse, lambda n: [f"p{i} install installed ok all 1.0-1" for i in range(n)]
    ),
    "removals": on(
        Simulation().parse,
        lambda n: [f"{key} p{i} [1]" for key in ("Remv", "snap") for i in range(n)],
    ),
    "cloud-init": on(
        lambda lines: CloudInit().compose(
            lines, {}, {}, {name: {"ActiveState": ""} for name in SERVICES}
        ),
        lambda n: tuple(f"network /etc/{i}" for i in range(n)),
    ),
    "flags": on(
        lambda unit: parse_service(unit, [], "", ()),
        lambda n: {
            "LoadState": "loaded",
            "ExecStart": f"{{ argv[]=dockerd {'--a=b ' * n} ; ignore_errors=no }}",
        },
    ),
    "variables of Docker's unit": on(
        lambda made: parse_service(made[0], [], made[1], ()),
        lambda n: (
            {
                "LoadState": "loaded",
                "Environment": " ".join(f"V{i}=--x{i}" for i in range(n)),
                "ExecStart": f"argv[]=dockerd {' '.join(f'$V{i}' for i in range(n))} "
                "; ignore_errors=",
            },
            "".join(f"V{i}=--y{i}\n" for i in range(n)),
        ),
    ),
    "journald's drop-ins": on(
        lambda text: DropIns().compose({f"{FOLDERS[0]}/1.conf": text, KERNEL: b"\n"}),
        lambda n: b"[Journal]\n" + b"Storage=volatile\n" * n,
    ),
    "overridden settings": on(
        lambda found: overrides("/etc/50.conf", "[Journal]\nStorage=volatile\n", found),
        lambda n: [(f"/etc/9{i}.conf", "Storage=auto") for i in range(n)],
    ),
    "boot files": on(BootFiles().parse, boot_files),
    "kernel's command line": on(
        lambda texts: KernelCmdline().compose(BootFilesState((), False), texts), kernel
    ),
    "words": on(split_words, lambda n: 'a="b c" ' * n),
    "quotes": on(split_words, lambda n: '"' * n),
    "apt's list": on(
        lambda text: parse_source("/a.list", text),
        lambda n: "deb https://pkgs.k8s.io/core:/stable:/v1.36/deb/ /\n" * n,
    ),
    "apt's sources": on(
        lambda text: parse_source("/a.sources", text),
        lambda n: "Types: deb\nURIs: https://pkgs.k8s.io/core:/\n \n\n" * n,
    ),
    "empty lines of apt's sources": on(
        lambda text: parse_source("/a.sources", text), lambda n: "\n" * n + "x"
    ),
    "areas of swap": on(
        parse_areas, lambda n: "Filename\n" + "".join(f"/dev/{i} file 1 0\n" for i in range(n))
    ),
    "areas that were noted": on(
        parse_noted, lambda n: "".join(f"swap\tswap\t1\t/dev/{i}\t.\n" for i in range(n))
    ),
    "sources of apt, one line": on(
        lambda text: list(entries("a.list", text)), lambda n: "deb https://a.io /\n" * n
    ),
    "names": on(lambda data: list(hosts(data)), lambda n: b"10.0.0.1 a\n" * n),
    "entries of fstab": on(lambda text: list(fstab.entries(text)), lambda n: "a /b c\n" * n),
    "fstab": on(without_swap, lambda n: "/dev/sda1 none swap sw 0 0\n" * n),
    "kernel parameters": on(
        lambda text: Sysctls().compose({"/etc/sysctl.d/1.conf": text}, names=("net.a1",)),
        lambda n: b"".join(b"net.a%d = 1\n" % i for i in range(n)),
    ),
    "units": on(UnitProperties().parse, units),
    "lines of a command": on(parse_properties, lambda n: ["ExecStart=a", *["b"] * n]),
    "escapes": on(unescaped, lambda n: "\\040a" * n),
    "traces": on(
        Traces().parse,
        lambda n: [
            *(f"unit u{i}.service" for i in range(n)),
            *(f"link /etc/systemd/system/a.wants/u{i}.service ../u" for i in range(n)),
        ],
    ),
    "rsyslog's lines": on(main_problem, lambda n: "module(load=imuxsock)\n" * n),
    "rsyslog's long line": on(main_problem, lambda n: f"{'omfile ' * n}\n$IncludeConfig /etc/x"),
    "rsyslog's long selector": on(
        main_problem, lambda n: f"{'a.' * n}\n$IncludeConfig /etc/rsyslog.d/*"
    ),
    "rsyslog's long action": on(
        main_problem, lambda n: f"{'omfile ' * n}\n$IncludeConfig /etc/rsyslog.d/*"
    ),
    "answers": on(split, answers),
    "hosts": on(
        lambda data: hosts_file.edit(data, {"pi1": "10.0.0.1"}),
        lambda n: b"10.0.0.2 other\n" * n + b"# BEGIN chaos-engine\n# END chaos-engine\n",
    ),
    "conflicts in hosts": on(
        lambda data: list(hosts_file.conflicts(data, {"pi1": "10.0.0.1"})),
        lambda n: b"10.0.0.2 pi1\n" * n,
    ),
    "edited command line": on(
        lambda text: cmdline.edit("/c", text, WORDS),
        lambda n: f"root=/dev/sda {' '.join(WORDS)} {'a ' * n}cgroup_disable=cpu\n",
    ),
    "remarks on a command line": on(
        lambda text: cmdline.warnings("/c", text, WORDS), lambda n: "cgroup_memory=1` " * n
    ),
    "daemon.json": on(
        lambda data: daemon_json.merge(data, daemon_json.Options("10m", 3)),
        lambda n: json.dumps(
            {"exec-opts": [f"a{i}" for i in range(n)], **{f"k{i}": 1 for i in range(n)}}
        ).encode(),
    ),
    "flags of daemon.json": on(
        lambda names: daemon_json.conflicts(names, {f"--{name}": "docker" for name in names}),
        lambda n: {f"k{i}": 1 for i in range(n)},
    ),
    "proxies": on(lambda found: container_conflict(PROXY, found), network),
    "predecessors": on(lambda found: predecessors(PROXY, found), network),
    "networks in the way": on(
        lambda found: network_conflict(MACVLAN, found, "26.1"),
        lambda n: {f"n{i}": DockerNetwork("bridge", "", "", ("10.0.0.0/24",)) for i in range(n)},
    ),
    "hairpin": on(
        lambda found: link_problems(
            found, None, "lb-hairpin", "eth0", IPv4Address("192.168.1.222"), VIP
        ),
        links,
    ),
    "undo": on(
        lambda found: undo.changes(found, "docker"), lambda n: Manifest().parse(manifest(n))
    ),
    "nodes": on(
        parse_nodes,
        lambda n: json.dumps(
            {"items": [{"metadata": {"name": f"n{i}"}, "status": {}, "spec": {}} for i in range(n)]}
        ),
    ),
    "kubectl's errors": on(error_lines, lambda n: ["".join(f"error {i}\n" for i in range(n))]),
}


def seconds(work: Callable[[], object], tries: int) -> float:
    """Measure the time of this process, for the best of some tries."""
    best = float("inf")
    for _ in range(tries):
        begin = time.process_time()
        with suppress(ValueError):  # to refuse it takes no longer either
            work()
        best = min(best, time.process_time() - begin)
    return best


@pytest.mark.parametrize("name", CASES)
def test_four_times_as_much_takes_some_four_times_as_long(name: str) -> None:
    n, small = 250, 0.0
    while (large := seconds(CASES[name](MORE * n), 1)) < ENOUGH and n < LARGEST:
        n, small = MORE * n, large
    for _ in range(5):
        if large < max(LIMIT * small, ENOUGH):
            return
        small, large = (seconds(CASES[name](count), 3) for count in (n, MORE * n))
    # A step is no growth: from some size on memory costs more, as that which malloc(3) maps
    if seconds(CASES[name](MORE * MORE * n), 1) < LIMIT * large:
        return
    pytest.fail(f"{n}: {small:.3f} s, {MORE * n}: {large:.3f} s")
