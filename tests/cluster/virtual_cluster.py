"""Use a virtual cluster in tests and the demo: the lab's commands, and ssh to its nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import testinfra
from click import unstyle
from testinfra.host import Host

from tests.lab.errors import LabError
from tests.lab.nodes import run as run_inside

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests" / "lab" / "lab"
SEVERAL_PROXIES = "tests/cluster/several_proxies.py"


Reasons = dict[str, dict[str, list[str]]]
"""The reasons of operations to change a node: lines by host and name of the operation."""

REFUSED = "Refuse node"
"""The end of the name of the one operation of a refused node."""


@dataclass(frozen=True)
class Result:
    """A finished command."""

    command: tuple[str, ...]
    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Return everything that it printed."""
        return self.out + self.err


_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@dataclass
class Cluster:
    """One lab, by its name."""

    name: str
    status: dict[str, Any] = field(default_factory=dict)
    announced_why: Reasons = field(default_factory=dict)
    changed_why: Reasons = field(default_factory=dict)
    """The reasons that the last preview and the last run told."""
    proxies: tuple[str, ...] = ()
    """The workers that are proxies, if they are others than in the site's inventory."""

    def lab(self, *arguments: str, ok: bool = True, timeout: float = 900) -> Result:
        """Run a command of the lab. Fail if it fails, unless `ok` is false."""
        command = (str(LAB), "--name", self.name, *arguments)
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        result = Result(command, done.returncode, done.stdout, done.stderr)
        if ok:
            assert not result.status, f"{' '.join(command)}\n{result.text}"
        return result

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of this computer's programs."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        proxies = {"PROXIES": ",".join(self.proxies)} if self.proxies else {}
        return {**os.environ, "PATH": path, **proxies}

    @property
    def inventory(self) -> str:
        """Return the path of the inventory."""
        return SEVERAL_PROXIES if self.proxies else "inventory.py"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of the lab, with pipes to all that it reads and prints."""
        return subprocess.Popen(
            (str(LAB), "--name", self.name, *arguments),
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def up(self, *options: str) -> None:
        """Start it, and show its progress."""
        subprocess.run([LAB, "--name", self.name, "up", *options], cwd=CHECKOUT, check=True)
        self.status = json.loads(self.lab("status", "--json").out)

    def down(self) -> None:
        """Remove it."""
        self.lab("down")

    def address(self, node: str) -> str:
        """Return a node's address on the LAN."""
        return next(str(n["address"]) for n in self.status["nodes"] if n["name"] == node)

    @property
    def workers(self) -> list[str]:
        """Return the names of the workers that this lab has."""
        return [str(n["name"]) for n in self.status["nodes"] if n["role"] == "worker"]

    @property
    def carded(self) -> str:
        """Return the worker whose disk is of limited size."""
        found = [str(n["name"]) for n in self.status["nodes"] if n["card"]]
        assert found, f"no worker of the lab {self.name} has a card; it needs: lab up --card NODE"
        return found[0]

    def card(self, node: str) -> str:
        """Return the name of the block device that a node has as its card now.

        With each start the node may have another one.
        """
        nodes = json.loads(self.lab("status", "--json").out)["nodes"]
        return next(str(n["card"]) for n in nodes if n["name"] == node)

    @property
    def limit(self) -> list[str]:
        """Return pyinfra's options that limit a run to the hosts that this lab has."""
        return limits(self.workers)

    def run(self, *command: str, ok: bool = True, timeout: float = 900) -> Result:
        """Run a command as a computer on the cluster's LAN."""
        return self.lab("run", "--", *command, ok=ok, timeout=timeout)

    def pyinfra(self, *arguments: str, ok: bool = True, timeout: float = 1200) -> Result:
        """Run ``pyinfra INVENTORY ARGUMENTS``, over this lab's nodes unless it has a limit."""
        limit = [] if "--limit" in arguments else self.limit
        return self.run("pyinfra", self.inventory, *arguments, *limit, ok=ok, timeout=timeout)

    def announced(self, *arguments: str) -> dict[str, set[str]]:
        """Do a preview. Return names of operations by host, without hosts that have none.

        Fails unless the exit status is 0, or a node is refused and it is not.
        """
        run = self.pyinfra("--json", "--dry", *arguments, ok=False)
        found: dict[str, set[str]] = {}
        for operation in json.loads(run.out)["plan"]:
            hosts = operation["hosts_with_change"] + operation["hosts_with_conditional_change"]
            for host in hosts:
                found.setdefault(host, set()).add(operation["name"])
        refused = any(name.endswith(REFUSED) for names in found.values() for name in names)
        assert bool(run.status) == refused, run.text
        self.announced_why = reasons(run, found)
        return found

    def changed(self, *arguments: str) -> dict[str, set[str]]:
        """Do a run. Return names of operations that changed a host, by host."""
        return self._ran(self.pyinfra("--json", "-y", *arguments))[0]

    def ran(self, *arguments: str) -> tuple[dict[str, set[str]], set[str]]:
        """Do a run that may fail. Return what `changed` returns, and the hosts that failed."""
        return self._ran(self.pyinfra("--json", "-y", *arguments, ok=False))

    def _ran(self, run: Result) -> tuple[dict[str, set[str]], set[str]]:
        found: dict[str, set[str]] = {}
        failed: set[str] = set()
        for operation in json.loads(run.out)["results"]["operations"]:
            failed |= set(operation["error"])
            for host in operation["success"]:
                found.setdefault(host, set()).add(operation["name"])
        self.changed_why = reasons(run, found)
        return found, failed

    def exec(self, node: str, command: str, ok: bool = True) -> str:
        """Run a shell command as root inside a node, without ssh. Return its output.

        It does what `lab exec` does, but starts no Python for that.
        """
        try:
            done = run_inside(self.name, node, "sh", "-c", command)
        except (LabError, OSError) as error:  # the node is off, or its power is cut just now
            if ok:
                raise AssertionError(f"{node}: {command}\n{error}") from error
            return ""
        assert not (ok and done.returncode), f"{node}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def power(self, node: str, action: str) -> None:
        """Cut a node's power, switch it on, or both (cycle)."""
        self.lab("power", node, action)

    def boot_id(self, node: str) -> str:
        """Return what identifies the current boot of a node."""
        return self.exec(node, _BOOT_ID)

    def has_rebooted(self, node: str, before: str) -> bool:
        """Tell whether a node has booted since `before`. It may be down."""
        return self.exec(node, _BOOT_ID, ok=False) not in ("", before)

    def await_shares(self, *nodes: str) -> None:
        """Wait until these workers, all by default, have the share on /var/log again."""
        # Only the node's own check finds a mount whose servers do not answer
        mounted = (
            "systemctl start var-log-check.service && systemctl is-active -q var-log.service && "
            "findmnt -no SOURCE --mountpoint /var/log -t fuse.glusterfs"
        )
        for node in nodes or self.workers:
            wait_for(f"{node}'s share", partial(self.exec, node, mounted, ok=False), 180)

    def host(self, node: str) -> Host:
        """Return testinfra's connection to a node, as root over ssh."""
        return _connect(self.name, node, self.status["ssh_key"], self.status["known_hosts"])


