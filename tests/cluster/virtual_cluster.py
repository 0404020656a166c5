"""The virtual cluster as tests and the demo use it: the lab's commands, and ssh to its nodes."""

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

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = CHECKOUT / "tests" / "lab" / "lab"


Reasons = dict[str, dict[str, list[str]]]
"""Why each operation changes a node: lines by host and by name of the operation."""

REFUSED = "Refuse node"
"""Ends the name of the one operation of a node that is refused."""


@dataclass(frozen=True)
class Result:
    """A finished command."""

    command: tuple[str, ...]
    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything that it printed."""
        return self.out + self.err


_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@dataclass
class Cluster:
    """One lab, by its name."""

    name: str
    status: dict[str, Any] = field(default_factory=dict)
    announced_why: Reasons = field(default_factory=dict)
    changed_why: Reasons = field(default_factory=dict)
    """What the last preview and the last run said of why."""

    def lab(self, *arguments: str, ok: bool = True, timeout: float = 900) -> Result:
        """Run a command of the lab; with `ok`, its failure is the test's."""
        command = (str(LAB), "--name", self.name, *arguments)
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=self._environment,
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
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of the lab, with pipes to all that it reads and prints."""
        return subprocess.Popen(
            (str(LAB), "--name", self.name, *arguments),
            cwd=CHECKOUT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def up(self, *options: str) -> None:
        """Start it; its progress is shown as it comes."""
        subprocess.run([LAB, "--name", self.name, "up", *options], cwd=CHECKOUT, check=True)
        self.status = json.loads(self.lab("status", "--json").out)

    def down(self) -> None:
        """Remove it."""
        self.lab("down")

    def address(self, node: str) -> str:
        """A node's address on the LAN."""
        return next(str(n["address"]) for n in self.status["nodes"] if n["name"] == node)

    @property
    def workers(self) -> list[str]:
        """The names of the workers that this lab has."""
        return [str(n["name"]) for n in self.status["nodes"] if n["role"] == "worker"]

    @property
    def carded(self) -> str:
        """The worker whose disk is of limited size."""
        found = [str(n["name"]) for n in self.status["nodes"] if n["card"]]
        assert found, f"no worker of the lab {self.name} has a card; it needs: lab up --card NODE"
        return found[0]

    @property
    def limit(self) -> list[str]:
        """pyinfra's options that leave out the inventory's hosts that this lab has not."""
        return limits(self.workers)

    def run(self, *command: str, ok: bool = True, timeout: float = 900) -> Result:
        """Run a command as a computer on the cluster's LAN."""
        return self.lab("run", "--", *command, ok=ok, timeout=timeout)

    def pyinfra(self, *arguments: str, ok: bool = True, timeout: float = 1200) -> Result:
        """``pyinfra inventory.py ARGUMENTS``, over the nodes that this lab has unless limited."""
        limit = [] if "--limit" in arguments else self.limit
        return self.run("pyinfra", "inventory.py", *arguments, *limit, ok=ok, timeout=timeout)

    def announced(self, *arguments: str) -> dict[str, set[str]]:
        """What a preview lists: names of operations by host, hosts without any left out.

        Its exit status must be that of a success, unless a node is refused.
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
        """What a run changes: names of operations by host, hosts without any left out."""
        return self._ran(self.pyinfra("--json", "-y", *arguments))[0]

    def ran(self, *arguments: str) -> tuple[dict[str, set[str]], set[str]]:
        """What a run changes, and the hosts that failed in it."""
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
        """Run a shell command as root inside a node, past ssh; its output."""
        return self.lab("exec", node, "--", "sh", "-c", command, ok=ok).out.strip()

    def power(self, node: str, action: str) -> None:
        """Cut a node's power, switch it on, or both (cycle)."""
        self.lab("power", node, action)

    def boot_id(self, node: str) -> str:
        """Which boot a node is in."""
        return self.exec(node, _BOOT_ID)

    def has_rebooted(self, node: str, before: str) -> bool:
        """Whether a node, which may be down, runs another boot than the one before."""
        return self.exec(node, _BOOT_ID, ok=False) not in ("", before)

    def await_shares(self, *nodes: str) -> None:
        """Wait until these workers, all by default, have the share on /var/log again."""
        # The node's own check, for a mount may be there whose servers have been given up
        mounted = (
            "systemctl start var-log-check.service && systemctl is-active -q var-log.service && "
            "findmnt -no SOURCE --mountpoint /var/log -t fuse.glusterfs"
        )
        for node in nodes or self.workers:
            wait_for(f"{node}'s share", partial(self.exec, node, mounted, ok=False), 180)

    def host(self, node: str) -> Host:
        """A node over ssh, as testinfra sees it; as root."""
        return _connect(self.name, node, self.status["ssh_key"], self.status["known_hosts"])


def reasons(run: Result, operations: Mapping[str, Iterable[str]]) -> Reasons:
    """What a preview or a run said of why each of these operations, by host, changes its node.

    Each has to give a reason.
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
    """A lab for a session of tests: fresh, removed at the end.

    + keep: an environment variable; where it is set, the lab is the one of the name that it has,
      taken as it is and left as it is: for work on single modules
    + options: of ``lab up``; not for a lab that is kept and is up
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
    """pyinfra's options for these hosts alone."""
    return [word for node in nodes for word in ("--limit", node)]


def wait_for(what: str, condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until `condition` is true; an ``AssertionError`` in it counts as not yet."""
    deadline = time.monotonic() + seconds
    problem: object = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except AssertionError as error:
            problem = error
        time.sleep(0.3)
    raise AssertionError(f"{what}: not within {seconds:.0f} s{f' ({problem})' if problem else ''}")
