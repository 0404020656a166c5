"""Measure a run without change over more and more nodes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from itertools import product
from statistics import median

from tests.bench import nodes
from tests.bench.baseline import COMMIT, build
from tests.bench.contestants import deploy
from tests.bench.measure import Case, interleave
from tests.bench.nodes import WORK, RunError, converge
from tests.bench.parts.options import Options
from tests.bench.plot import curves
from tests.bench.report import Page, number, ratio, spread
from tests.bench.results import Label, Results, say
from tests.cluster.virtual_cluster import Cluster, limits, wait_for

PART = "scale"
MINUTES = 60

_TEMPLATE_LAB, _LAB = "bench-template", "bench-scale"
_TEMPLATE = WORK / "template"
_INVENTORY = "tests/bench/scale_inventory.py"

_PARALLEL = 10
_ALL, _SOME = "all at once", f"--parallel {_PARALLEL}"
_EARLIER = f"commit {COMMIT}"
_CONTESTANTS = {_ALL: (), _SOME: ("--parallel", str(_PARALLEL))}


def run(options: Options) -> None:
    """Measure each number of nodes."""
    results = options.results(PART)
    sizes = (2, 3) if options.quick else (5, 10, 25, 50)
    cluster = clones(max(sizes))
    cases = [
        Case(
            {"hosts": size, "contestant": contestant},
            partial(deploy, cluster, cluster.workers[:size], "-y", *more, inventory=_INVENTORY),
            partial(rest, cluster),
        )
        for contestant, more in _CONTESTANTS.items()
        for size in sizes
        if not more or size > _PARALLEL
    ]
    interleave(cases, results, options.clock, options.rounds)
    hosts = cluster.workers[: max(sizes)]
    before: dict[str, Label] = {"hosts": len(hosts), "contestant": _EARLIER}
    if results.count(before) < options.rounds:
        earlier = partial(deploy, cluster, hosts, inventory=_INVENTORY, checkout=build())
        # It wants other things of the nodes, and to have all of them so takes too long to do it for
        # each sample
        say(f"{len(hosts)} clones as {_EARLIER} wants them")
        for _ in range(2):
            earlier(changes=None)
        last = Case(before, earlier, partial(rest, cluster))
        interleave([last], results, options.clock, options.rounds)


def clones(count: int) -> Cluster:
    """Return a lab of so many deployed nodes, cloned from one."""
    if not json.loads(Cluster(_LAB).lab("status", "--json").out)["up"]:
        if not (_TEMPLATE / "layer").exists():
            make_template()
        say(f"{count} clones")
        like = ("--like", str(_TEMPLATE))
        # All three servers: a controller asks each etcd, and waits 3 s for one that is off
        nodes.lab(_LAB, "--workers", str(count), "--storage", "3", *like)
    cluster = nodes.lab(_LAB)
    for first in range(0, count, 10):  # not all at once, as each mounts another volume now
        some = cluster.workers[first : first + 10]
        options = ("--json", "-y", *limits(some))
        for _ in range(3):
            run = cluster.run("pyinfra", _INVENTORY, "deploy.py", *options, ok=False, timeout=1800)
            if not run.status and not changes(run.out):
                break
        else:
            raise RunError(f"the clones do not come to rest: {run.text[-3000:]}")
        say(f"{len(some)} clones are as wanted")
    return cluster


def rest(cluster: Cluster, hosts: Sequence[str] = ()) -> None:
    """Wait until no node has a user manager, so that each run begins on idle nodes.

    systemd starts it with a user's first session, and stops it 10 s after the last one.

    + hosts: the nodes to wait for, by default all workers
    """
    asked = "systemctl is-active 'user@*' || true"
    wait_for(
        "all nodes at rest",
        lambda: not any(cluster.exec(node, asked) for node in hosts or cluster.workers),
    )


def make_template() -> None:
    """Deploy one node, switch it off, and keep its disk."""
    say("setting up the node that is cloned")
    cluster = nodes.lab(_TEMPLATE_LAB, "--workers", "pi1", "--storage", "1")
    converge(cluster, ["pi1"])
    cluster.exec("pi1", "rm -rf /var/cache/apt/archives/*.deb; systemctl poweroff")
    wait_for("pi1 off", lambda: not _running(cluster, "pi1"), 120)
    cluster.lab("save", "pi1", str(_TEMPLATE))
    cluster.down()


def _running(cluster: Cluster, name: str) -> bool:
    found = json.loads(cluster.lab("status", "--json").out)["nodes"]
    return bool(next(node["running"] for node in found if node["name"] == name))


def changes(out: str) -> list[str]:
    """Return the names of operations that changed a host or failed, from pyinfra's JSON."""
    found = json.loads(out)["results"]["operations"]
    return [one["name"] for one in found if one["success"] or one["error"]]


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("Many nodes")
    page.say(
        "One node was deployed and switched off, its disk cloned, and each clone deployed again, "
        "which gave it its own volume and address. All nodes run on the machine that runs "
        "pyinfra, so that the nodes' part of the work, too, has only these processors; the nodes "
        "beyond those asked are idle. A run begins when all nodes have ended the sessions of the "
        "one before, managers of users included. Memory is the peak of pyinfra's process.",
    )
    sizes = sorted({int(size) for size in results.labels("hosts")})
    rows: list[list[str]] = []
    points: dict[str, list[tuple[float, float]]] = {}
    for size, contestant in product(sizes, (*_CONTESTANTS, _EARLIER)):
        which: dict[str, int | str] = {"hosts": size, "contestant": contestant}
        wall = results.values("seconds", **which)
        if not wall:
            continue
        cpu = results.values("cpu_seconds", **which)
        points.setdefault(f"wall time, {contestant}", []).append((size, median(wall)))
        if contestant == _ALL:
            points.setdefault("CPU time of pyinfra", []).append((size, median(cpu)))
        each = f"{number(1000 * median(cpu) / size)} ms"
        busy = median(results.values("machine_seconds", **which))
        others = f"{number(1000 * (busy - median(cpu)) / size)} ms"
        at_work = f"{number(100 * busy / median(wall) / (os.cpu_count() or 1))} %"
        ours = [spread(wall, "s"), spread(cpu, "s"), each, others, at_work]
        memory = spread(results.values("memory_mib", **which), "MiB")
        rows.append([str(size), contestant, *ours, memory])
    head = ["nodes", "", "wall", "CPU of pyinfra", "a node", "CPU of the nodes, each"]
    page.table([*head, "processors at work", "memory"], rows)
    if len(sizes) > 1:
        least, most = sizes[0], sizes[-1]
        few, many = (
            results.median("memory_mib", hosts=size, contestant=_ALL) or 0 for size in (least, most)
        )
        page.say(f"Memory a further node: {number((many - few) / (most - least))} MiB.")
    ten = results.median("seconds", hosts=10, contestant=_ALL)
    fifty, in_turns = (
        ratio(results.median("seconds", hosts=50, contestant=one), ten) for one in _CONTESTANTS
    )
    page.say(
        f"50 nodes take {fifty} the wall time of 10, and {in_turns} with `{_SOME}`, which has no "
        "more than ten hosts worked on at the same time."
    )
    now, before = (results.median("seconds", hosts=50, contestant=one) for one in (_ALL, _EARLIER))
    page.say(
        f"50 nodes take {ratio(now, before)} the wall time of {_EARLIER}, which was measured after "
        "all others, on the same nodes as it wants them."
    )
    page.plot("scale.svg", curves("No-change run", "nodes", "seconds", points), "Time by nodes")
    return page
