"""Measure how long the API's address does not answer when the proxy that owns it fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from tests.bench import nodes
from tests.bench.nodes import converge
from tests.bench.parts.options import Options
from tests.bench.report import Page, spread
from tests.bench.results import Results, say
from tests.cluster import proxy_faults as faults
from tests.cluster.failover import (
    LAN,
    PACE,
    Seen,
    await_proxies,
    other,
    owner,
    watched,
)
from tests.cluster.joined import join
from tests.cluster.lan_client import CONTROLLERS, ready
from tests.cluster.virtual_cluster import Cluster, wait_for

PART = "failover"
MINUTES = 240

LAB_NAME = "bench-failover"
PROXIES = ("pi5", "pi8")
WORKER = "pi1"
"""The worker with a client. It is a controller too, and no proxy."""
WORKERS = sorted({*CONTROLLERS, *PROXIES})

BEFORE, DURING, AFTER = 1.0, 8.0, 3.0
"""Seconds that the address is watched before a fault, while it lasts, and after it."""
SLOW = 5
"""Per cent of one processor that a slow node has."""
HEALED = 1.0
"""Seconds after the end of a partition from which on one proxy must own the address."""
PLACES = (LAN, "the other proxy", "a worker")

Fault = Callable[[Cluster, str, str], AbstractContextManager[None]]
"""A fault of the owner: it gets the cluster, the owner and the other proxy."""


@dataclass(frozen=True)
class Act:
    """Something that happens to the proxies.

    + runs: how often, in each round
    """

    runs: int
    fault: Fault


def _of_owner(
    fault: Callable[[Cluster, str], AbstractContextManager[None]],
) -> Fault:
    return lambda cluster, node, _: fault(cluster, node)


def _partition(both: bool, protocol: str, *, owner_is_deaf: bool = False) -> Fault:
    def fault(cluster: Cluster, node: str, standby: str) -> AbstractContextManager[None]:
        deaf, mute = (node, standby) if owner_is_deaf else (standby, node)
        return faults.partition(cluster, deaf, mute, both=both, protocol=protocol)

    return fault


UNPLANNED = {
    "power cut": Act(10, _of_owner(faults.power_cut)),
    "container killed": Act(2, _of_owner(faults.container_killed)),
    "HAProxy stopped (SIGSTOP)": Act(2, _of_owner(faults.haproxy_stopped)),
    "HAProxy killed": Act(2, _of_owner(faults.haproxy_killed)),
    "Docker stopped": Act(2, _of_owner(faults.docker_stopped)),
    "Docker's daemon killed": Act(2, _of_owner(faults.docker_killed)),
    "network link down": Act(2, _of_owner(faults.link_down)),
    "node frozen": Act(2, _of_owner(faults.frozen)),
    f"node slow ({SLOW} % of a processor)": Act(2, _of_owner(partial(faults.slow, percent=SLOW))),
}
"""What the owner does not know before. With the default of 5 rounds: 50 and 10 runs."""

PARTITIONS = {
    "both ways, all packets": Act(1, _partition(True, faults.ANY)),
    "both ways, VRRP": Act(1, _partition(True, faults.VRRP)),
    "the standby hears nothing": Act(1, _partition(False, faults.ANY)),
    "the owner hears nothing": Act(1, _partition(False, faults.ANY, owner_is_deaf=True)),
}
"""With the default of 5 rounds: 20 runs."""


def _restart(unit: str, cluster: Cluster, node: str) -> None:
    cluster.exec(node, f"systemctl restart {unit}")


def _reboot(cluster: Cluster, node: str) -> None:
    before = cluster.boot_id(node)
    cluster.exec(node, "systemctl reboot", ok=False)
    wait_for(f"another boot of {node}", partial(cluster.has_rebooted, node, before), 120)


PLANNED: dict[str, Callable[[Cluster, str], None]] = {
    "Docker restarted": partial(_restart, "docker"),
    "keepalived restarted": partial(_restart, "haproxy_vrrp"),
    "node rebooted": _reboot,
}
"""What is done to the owner, and then to the other proxy, which owns the address by then."""


def run(options: Options) -> None:
    """Measure all acts, each in turn, so that what disturbs the machine disturbs all of them."""
    results = options.results(PART)
    cluster = set_up()
    runs = {
        name: 1 if options.quick else act.runs * options.rounds
        for name, act in {**UNPLANNED, **PARTITIONS}.items()
    }
    for number in range(max(runs.values())):
        for name, act in {**UNPLANNED, **PARTITIONS}.items():
            if number < runs[name]:
                kind = "partition" if name in PARTITIONS else "unplanned"
                labels = {"kind": kind, "act": name}
                _once(results, options, labels, number, partial(measure, cluster, act.fault))
        if number < options.rounds:
            for name, change in PLANNED.items():
                labels = {"kind": "planned", "act": name}
                _once(results, options, labels, number, partial(in_turns, cluster, change))


def _once(
    results: Results,
    options: Options,
    labels: Mapping[str, str],
    number: int,
    measured: Callable[[], Mapping[str, float]],
) -> None:
    """Measure, unless the results have that sample already."""
    if results.count(labels) > number:
        return
    options.clock.check()
    values = measured()
    results.add(labels, values)
    shown = ", ".join(f"{key} {value:.6g}" for key, value in values.items())
    say(f"{number + 1}, {labels['act']}: {shown}")


def set_up() -> Cluster:
    """Return a lab with two proxies, whose controllers have joined a cluster."""
    cluster = nodes.lab(LAB_NAME, "--workers", ",".join(WORKERS), "--storage", "1")
    cluster.proxies = PROXIES
    converge(cluster, WORKERS)
    if ready(cluster, CONTROLLERS) != CONTROLLERS:
        join(cluster, *sorted(CONTROLLERS))
    return cluster


def measure(cluster: Cluster, fault: Fault) -> Mapping[str, float]:
    """Have the owner fail for a while. Return what clients saw, and how many owners there were."""
    await_proxies(cluster, PROXIES)
    owns = owner(cluster, PROXIES)
    standby = other(PROXIES, owns)
    with watched(cluster, [standby, WORKER]) as seen:
        time.sleep(BEFORE)
        with fault(cluster, owns, standby):
            time.sleep(DURING)
        healed = time.time()
        time.sleep(AFTER)
    return values(seen, dict(zip(PLACES, (LAN, standby, WORKER), strict=True)), healed)


def values(seen: Seen, places: Mapping[str, str], healed: float) -> dict[str, float]:
    """Return the numbers of one run.

    + places: where each client was, by its name in PLACES
    + healed: when the fault had ended
    """
    late = [seen.through(place, since=healed + HEALED) for place in places.values()]
    return {
        **{name: seen.gap(place) for name, place in places.items()},
        "requests": seen.requests,
        "failed": len(seen.failures),
        "asked": seen.owners["asked"],
        "several owners": len(seen.several_owners(until=healed + HEALED)),
        "several owners after": len(seen.several_owners(since=healed + HEALED)),
        "proxies for one client after": max(len(proxies) for proxies in late),
    }


def in_turns(cluster: Cluster, change: Callable[[Cluster, str], None]) -> Mapping[str, float]:
    """Do something planned to each proxy in its turn. Return what became of the requests."""
    totals = {"requests": 0.0, "failed": 0.0, "slowest": 0.0, "longest without": 0.0}
    for _ in PROXIES:
        await_proxies(cluster, PROXIES)
        owns = owner(cluster, PROXIES)
        standby = other(PROXIES, owns)
        with watched(cluster, [standby, WORKER]) as seen:
            time.sleep(BEFORE)
            change(cluster, owns)
            time.sleep(AFTER)
        for reason in seen.failures:
            say(f"failed: {reason}")
        totals["requests"] += seen.requests
        totals["failed"] += len(seen.failures)
        totals["slowest"] = max(totals["slowest"], seen.slowest)
        totals["longest without"] = max(totals["longest without"], seen.worst)
    return totals


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("When a proxy fails")
    page.say(
        "Two proxies, neither of them a controller, and three controllers. On the computer on the "
        f"LAN, on the other proxy and on a worker a client makes {PACE} requests a second to the "
        "API's address, each on a connection of its own with TLS; none is tried again. The number "
        "is the longest time in which no request was answered, in seconds: median, smallest and "
        "largest. All nodes share the processors of one computer.",
        "What happens to the proxy that owns the address:",
    )
    _table(page, results, "unplanned", UNPLANNED)
    page.say(
        "A frozen node's kernel goes on answering for an address that nobody takes from it, so the "
        "address has an end there that HAProxy's check puts off each second.",
        "Planned, in turns: the owner, then the other proxy, which owns the address by then. The "
        "requests of all three clients together:",
    )
    page.table(
        ["act", "runs", "requests", "failed", "slowest answer", "longest without an answer"],
        [
            [
                act,
                str(len(results.values("failed", act=act))),
                *(f"{sum(results.values(key, act=act)):,.0f}" for key in ("requests", "failed")),
                spread(results.values("slowest", act=act), "s"),
                spread(results.values("longest without", act=act), "s"),
            ]
            for act in PLANNED
            if results.values("failed", act=act)
        ],
    )
    page.say(
        "Partitions between the two proxies, while both reach everybody else. Each of them then "
        "believes that the other is dead, and both answer for the address. Who else is on the LAN "
        "gets through either way, because both send to the same controllers. The computer on the "
        "LAN asks by ARP 20 times a second: how often did two machines answer, while the partition "
        f"lasted, and later than {HEALED:.0f} s after its end?"
    )
    _table(page, results, "partition", PARTITIONS)
    page.table(
        ["partition", "asked", "two owners", "two owners after it", "proxies for one client"],
        [
            [
                act,
                *(
                    f"{sum(results.values(key, act=act)):,.0f}"
                    for key in ("asked", "several owners", "several owners after")
                ),
                f"{max(results.values('proxies for one client after', act=act)):.0f}",
            ]
            for act in PARTITIONS
            if results.values("asked", act=act)
        ],
    )
    page.say(
        "What others publish as their defaults is in "
        "[Two proxies](../two-proxies.md#what-others-do)."
    )
    return page


def _table(page: Page, results: Results, kind: str, acts: Mapping[str, Act]) -> None:
    rows: list[Sequence[str]] = []
    for act in acts:
        found = {place: results.values(place, kind=kind, act=act) for place in PLACES}
        if not any(found.values()):
            continue
        failed, requests = (
            sum(results.values(key, kind=kind, act=act)) for key in ("failed", "requests")
        )
        counted = f"{failed:,.0f} of {requests:,.0f}"
        runs = str(len(found[LAN]))
        rows.append([act, runs, *(spread(each, "s") for each in found.values()), counted])
    page.table(["act", "runs", *PLACES, "failed requests"], rows)
