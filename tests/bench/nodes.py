"""Start virtual clusters for the benchmarks, and measure commands on them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.relay import Traffic
from tests.bench.results import CHECKOUT, say
from tests.cluster.virtual_cluster import LAB, Cluster, limits

WORK = CHECKOUT / ".bench"
"""The folder for files that the benchmarks keep between runs. It is not in git."""

FOUR = ("pi1", "pi4", "pi5", "pi7")
"""Three controllers and the proxy."""


@dataclass(frozen=True)
class Run:
    """A finished command: what it printed, and what it took."""

    out: str
    err: str
    values: Mapping[str, float]


class RunError(AssertionError):
    """A contestant did not do its work, so its sample does not count."""


def lab(name: str, *options: str) -> Cluster:
    """Return the lab NAME. Start it with these options unless it is up."""
    cluster = Cluster(name)
    if json.loads(cluster.lab("status", "--json").out)["up"]:
        options = ()
    cluster.up("--swap", "none", *options) if options else cluster.up()
    return cluster


def inside(cluster: Cluster, node: str, script: str, *command: str) -> bytes:
    """Run a script as root inside a node, without ssh. Return what it prints.

    + command: the program that reads the script, ``sh -s`` by default
    """
    done = subprocess.run(
        [str(LAB), "--name", cluster.name, "exec", node, "--", *(command or ("sh", "-s"))],
        cwd=CHECKOUT,
        input=script.encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        what = shlex.join(command) or "a script"
        raise RunError(f"{node}: {what}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def timed(
    cluster: Cluster,
    *command: str,
    hosts_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 900,
    ok: bool = True,
) -> Run:
    """Run a command on a computer on the cluster's LAN. Return what it printed and took.

    + hosts_file: a file in place of ``/etc/hosts`` there
    + ok: whether a failure raises `RunError`
    """
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as folder:
        words = [sys.executable, "-m", "tests.bench.timed"]
        if hosts_file is not None:
            words += ["--hosts", str(hosts_file)]
        words += [folder, "--"]
        if environment:
            words += ["env", *(f"{key}={value}" for key, value in environment.items())]
        done = cluster.run(*words, *command, ok=False, timeout=timeout)
        out, err, result = (_text(Path(folder, name)) for name in ("out", "err", "result"))
    if not result:
        raise RunError(f"{shlex.join(command)}: not timed, {done.status}\n{done.text[-3000:]}")
    values: dict[str, float] = json.loads(result)
    status = values.pop("status")
    if ok and status:
        raise RunError(f"{shlex.join(command)}: status {status:.0f}\n{(out + err)[-3000:]}")
    return Run(out, err, values)


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def converge(cluster: Cluster, hosts: Sequence[str], *data: str) -> None:
    """Deploy the nodes, and check that nothing is left to be done.

    + data: options of pyinfra that give settings, as ``--data NAME=VALUE``
    """
    for attempt in (1, 2):
        changed = cluster.changed("deploy.py", *data, *limits(hosts))
        if not changed:
            return
        say(f"deployed ({attempt}): {', '.join(changed)}")
    if left := cluster.announced("deploy.py", *data, *limits(hosts)):
        raise RunError(f"the deploy does not come to an end: {left}")


@dataclass
class Way:
    """A way to the nodes through relays.

    + hosts_file: a file that leads there in place of ``/etc/hosts``
    + traffic: bytes by host, known when the relays have ended
    """

    hosts_file: Path
    traffic: dict[str, Traffic] = field(default_factory=dict)


@contextmanager
def through_relays(cluster: Cluster, hosts: Sequence[str], milliseconds: int = 0) -> Iterator[Way]:
    """Put a relay in front of each node's sshd, which delays round trips and counts bytes."""
    place = {host: f"127.20.0.{number}" for number, host in enumerate(hosts, 1)}
    ends = {f"{cluster.address(host)}:22": host for host in hosts}
    own = cluster.run("cat", "/etc/hosts").out.splitlines()
    lines = [f"{address} {host}" for host, address in place.items()]
    lines += [line for line in own if not set(line.split()[1:]) & set(hosts)]
    pairs = [f"{place[host]}:22={end}" for end, host in ends.items()]
    lab_run = (str(LAB), "--name", cluster.name, "run", "--")
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as folder:
        counts, way = Path(folder, "counts"), Way(Path(folder, "hosts"))
        way.hosts_file.write_text("\n".join(lines) + "\n")
        command = ("-m", "tests.bench.relay", str(milliseconds), str(counts), *pairs)
        relay = subprocess.Popen(
            (*lab_run, sys.executable, *command), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
        )
        try:
            assert relay.stdout is not None
            if relay.stdout.readline() != "ready\n":
                raise RunError("the relay does not start")
            yield way
        finally:
            relay.terminate()
            relay.wait(10)
            if counts.exists():
                found = json.loads(counts.read_text())
                way.traffic |= {ends[end]: Traffic(**each) for end, each in found.items()}
