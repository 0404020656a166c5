"""Values with spaces, quotes, ``$()``, newlines, leading dashes and the like break nothing and run
nothing: in the scripts of every operation, in units, and in what templates are rendered to.

Each operation is called with arguments of which one text is hostile. Either it refuses the call
with a message, before anything is read or changed, or its script runs in a shell in which every
program only notes its arguments: each has to get the whole value as one word, not as an option,
and no command that is written in the value may have run.
"""

from __future__ import annotations

import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from importlib.resources import files
from inspect import signature
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from shutil import which
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from jinja2.meta import find_undeclared_variables
from pydantic import BaseModel
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.exceptions import OperationValueError

from chaos_engine import operations, templates
from chaos_engine.deploys.kubernetes import KubernetesSettings, configuration
from chaos_engine.facts.api_servers import ApiServers, ApiVersions
from chaos_engine.facts.apt import Interrupted, Packages
from chaos_engine.facts.clock import ServerSettings, TimeServices, TimeSources
from chaos_engine.facts.cloud_init import CloudInit, CloudInitState
from chaos_engine.facts.container_logs import DataDisk, DockerDisk
from chaos_engine.facts.containers import Container, Image
from chaos_engine.facts.cri_dockerd import CriDockerdVersion
from chaos_engine.facts.docker import DockerInfo, DockerNetwork, DockerNetworks
from chaos_engine.facts.docker_service import DockerService, Service
from chaos_engine.facts.etcd import EtcdVersions
from chaos_engine.facts.files import Content, Files, Present
from chaos_engine.facts.haproxy import CopyState, LoadedConfig, SharedCopy
from chaos_engine.facts.hosts import OwnName
from chaos_engine.facts.journald import DropIns
from chaos_engine.facts.kernel import BootFile, Cmdline, KernelCmdline
from chaos_engine.facts.kubernetes import (
    ControlPlane,
    ControlPlaneState,
    Joined,
    KubeletConfiguration,
    KubeletReplaced,
    KubernetesSources,
    RepositorySigners,
)
from chaos_engine.facts.log_mount import LogShare, LogShares
from chaos_engine.facts.macvlan import MacvlanLinks
from chaos_engine.facts.manifest import Entry, Manifest, Remembered
from chaos_engine.facts.membership import (
    ApiState,
    ClusterApi,
    EtcdKeys,
    Membership,
    MembershipState,
)
from chaos_engine.facts.mounts import Answers, Mounts, parse_mounts
from chaos_engine.facts.network import AddressOwners, Interface, InterfaceState
from chaos_engine.facts.node import AsRoot, Node
from chaos_engine.facts.observe import HostAnswers, Read, of_host
from chaos_engine.facts.observe.batch import script
from chaos_engine.facts.packages import Removal, RemovalPlan
from chaos_engine.facts.quiet import UNIT_NAMES, TimedWriters, WriterState
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.rsyslog import Snippets
from chaos_engine.facts.standing import NOTE, Standing, StandingState
from chaos_engine.facts.swap import SwapArea, Swaps, SwapState
from chaos_engine.facts.sysctl import KernelModules, Sysctl, Sysctls
from chaos_engine.facts.systemd import Units, UnitState
from chaos_engine.facts.unit_traces import Traces
from chaos_engine.facts.updates import (
    RebootNeed,
    RebootNeedState,
    SecurityUpdates,
    Update,
    Updates,
)
from chaos_engine.facts.vrrp import OtherRouter, RunningPeers
from chaos_engine.facts.watchdog import Watchdog, WatchdogDropIns, WatchdogState
from chaos_engine.operations.docker.daemon_json import Options
from chaos_engine.operations.engine.arguments import (
    Form,
    HostName,
    is_valid,
)
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.haproxy import container as haproxy_operations
from chaos_engine.operations.kubernetes.upgrade import Target
from chaos_engine.operations.macvlan_network.commands import Macvlan
from chaos_engine.operations.macvlan_network.network import recreate
from chaos_engine.operations.rolling.cordon import Rolling, note
from chaos_engine.operations.rolling.kubectl import ClusterNode, Kubectl
from chaos_engine.operations.undo import concerns as undo
from tests.unit.models import all_models
from tests.unit.nodes import Connector, Nodes
from tests.unit.scripts import Sandbox
from tests.unit.test_preflight import GOOD

VIP, HAIRPIN = IPv4Address("192.168.1.60"), IPv4Address("192.168.1.222")
MACVLAN = Macvlan(
    "lb-network", "eth0", IPv4Network("192.168.1.0/24"), IPv4Address("192.168.1.1"), VIP, HAIRPIN
)
PROXY = haproxy_operations.Proxy(
    "haproxy:3.0", "lb-network", "eth0", VIP, "02:42:ac:8f:4c:ff", "/var/log/haproxy/run"
)


class ClusterOfOne(Kubectl):
    """A cluster whose only node is not Ready."""

    def nodes(self) -> dict[str, ClusterNode]:
        return {"pi7": ClusterNode(ready=False, unschedulable=False)}


