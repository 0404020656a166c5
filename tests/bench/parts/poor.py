"""Measure a first deploy on slow cards, against bare scripts: time, MiB written and flushes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.bench import nodes
from tests.bench.contestants import deploy
from tests.bench.measure import Case, interleave
from tests.bench.nodes import RunError, converge
from tests.bench.parts.limit import and_see, make_fresh
from tests.bench.parts.options import Options, hosts_of
from tests.bench.report import Page, against
from tests.bench.results import Results
from tests.bench.shell import Scripts
from tests.cluster.virtual_cluster import Cluster

PART = "poor"
MINUTES = 120

LAB = "bench-poor"
_PYINFRA, _SCRIPT = "pyinfra", "shell script"
_TOGETHER = "shell script, one call of apt"
_SECTOR = 512


def run(options: Options) -> None:
    """Measure first deploys of a worker and the proxy."""
    results = options.results(PART)
    hosts = hosts_of(2)
    cards = [word for host in hosts for word in ("--card", host)]
    workers = ("--workers", ",".join(hosts), "--storage", "1")
    cluster = nodes.lab(LAB, *workers, *cards, "--card-speed", "poor")
    scripts = Scripts(cluster, hosts)
    if any(scripts.had_first(host) for host in hosts):
        make_fresh(cluster, hosts)
    converge(cluster, hosts)
    scripts.record()
    deploys: dict[str, Callable[[], Mapping[str, float]]] = {
        _PYINFRA: partial(deploy, cluster, hosts, changes=None),
        _SCRIPT: scripts.first,
        _TOGETHER: partial(scripts.first, together=True),
    }
    cases = [
        Case(
            {"hosts": len(hosts), "contestant": name},
            partial(and_see, partial(_with_cards, cluster, hosts, one), scripts),
            partial(make_fresh, cluster, hosts),
        )
        for name, one in deploys.items()
    ]
    interleave(cases, results, options.clock, options.rounds)


def _with_cards(
    cluster: Cluster, hosts: Sequence[str], one: Callable[[], Mapping[str, float]]
) -> Mapping[str, float]:
    """Do it. Return what it took, with what reached a card on average, synchronised after it."""
    before = {host: _stat(cluster, host) for host in hosts}
    values = one()
    for host in hosts:
        cluster.exec(host, "sync")
    after = {host: _stat(cluster, host) for host in hosts}
    if {host: found[0] for host, found in before.items()} != {
        host: found[0] for host, found in after.items()
    }:
        raise RunError("a card became another device, so what was written is not known")
    sectors, flushes = (
        sum(after[host][number] - before[host][number] for host in hosts) / len(hosts)
        for number in (1, 2)
    )
    return {**values, "written_mib": sectors * _SECTOR / 2**20, "flushes": flushes}


def _stat(cluster: Cluster, node: str) -> tuple[int, int, int]:
    """Return the number of the node's card, and its written sectors and flushes so far."""
    device = cluster.card(node)
    sectors, flushes = parse_stat(Path(f"/sys/block/{device}/stat").read_text())
    return int(device.removeprefix("loop")), sectors, flushes


def parse_stat(text: str) -> tuple[int, int]:
    """Return written sectors and completed flushes of a block device's ``stat``.

    The fields are those of Documentation/block/stat.rst of the kernel.
    """
    fields = text.split()
    return int(fields[6]), int(fields[15])


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("A first deploy on poor cards")
    page.say(
        "A worker and the proxy on cards as slow as a poor real one (`lab up --card-speed poor`): "
        "10 MB and 150 writes a second. dpkg synchronises each file, as on a Raspberry Pi. The "
        "scripts are those of [the limit](limit.md); the reboot is included. After each first "
        "deploy, by whomever, the nodes were seen in the same recorded state. MiB and flushes are "
        "those of a card on average, a `sync` at the end included.",
    )
    rows = [{"hosts": hosts} for hosts in results.labels("hosts")]
    contestants = (_TOGETHER, _PYINFRA, _SCRIPT)
    for value in ("seconds", "written_mib", "flushes"):
        against(results, page, rows, lambda row: f"{row['hosts']} nodes", contestants, value)
    return page
