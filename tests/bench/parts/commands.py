"""Count the remote commands of a run, and the bytes over each connection."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial

from tests.bench.contestants import Ansible
from tests.bench.nodes import RunError, converge, through_relays, timed
from tests.bench.parts.ansible import spoil
from tests.bench.parts.limit import make_fresh
from tests.bench.parts.options import Options, hosts_of
from tests.bench.report import Page, spread
from tests.bench.results import Results, say
from tests.cluster.virtual_cluster import Cluster, limits

PART = "commands"
MINUTES = 40

_PROXY = "pi5"
_SCENARIOS = ("no change", "no change, --dry", "one file to fix", "first deploy")


def run(options: Options) -> None:
    """Measure each scenario."""
    results = options.results(PART)
    (size,) = options.sizes(4)
    cluster, hosts = options.lab(size), hosts_of(size)
    converge(cluster, hosts)
    playbook = Ansible(cluster, hosts)
    playbook.play(changes=None)
    converge(cluster, hosts)
    prepare: dict[str, Callable[[], None]] = {
        "one file to fix": partial(spoil, cluster, hosts),
        "first deploy": partial(make_fresh, cluster, hosts),
    }
    for scenario in _SCENARIOS:
        wanted = {"scenario": scenario, "contestant": "pyinfra", "node": "worker"}
        while results.count(wanted) < min(options.rounds, 2):
            options.clock.check()
            prepare.get(scenario, lambda: None)()
            count(cluster, hosts, scenario, results)
            converge(cluster, hosts)
    if not results.values("sent_kib", contestant="Ansible"):
        with through_relays(cluster, hosts) as way:
            playbook.play(hosts_file=way.hosts_file)
        for host in hosts:
            labels = {"scenario": "no change", "contestant": "Ansible", "node": _role(host)}
            results.add(labels, _kib(way.traffic[host].sent, way.traffic[host].received))


def count(cluster: Cluster, hosts: Sequence[str], scenario: str, results: Results) -> None:
    """Run the deploy once, and count."""
    flag = "--dry" if scenario.endswith("--dry") else "-y"
    with through_relays(cluster, hosts) as way:
        run = timed(
            cluster,
            *(sys.executable, "-m", "tests.cluster.count_commands"),
            *("inventory.py", "deploy.py", flag, "--json", *limits(hosts)),
            hosts_file=way.hosts_file,
            timeout=1800,
        )
    _, found, line = run.err.partition("commands: ")
    if not found:
        raise RunError(f"nothing was counted: {run.err[-2000:]}")
    commands = json.loads(line.splitlines()[0])
    for host in hosts:
        labels = {"scenario": scenario, "contestant": "pyinfra", "node": _role(host)}
        traffic = _kib(way.traffic[host].sent, way.traffic[host].received)
        results.add(labels, {"commands": commands[host], **traffic})
    say(f"{scenario}: {commands}")


def _role(host: str) -> str:
    return "proxy" if host == _PROXY else "worker"


def _kib(sent: int, received: int) -> dict[str, float]:
    return {"sent_kib": sent / 1024, "received_kib": received / 1024}


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("Remote commands and bytes")
    page.say(
        "Commands are counted where pyinfra gives them to ssh; bytes by a relay before each sshd, "
        "so with all that ssh itself adds, in KiB for one node. A first deploy includes the "
        "reboot, and the program of cri-dockerd, which goes to each node once.",
    )
    rows = []
    for scenario in _SCENARIOS:
        for contestant in ("pyinfra", "Ansible"):
            for node in ("worker", "proxy"):
                labels = {"scenario": scenario, "contestant": contestant, "node": node}
                values = [
                    results.values(value, **labels)
                    for value in ("commands", "sent_kib", "received_kib")
                ]
                if values[1]:
                    rows.append([f"{scenario}, {node}, {contestant}", *map(spread, values)])
    page.table(["one node", "commands", "KiB to it", "KiB from it"], rows)
    return page