ROLLING = Rolling("controller", kubectl=Kubectl("files/config"), node="pi1")
TARGET = Target(
    "1.36.2", {"pi1": "192.168.1.50"}, ("pi1", "pi5"), ("192.168.1.40",), "/etc/kubernetes"
)
OWN_CONFIG = File(f"{haproxy_operations.OWN}/{haproxy_operations.CONFIG}", "global\n")

# How each operation is called. What it takes as shell commands, by its documentation, is none of
# the values that may be hostile
CALLS: dict[str, dict[str, Any]] = {
    "install_packages": {"present": {"kubelet": "1.36.2-1.1", "jq": None}, "hold": ("kubelet",)},
    "install_cri_dockerd": {
        "version": "0.3.17",
        "program": lambda architecture: b"\x7fELF",
        "infra_image": "registry.k8s.io/pause:3.9",
        "rolling": ROLLING,
    },
    "install_docker": {"options": Options("10m", 3, "/mnt/ssd/docker", True), "rolling": ROLLING},
    "report_key": {"path": "/etc/kubernetes/client.key"},
    "report_version": {
        "kubernetes": "1.36.2",
        "servers": ("192.168.1.40",),
        "folder": "/etc/kubernetes",
    },
    "install": {
        "files": (File("/etc/one", "1\n"), File("/etc/two", "2\n", mode="600", secret=True)),
        "absent": ("/etc/three",),
        "units": (Unit("one.service", reads=("/etc/one", "/etc/two.d/*.conf")),),
    },
    "add_hairpin_link": {
        "link": "lb-hairpin",
        "parent": "eth0",
        "address": HAIRPIN,
        "vip": VIP,
        "script": "true",
    },
    "pull_image": {"image": "haproxy:3.0"},
    "run_haproxy": {"proxy": PROXY, "wanted": (OWN_CONFIG, File("/usr/sbin/start", "true\n"))},
    "run_vrrp": {
        "wanted": (File("/etc/keepalived/chaos-engine.conf", "global_defs {\n}\n"),),
        "interface": "eth0",
        "number": 60,
        "peers": ("192.168.1.53",),
    },
    "remove_vrrp": {},
    "write_hosts_block": {"addresses": {"pi1": "192.168.1.50"}},
    "configure_journald": {
        "path": "/etc/systemd/journald.conf.d/90-x.conf",
        "config": "[Journal]\nStorage=volatile\n",
    },
    "set_kernel_words": {"wanted": ("cgroup_enable=memory", "quiet")},
    "quiet_kubelet": {},
    "report_configuration": {
        "gates": {"ExtendWebSocketsToKubelet": False},
        "log_size": "10m",
    },
    "install_kubernetes": {
        "version": "1.28.15",
        "packages": ("kubelet", "kubeadm"),
        "tools": ("cri-tools",),
        "rolling": ROLLING,
    },
    "check_upgrade": {"target": TARGET, "rolling": ROLLING},
    "install_kubeadm": {"target": TARGET, "rolling": ROLLING, "tools": ("cri-tools",)},
    "upgrade_control_plane": {"target": TARGET, "rolling": ROLLING, "first": True},
    "upgrade_kubelet": {
        "target": TARGET,
        "rolling": ROLLING,
        "packages": ("kubelet", "kubectl"),
        "broken": False,
    },
    "configure_kubelet": {
        "target": TARGET,
        "rolling": ROLLING,
        "gates": {"ExtendWebSocketsToKubelet": False},
        "log_size": "10m",
        "broken": False,
    },
    "mount_log_share": {
        "volume": "pi1",
        "wanted": (File("/usr/local/sbin/helper", "true\n"),),
        "ram_size": "16M",
    },
    "create_network": {"wanted": MACVLAN, "last": True},
    "remove_packages": {"names": ("snapd", "plymouth")},
    "check_node": {"known_as": "pi1", "address": "192.168.1.50"},
    "reboot_node": {"wanted": ("cgroup_enable=memory",), "rolling": ROLLING},
    "uncordon_node": {"rolling": ROLLING, "last": True},
    "install_security_updates": {"rolling": ROLLING},
    "forward_logs": {"config": "*.* @1.2.3.4\nstop\n", "network": "", "server": "192.168.1.42"},
    "forward_container_output": {
        "server": "192.168.1.42",
        "protocol": "tcp",
        "port": 514,
        "data_root": "/mnt/ssd/docker",
    },
    "publish_copy": {
        "config": File("/var/log/haproxy/haproxy.cfg", "global\n"),
        "link": "/var/log/haproxy/run",
    },
    "disable_swap": {},
    "quieten_writers": {
        "apt_timers": "weekly",
        "apt_cache": True,
        "man_db": True,
        "clock": True,
        "coredumps": True,
    },
    "set_time_servers": {"servers": ("192.168.1.1", "time.example.net")},
    "hold_kubelet": {"seconds": 120},
    "set_mount_options": {"options": ("noatime", "commit=600"), "data_root": "/mnt/ssd/docker"},
    "set_kernel_parameters": {
        "stem": "kubernetes",
        "modules": ("overlay", "br_netfilter"),
        "sysctls": {"net.ipv4.ip_forward": "1"},
    },
    "configure_watchdog": {
        "config": "[Manager]\nRuntimeWatchdogSec=15\nRebootWatchdogSec=0\n",
        "flush": "[Service]\nType=oneshot\n",
    },
    "check_link": {
        "wanted": (File("/usr/local/sbin/check", "true\n"),),
        "on": True,
    },
    "create_cluster": {
        "rolling": ROLLING,
        "address": "192.168.1.50",
        "endpoint": "no-cluster:6443",
        "controllers": {"pi7": "192.168.1.56"},
        "etcd": ("192.168.1.40",),
        "folder": "/etc/kubernetes/etcd",
    },
    "join_cluster": {
        "rolling": Rolling(node="pi1"),
        "endpoint": "k8s:6443",
        "controllers": {"pi4": "192.168.1.53"},
        "hosts": {"pi4": "pi4"},
    },
    "forget_node": {
        "rolling": Rolling(kubectl=ClusterOfOne("files/config"), node="pi7"),
        "known_nodes": ("pi1", "pi7"),
        "at": "",
        "address": "192.168.1.56",
        "controllers": {"pi4": "192.168.1.53"},
    },
    "forget_changes": {"asked": ("docker", "site")},
    "undo_concern": {"concern": "docker", "needed": ("kernel",)},
    "undo_other_concerns": {"known": ("docker",), "asked": ("site",)},
}
WITHOUT_COMMAND = {
    "report_key",
    "report_version",
    "report_configuration",
    "check_node",
    "reboot_node",
    "uncordon_node",
    "install_security_updates",
    "remove_vrrp",
    "check_upgrade",
    "install_kubeadm",
    "upgrade_control_plane",
    "upgrade_kubelet",
    "configure_kubelet",
    "create_cluster",
    "join_cluster",
    "forget_node",
}
"""Operations that give pyinfra no command: they do nothing, or have a turn to wait for."""