def reasons(run: Result, operations: Mapping[str, Iterable[str]]) -> Reasons:
    """Return the reasons of these operations, by host, from the output of a preview or a run.

    Fails if an operation tells none.
    """
    found: Reasons = {}
    lines = [" ".join(unstyle(line).split()) for line in run.text.splitlines()]
    for host, names in operations.items():
        for name in names:
            refused = name.endswith(REFUSED)
            head = f"[{host}] {'Refused' if refused else name}: "
            why = [line.removeprefix(head) for line in lines if line.startswith(head)]
            assert why, f"no reason for: {head}\n{run.text}"
            found.setdefault(host, {})[name] = why
    return found


@contextmanager
def own_lab(name: str, keep: str, *options: str) -> Iterator[Cluster]:
    """Start a fresh lab for a session of tests, and remove it at the end.

    + keep: name of an environment variable. If it is set, its value is the name of a lab that is
      used as it is, and kept: for work on single modules
    + options: options of ``lab up``, ignored for a kept lab that is up
    """
    kept = os.environ.get(keep, "")
    cluster = Cluster(kept or name)
    if not kept:
        cluster.down()
    is_up = json.loads(cluster.lab("status", "--json").out)["up"]
    cluster.up(*([] if is_up else options))
    try:
        yield cluster
    finally:
        if not kept:
            cluster.down()


@cache
def _connect(lab: str, node: str, key: str, known_hosts: str) -> Host:
    config = Path(key).parent / "testinfra.config"
    connect = f"{sys.executable} {CHECKOUT}/tests/cluster/pass_connection.py %h %p"
    config.write_text(
        "Host *\n"
        "  User ubuntu\n"
        f"  IdentityFile {key}\n"
        f"  UserKnownHostsFile {known_hosts}\n"
        "  BatchMode yes\n"
        "  ControlMaster auto\n"
        f"  ControlPath {config.parent}/%h.control\n"
        "  ControlPersist 15\n"
        "  ProxyUseFdpass yes\n"
        f"  ProxyCommand {LAB} --name {lab} run -- {connect}\n"
    )
    return testinfra.get_host(f"ssh://{node}", ssh_config=str(config), sudo=True, timeout=20)


def limits(nodes: Iterable[str]) -> list[str]:
    """Return pyinfra's options that limit a run to these hosts."""
    return [word for node in nodes for word in ("--limit", node)]


def wait_for(
    what: str, condition: Callable[[], object], seconds: float = 60, *, pause: float = 0.3
) -> None:
    """Wait until `condition` is true. An ``AssertionError`` in it means: not yet."""
    deadline = time.monotonic() + seconds
    problem: object = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except AssertionError as error:
            problem = error
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {seconds:.0f} s{f' ({problem})' if problem else ''}")