COMMANDS = {"apply", "check", "how", "hows", "ready", "script"}
"""Arguments, and fields of them, that are shell commands, or have some."""

WITHOUT_TEXT = {"bool", "int", "bytes | None"}
"""What arguments are that no text can be given as: they need not be in `CALLS`."""

BOOT_FILE = BootFile(
    "/boot/firmware/cmdline.txt", "root=/dev/sda1\n", "755", "root", "root", "vfat", False,
    1 << 30, False,
)  # fmt: skip

# What is observed: a node on which there is everything to do
NODE: dict[type, Any] = {
    AddressOwners: {},
    ApiVersions: {},
    ControlPlane: ControlPlaneState(),
    CriDockerdVersion: "0.4.3",
    AsRoot: True,
    Answers: "answers",
    ApiServers: {"192.168.1.53": "200"},
    ClusterApi: lambda endpoint: (
        ApiState("200", "1.36.2") if endpoint.startswith("k8s:") else ApiState("silent")
    ),
    CloudInit: CloudInitState(False, "", ("/etc/netplan/a.yaml",)),
    Container: None,
    Content: None,
    DockerDisk: lambda path: DataDisk(
        path,
        parse_mounts("24 1 179:2 / / rw,relatime shared:1 - ext4 /dev/root rw")[0],
        5,
        "LABEL=writable / ext4 discard,errors=remount-ro 0 1\n",
    ),
    DockerService: Service(),
    DockerInfo: None,
    DockerNetworks: {},
    DropIns: (),
    EtcdKeys: 0,
    EtcdVersions: {},
    Files: {},
    OtherRouter: "",
    OwnName: "pi1",
    Image: "",
    Interrupted: (),
    Interface: lambda interface: (
        InterfaceState(True, False, "", "dc:a6:32:00:00:01", ("192.168.1.54/24",), 0)
        if interface == "eth0"
        else None
    ),
    Joined: False,
    KernelCmdline: Cmdline(("root=/dev/sda1",), (), "v2", False, "boot", file=BOOT_FILE),
    KernelModules: lambda names: dict.fromkeys(names, "available"),
    KubeletConfiguration: {},
    KubeletReplaced: False,
    KubernetesSources: (),
    LoadedConfig: "",
    LogShares: LogShare((), ""),
    TimedWriters: WriterState(dict.fromkeys(UNIT_NAMES, True), (), True),
    MacvlanLinks: {},
    Membership: MembershipState(kubelet="1.36.2", init=True, join="kind: JoinConfiguration\n"),
    Manifest: Remembered(
        (Entry("docker", "file", "created", "/etc/a"), Entry("site", "file", "created", "/etc/b")),
        holds=("manifest",),
    ),
    Mounts: (),
    Node: replace(GOOD, architecture="arm64"),
    Packages: {},
    Present: False,
    RemovalPlan: lambda names: Removal(names, names),
    Repairs: (),
    RebootNeed: RebootNeedState("6.12.34+rpt-rpi-v8"),
    RepositorySigners: (),
    RunningPeers: (),
    SharedCopy: CopyState(noted=False, config="other", link="other"),
    ServerSettings: TimeSources(reset_by="", chrony_reads=True, strict=""),
    SecurityUpdates: Updates(
        (Update("libssl3", "3.0.16-1", "3.0.17-1"),),
        pockets=(("http://deb.debian.org/debian-security", "trixie-security"),),
        free=1000,
    ),
    Snippets: (),
    Swaps: SwapState(
        (SwapArea("/swap file", "file", 1024, 0),), 1 << 20, "/swap\\040file none swap sw 0 0\n",
        {"swap-file.swap": "generated"}, {"swap.target": "static"},
        True, None,
    ),
    Standing: StandingState(False, False, {}),
    Sysctls: lambda names: {name: Sysctl("0") for name in names},
    TimeServices: ("systemd-timesyncd.service",),
    Traces: {},
    Watchdog: WatchdogState(device=True, held=True, ping=True, runtime="0", reboot="10min"),
    WatchdogDropIns: (),
    Units: lambda units: {
        name: UnitState("loaded", "inactive", "dead", "disabled", False, 0, "", "x")
        for name, _ in units
    },
}  # fmt: skip


def all_operations() -> dict[str, Any]:
    """Every function that `converge` has decorated, by name."""
    found = {}
    for module in pkgutil.walk_packages(operations.__path__, f"{operations.__name__}."):
        for member in vars(import_module(module.name)).values():
            if hasattr(member, "reads") and hasattr(member, "_inner"):
                found[member.__name__] = member
    return found


OPERATIONS = all_operations()

Path_ = tuple[Any, ...]


def form_of(hint: Any) -> str:
    """The regular expression of a text's form."""
    pattern: str = get_args(hint)[1].pattern
    return pattern


def texts(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Where the texts in a value are: keys, indexes and names that lead there."""
    if isinstance(value, str):
        yield at
    elif isinstance(value, Mapping):
        for key in value:
            if at or key not in COMMANDS:
                yield from texts(value[key], (*at, key))
                if at:
                    yield (*at, ("key", key))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from texts(item, (*at, number))
    elif is_dataclass(value):
        for field in fields(value):
            if field.repr and field.name not in COMMANDS:
                yield from texts(getattr(value, field.name), (*at, field.name))


def with_text(value: Any, at: Path_, change: Callable[[str], str]) -> Any:
    """The value with the text at a place changed."""
    if not at:
        return change(value)
    step, *rest = at
    if isinstance(step, tuple):
        return {(change(k) if k == step[1] else k): v for k, v in value.items()}
    if isinstance(value, Mapping):
        return {**value, step: with_text(value[step], tuple(rest), change)}
    if isinstance(value, tuple):
        return tuple(
            with_text(item, tuple(rest), change) if number == step else item
            for number, item in enumerate(value)
        )
    return replace(value, **{step: with_text(getattr(value, step), tuple(rest), change)})


MARK = "Zq7"
HOSTILE = [
    " ", "'", '"', "$(>canary)", "`>canary`", ";>canary;", "\n>canary\n", "&>canary&", "|>canary",
    "-", "--", "*", "?", "[a]", "~", "$HOME", "${x}", "%n", "\\", "#", "\t", "\r", "..", "=", "+",
    "!", "(", ")", "{a,b}", "é", "🐧", "\u2028", "\x7f", "/",
]  # fmt: skip


@st.composite
def hostile(draw: Any) -> Callable[[str], str]:
    """A change of a good text to one that a shell, systemd or apt would make something of."""
    before, after = (
        "".join(draw(st.lists(st.sampled_from(HOSTILE), min_size=least, max_size=3)))
        for least in (0, 1)
    )
    whole = draw(st.booleans())

    def change(good: str) -> str:
        rooted = good.startswith("/")
        value = f"{before}{MARK}{after}" if whole else f"{good}{before}{MARK}{after}"
        # in its form as far as it goes, so that more is not simply refused
        return f"/{value.strip('/')}" if rooted and whole else value

    return change


@dataclass(frozen=True)
class Ran:
    """A script that was run: the arguments of each program, what it printed, what it left."""

    calls: list[list[str]]
    errors: str
    left: list[str]


PROGRAMS = [
    *("awk", "base64", "bash", "cat", "chmod", "chown", "cmp", "cp", "cut", "date", "df"),
    *("dirname", "docker", "dockerd", "dpkg", "find", "findmnt", "flock", "getent", "grep", "gzip"),
    *("head", "id", "install", "ip", "journalctl", "kubeadm", "kubelet", "ln", "logger", "ls"),
    *("lsblk", "mkdir", "modprobe", "mount", "mv", "perl", "printenv", "readlink", "rm", "rmdir"),
    *("rsyslogd", "sed", "sha256sum", "sleep", "sort", "stat", "swapoff", "sync", "systemctl"),
    *("tail", "tar", "touch", "tr", "uname", "wc", "xargs"),
]
WITH_HYPHEN = [
    *("apt-get", "apt-mark", "apt-cache", "dpkg-query", "dpkg-deb", "systemd-run"),
    *("systemd-analyze", "update-grub"),
]

TIMEOUT = which("timeout") or "timeout"
TIMED_OUT = 124

START = "\x1e"
"""Where a call begins in the log."""

# Functions go before programs. dash takes no hyphen in their names. A call is noted by one write:
# the programs of a pipe are called at the same time
SHELL = """\
__note() { __name=$1; shift; printf '%s\\037' "@START@$__name" "$@" >&8; }
sh() { case $1 in -c) shift; __s=$1; shift $(($# > 1 ? 2 : 1)); (eval "$__s") ;; esac; }
timeout() { while case $1 in -*|[0-9]*) ;; *) false ;; esac; do shift; done; "$@"; }
mktemp() { __note mktemp "$@"; echo @ROOT@/stage; }
cd() { :; }
unshare() { shift 3; "$@"; }
""" + "".join(f'{name}() {{ __note {name} "$@"; }}\n' for name in PROGRAMS)

_PLACES = re.compile(r"(?<![\w.}~-])/(?=(etc|var|run|proc|sys|usr|boot|lib|sbin|bin|tmp|mnt)\b)")


class Shell:
    """A shell whose programs only note their arguments, below a temporary directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("work", "stage", "usr/bin", "usr/sbin", "run/chaos-engine"):
            (root / folder).mkdir(parents=True)
        for folder in ("var/lib/chaos-engine", "proc/sys/net/ipv4"):
            (root / folder).mkdir(parents=True)
        for name in WITH_HYPHEN:
            program = root / "usr/bin" / name
            program.write_text(f"#!/bin/sh\nprintf '%s\\037' '{START}{name}' \"$@\" >&8\n")
            program.chmod(0o755)
        # so that what is done on the log share is
        (root / "proc/self").mkdir()
        share = f"1 1 0:1 / {root}/var/log rw,nosymfollow - fuse.glusterfs etcd1:/pi1 rw\n"
        (root / "proc/self/mountinfo").write_text(share)
        (root / "usr/sbin/haproxy_start.sh").symlink_to(root / "usr/bin/apt-get")

    def localise(self, text: str) -> str:
        """The text with a node's places moved below the directory."""
        return _PLACES.sub(f"{self.root}/", text)

    def run(self, text: str) -> Ran:
        """Run a script in it."""
        log = self.root / "log"
        head = SHELL.replace("@ROOT@", str(self.root)).replace("@START@", START)
        # timeout ends what the script has started, too
        done = subprocess.run(
            [TIMEOUT, "10", "/bin/sh", "-c", f"{head}exec 8>{log}\n{self.localise(text)}"],
            cwd=self.root / "work",
            env={"PATH": f"{self.root}/usr/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode != TIMED_OUT, "the script does not end"
        calls = [
            [word.decode(errors="surrogateescape") for word in call.split(b"\x1f")[:-1]]
            for call in log.read_bytes().split(START.encode())[1:]
        ]
        left = [path.name for path in (self.root / "work").iterdir()]
        return Ran(calls, done.stderr.decode(errors="replace"), left)


@contextmanager
def shell() -> Iterator[Shell]:
    """A shell of its own for each example."""
    with tempfile.TemporaryDirectory(prefix="hostile") as root:
        yield Shell(Path(root))


def check(ran: Ran, value: str) -> None:
    """What has to hold of a script that was run with a hostile value in it."""
    # a file waits under another name in the same folder
    part = next(part for part in value.split("/") if MARK in part)
    assert ran.left == [], f"{value!r} was run"
    assert "yntax error" not in ran.errors
    assert "nterminated" not in ran.errors
    for call in ran.calls:
        for number, word in enumerate(call):
            if MARK in word:
                # the name of a kernel parameter is a path below /proc/sys, too
                whole = part in word or part.replace(".", "/") in word
                assert whole, f"{value!r} came apart: {call}"
                option = word.startswith("-") and word.startswith(value)
                assert not option or "--" in call[:number], f"{value!r} is an option: {call}"


class Nothing(Connector):
    """Runs nothing: all that an operation observes is known."""

    def run_shell_command(self, command: StringCommand, *args: Any, **kwargs: Any) -> Any:
        """Say which read `NODE` lacks."""
        raise AssertionError(f"asked the node: {command}")


class Known(dict[tuple[Read, Any], Any]):
    """What is known of a node: all of `NODE`."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: tuple[Read, Any]) -> Any:
        value = NODE[key[0].fact]
        return value(**dict(key[0].arguments)) if callable(value) else value


def commands(operation: Any, arguments: Mapping[str, Any], mark: str = "") -> Iterator[str]:
    """The commands by which an operation reads a node, those with `mark`, and changes it."""
    nodes = Nodes()
    with nodes.on() as host:
        host.connector = Nothing(nodes.state, host)
        host.noop = lambda description: None
        reads: list[Read] = list(operation.reads(**arguments))
        of_host(HostAnswers).known = Known()
        yield script(read for read in reads if mark in repr(read))
        for command in operation._inner(**arguments):
            if isinstance(command, FunctionCommand):
                continue
            assert isinstance(command, StringCommand)
            yield command.get_raw_value()


def refusal(operation: Any, arguments: Mapping[str, Any]) -> str:
    """Why an operation does not take arguments, "" if it does; nothing may have been read then."""
    nodes = Nodes()
    with nodes.on() as host:
        of_host(HostAnswers).known = Known()  # nothing is read from this computer
        try:
            operation(**arguments, name="Try")
        except OperationValueError as error:
            assert host.connector_data.get("commands") is None
            return str(error)
    return ""


def test_every_operation_is_called_here() -> None:
    assert set(CALLS) == set(OPERATIONS)
    reads = {
        read.fact
        for name, operation in OPERATIONS.items()
        for read in _reads(operation, CALLS[name])
    }
    assert reads - set(NODE) == set(), "give what these facts answer in NODE"


@pytest.mark.parametrize("name", CALLS)
def test_every_text_that_an_operation_takes_is_given_here(name: str) -> None:
    takes = signature(OPERATIONS[name]).parameters
    texts = {key for key, one in takes.items() if str(one.annotation) not in WITHOUT_TEXT}
    assert texts - COMMANDS <= {*CALLS[name]} <= {*takes}


def _reads(operation: Any, arguments: Mapping[str, Any]) -> list[Read]:
    with Nodes().on():
        return list(operation.reads(**arguments))


@pytest.mark.parametrize("name", CALLS)
def test_good_arguments_make_scripts_that_run(name: str) -> None:
    # Otherwise what is shown of hostile ones would say nothing
    with shell() as sh:
        made = list(commands(OPERATIONS[name], CALLS[name]))
        for text in made:
            ran = sh.run(text)
            assert ran.left == []
            assert "not found" not in ran.errors, ran.errors
        assert (len(made) > 1) == (name not in WITHOUT_COMMAND)
    assert refusal(OPERATIONS[name], CALLS[name]) == ""


PLACES = [(name, at) for name, call in CALLS.items() for at in texts(call)]


@pytest.mark.parametrize("name", sorted({name for name, _ in PLACES}))
@settings(max_examples=20)
@given(data=st.data())
def test_a_hostile_value_breaks_and_runs_nothing(name: str, data: st.DataObject) -> None:
    at = data.draw(st.sampled_from([at for other, at in PLACES if other == name]))
    values: list[str] = []

    def change(good: str) -> str:
        values.append(data.draw(hostile())(good))
        return values[-1]

    arguments = with_text(CALLS[name], at, change)
    (value,) = values
    problem = refusal(OPERATIONS[name], arguments)
    if problem:
        assert problem.startswith(f"{name}: {at[0]}")
        assert "it has to be" in problem
        return
    with shell() as sh:
        for text in commands(OPERATIONS[name], arguments, MARK):
            if MARK in text:
                check(sh.run(text), sh.localise(value))


@pytest.mark.parametrize(("name", "at"), PLACES, ids=[f"{n} {at}" for n, at in PLACES])
@pytest.mark.parametrize("bad", ["\0", "\udcff"], ids=["NUL", "not Unicode"])
def test_what_no_program_takes_is_refused(name: str, at: Path_, bad: str) -> None:
    arguments = with_text(CALLS[name], at, lambda good: f"{good}{bad}")
    problem = refusal(OPERATIONS[name], arguments)
    assert problem.startswith(f"{name}: {at[0]}")
    assert re.search("contains a NUL|not Unicode text", problem)


@pytest.mark.parametrize("call", [{"config": File("/haproxy.cfg", "")}, {"link": "/run"}])
def test_what_is_not_on_the_share_is_refused(call: dict[str, Any]) -> None:
    # The survey looked for the share among the folders above it, without end
    problem = refusal(OPERATIONS["publish_copy"], call)
    assert "it has to be a path below /var/log" in problem


@given(hostile())
@settings(max_examples=20)
def test_a_note_of_a_cordoned_node_has_its_name(change: Callable[[str], str]) -> None:
    value = change("pi1")
    with shell() as sh:
        check(sh.run(note(value)), sh.localise(value))
        assert (
            Path(f"{sh.localise(NOTE)}.chaos-new").read_bytes()
            == f"{sh.localise(value)}\n".encode()
        )


# What is found on a node is no less foreign


@given(hostile())
@settings(max_examples=20)
def test_a_network_is_made_again_whatever_its_labels_say(change: Callable[[str], str]) -> None:
    value = change("note")
    found = DockerNetwork(
        "bridge", value, "", (), auxiliary={value: "10.0.0.1"}, labels={"of": value, value: "x"}
    )
    with shell() as sh:
        check(sh.run(recreate("lb-network", found)), sh.localise(value))


@given(hostile())
@settings(max_examples=20)
def test_what_is_noted_is_undone_whatever_it_is_called(change: Callable[[str], str]) -> None:
    path, name = change("/etc/one"), change("one")
    if not is_valid(File, File(path, "")):  # no other is ever noted
        return
    kinds = {
        "file": "original", "folder": "created", "unit": "active enabled", "package": "absent",
        "removed": "1 manual hold", "hold": "set", "manual": "auto", "sysctl": "0", "swap": "-2",
        "link": "created", "image": "pulled", "network": "created",
    }  # fmt: skip
    # dpkg has no other names than plain ones
    names = {"file": path, "folder": path, "swap": path} | dict.fromkeys(
        ("package", "removed", "hold", "manual"), "snapd"
    )
    entries = [Entry("a", kind, state, names.get(kind, name)) for kind, state in kinds.items()]
    entries += [Entry("a", "file", "created", f"{path}.new"), Entry("a", "secret", "-", path)]
    found = Remembered(tuple(entries))
    todo = undo.Changes((f"{path}.new",), (path,), aside=(path,))
    with shell() as sh:
        ran = sh.run(undo.compose(found, "a", todo))
        for value in (path, name):
            check(ran, sh.localise(value))


def words_of_unit(line: str) -> list[str]:
    """The words of a command line in a unit, see systemd.service(5) and systemd.syntax(7)."""
    words = []
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line):
        word = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        assert not re.search(r"(?<!%)(%%)*%(?!%)", word), f"a specifier in {word}"
        assert not re.search(r"(?<![$])([$][$])*[$](?![$])", word), f"a variable in {word}"
        words.append(word.replace("%%", "%").replace("$$", "$"))
    return words


@given(hostile())
@settings(max_examples=20)
def test_a_unit_records_its_files_whatever_they_are_called(change: Callable[[str], str]) -> None:
    path = change("/etc/one")
    unit = Unit("one.service", reads=(path,))
    if not is_valid(Unit, unit):
        return
    (line,) = (
        line.partition("=")[2]
        for line in str(unit.record.content).split("\n")
        if line.startswith("Exec")
    )
    program, *arguments = words_of_unit(line.removeprefix("-+"))
    assert (program, arguments[0], len(arguments)) == ("/bin/sh", "-c", 2)
    with shell() as sh:
        ran = sh.run(arguments[1])
        check(ran, sh.localise(path))
        assert ["cat", "--", sh.localise(path)] in ran.calls


@given(hostile())
@settings(max_examples=10)
def test_a_file_of_any_name_and_content_is_put_in_place_and_taken_away(
    change: Callable[[str], str],
) -> None:
    with tempfile.TemporaryDirectory() as root:
        sandbox = Sandbox(Path(root) / "node")
        content = change("new\n")
        file = sandbox.file(change("/etc/one").lstrip("/"), content)
        if not is_valid(File, file):
            return
        other = sandbox.file("other", "same\n")
        done = sandbox.apply(Plan(write=(file, other)))
        assert not done.returncode, done.stderr
        assert Path(file.path).read_bytes() == content.encode()
        done = sandbox.apply(Plan(remove=(file.path,)))
        assert not done.returncode, done.stderr
        assert not Path(file.path).exists()
        assert Path(other.path).read_text() == "same\n"
        kept = [path for path in Path(root).rglob("*") if path.is_file()]
        assert {path.name for path in kept} == {"manifest", "lock", "other"}


# Settings have forms; whatever has the form has to survive in the files that are made of it

NAMES = st.one_of(
    st.sampled_from(["on", "no", "y", "null", "true", "1e3", "0x1f", "0b1", "12", "007", "a-b"]),
    st.from_regex(form_of(HostName), fullmatch=True),
)
OCTETS = st.integers(1, 254)


@settings(max_examples=30)
@given(NAMES, NAMES, OCTETS, st.sampled_from(["1.28.15", "1.36.2"]))
def test_kubeadm_reads_what_was_set(node: str, vip_name: str, octet: int, version: str) -> None:
    model = KubernetesSettings(
        nodes={node: f"10.0.0.{octet}"},
        controllers=[node],
        vip="10.0.1.1",
        vip_name=vip_name,
        kubernetes_version=version,
        cri_dockerd_version="0.3.17" if version == "1.28.15" else "0.4.3",
        kubernetes_pod_network="10.244.0.0/16",
        storage_servers={"etcd1": "10.0.2.1"},
    )
    files, _ = configuration(model, node)
    (init,) = (file for file in files if "init" in file.path)
    (join,) = (file for file in files if "join" in file.path)
    first, cluster, _ = yaml.safe_load_all(str(init.content))
    second = yaml.safe_load(str(join.content))
    for one in (first, second):
        assert one["nodeRegistration"]["name"] == node
        assert one["nodeRegistration"]["criSocket"] == "unix:///run/cri-dockerd.sock"
    assert first["localAPIEndpoint"]["advertiseAddress"] == f"10.0.0.{octet}"
    assert cluster["controlPlaneEndpoint"] == f"{vip_name}:6443"
    assert cluster["kubernetesVersion"] == f"v{version}"
    assert cluster["networking"]["podSubnet"] == "10.244.0.0/16"
    assert cluster["etcd"]["external"]["endpoints"] == ["https://10.0.2.1:2379"]
    assert second["discovery"]["bootstrapToken"]["apiServerEndpoint"] == f"{vip_name}:6443"


SITE_VALUES = {
    "10-all.conf.j2": {"server": "log_server", "protocol": "log_protocol", "port": "log_port"},
    "clock-chrony.conf.j2": {"servers": "ntp_servers"},
    "clock-timesyncd.conf.j2": {"servers": "ntp_servers"},
    "clock-wait.j2": {"seconds": "clock_wait"},
    "clock-wait.service.j2": {"seconds": "clock_wait"},
    "container-output.conf.j2": {
        "server": "log_server",
        "protocol": "log_protocol",
        "port": "log_port",
        "data_root": "docker_data_root",
    },
    "container-output.service.j2": {"data_root": "docker_data_root"},
    "cri-docker.service.j2": {"infra_image": "cri_dockerd_infra_image"},
    "docker_haproxy.service.j2": {"vip": "vip", "port": "vip_port"},
    "haproxy.cfg.j2": {"vip": "vip", "port": "vip_port", "controllers": "nodes"},
    "haproxy_links.sh.j2": {
        "drain_address": "hairpin_address",
        "drain_mac": "hairpin_address",
        "subnet": "lan_subnet",
        "prefix": "lan_subnet",
        "gateway": "lan_gateway",
        "tries": "vrrp_interval",
    },
    "haproxy_start.sh.j2": {
        "image": "haproxy_image",
        "network": "macvlan_network",
        "vip": "vip",
        "port": "vip_port",
        "mac": "vip_mac",
        "parent": "parent_interface",
        "link": "hairpin_link",
        "hairpin": "hairpin_address",
        "run_directory": "haproxy_run_dir",
        "node": "nodes",
        "marker": "vrrp_id",
    },
    "haproxy_vrrp.service.j2": {"vip": "vip"},
    "haproxy_vrrp.sh.j2": {
        "vip": "vip",
        "parent": "parent_interface",
        "number": "vrrp_id",
        "address": "nodes",
        "marker": "vrrp_id",
    },
    "journald.conf.j2": {
        "max_use": "journald_max_use",
        "max_file_size": "journald_max_file_size",
    },
    "keepalived.conf.j2": {
        "vip": "vip",
        "parent": "parent_interface",
        "number": "vrrp_id",
        "interval": "vrrp_interval",
        "address": "nodes",
        "peers": "nodes",
        "name": "nodes",
        "marker": "vrrp_id",
    },
    "kubeadm-init.yaml.j2": {
        "version": "kubernetes_version",
        "address": "nodes",
        "endpoint": "vip_name",
        "names": "vip",
        "etcd": "storage_servers",
        "certificates": "etcd_certificates_dir",
        "pod_network": "kubernetes_pod_network",
    },
    "kubeadm-join.yaml.j2": {"address": "nodes", "endpoint": "vip_name"},
    "kubeadm-node.yaml.j2": {"node": "nodes", "address": "nodes"},
    "link-check.j2": {
        "others": "nodes",
        "minutes": "watchdog_link_minutes",
        "reboot_proxy": "watchdog_reboot_proxy",
        "partners": "nodes",
    },
    "packages-removed.j2": {"names": "packages_absent"},
    "var-log-mount.j2": {
        "share": "log_volumes",
        "words": "log_nfs_folder",
        "servers": "log_volumes",
        "ram_size": "log_ram_size",
    },
    "var-log.service.j2": {"words": "log_nfs_folder"},
    "watchdog.conf.j2": {
        "seconds": "watchdog_seconds",
        "reboot_seconds": "watchdog_reboot_seconds",
    },
}
"""The setting that each variable of a template gets its value from."""

OURS = {
    *("api", "api_port", "checked", "checksum", "conf", "confined", "container", "controller"),
    *("config", "day", "down", "haproxy", "index_seen", "perl", "pid", "script"),
    *("file", "folder", "several", "vrrp", "writers"),
    *(
        "flags",
        "gates",
        "init",
        "lock",
        "log",
        "mounts",
        "nfs",
        "own",
        "path",
        "program",
        "run",
        "share_port",
        "shares",
        "store",
    ),
    *("socket", "state", "target", "unconfined", "uppermost"),
}
"""Variables that have no value of the site."""


def site_hints() -> dict[str, Any]:
    """The type of each setting."""
    return {
        name: hint
        for model in all_models()
        for name, hint in get_type_hints(model, include_extras=True).items()
    }


def forms_within(hint: Any) -> Iterator[str]:
    """The forms of the texts that a value of this type has; a text without one is an error."""
    pattern = next((item.pattern for item in get_args(hint) if isinstance(item, Form)), None)
    if pattern is not None:
        yield pattern
    elif isinstance(hint, type) and issubclass(hint, BaseModel):
        for field in get_type_hints(hint, include_extras=True).values():
            yield from forms_within(field)
    elif get_origin(hint) is Annotated:
        yield from forms_within(get_args(hint)[0])
    elif get_origin(hint) is Literal:
        yield from map(re.escape, get_args(hint))
    elif get_args(hint):
        for part in get_args(hint):
            yield from forms_within(part)
    else:
        assert hint in (IPv4Address, IPv4Network, int, bool, type(None), ...), hint


def test_every_value_in_a_template_is_known_here() -> None:
    environment = Environment()  # only to parse
    found: dict[str, set[str]] = {}
    for file in files(templates).iterdir():
        # report.html.j2 goes on no node; tests/unit/test_report.py has hostile values for it
        if file.name.endswith(".j2") and not file.name.endswith(".html.j2"):
            variables = find_undeclared_variables(environment.parse(file.read_text())) - OURS
            found |= {file.name: variables} if variables else {}
    assert found == {name: {*values} for name, values in SITE_VALUES.items()}


@pytest.mark.parametrize(
    "setting", sorted({name for values in SITE_VALUES.values() for name in values.values()})
)
@settings(max_examples=20)
@given(data=st.data())
def test_a_value_in_a_template_is_one_plain_word(setting: str, data: st.DataObject) -> None:
    # to sh, systemd, HAProxy, rsyslog, apt and journald alike
    for pattern in forms_within(site_hints()[setting]):
        value = data.draw(st.from_regex(pattern, fullmatch=True))
        assert re.fullmatch("[A-Za-z0-9_/][A-Za-z0-9_./:@+-]*", value), setting
