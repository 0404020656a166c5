"""Measure what a run without change costs the controller, with up to 200 simulated nodes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

from chaos_engine.facts.manifest import MANIFEST
from tests.bench import simulated
from tests.bench.measure import Case, interleave
from tests.bench.nodes import WORK, RunError, converge, inside, timed
from tests.bench.parts.options import Options
from tests.bench.parts.scale import changes
from tests.bench.plot import curves
from tests.bench.report import Page, number, spread
from tests.bench.results import Results, say
from tests.cluster.virtual_cluster import Cluster

PART = "many"
MINUTES = 20

_NODE = "pi1"
_RUN = ("tests/bench/many_inventory.py", "deploy.py", "-y", "--json")
_SIMULATED = (sys.executable, "-m", "tests.bench.simulated")
_MS, _MIB = 40, 0.35
"""What a further node may cost: milliseconds of the controller's processor, and memory."""

# Contents of the files that the deploy has written with the node's name in them
_FILES = rf"""
awk -F '\t' '$2 == "file" && $5 == "." {{ print $4 }}' {MANIFEST} | sort -u |
  xargs grep -lws {_NODE} -- | while IFS= read -r path; do base64 -w0 -- "$path"; echo; done
"""


def run(options: Options) -> None:
    """Measure each number of nodes."""
    results = options.results(PART)
    sizes = (2, 3) if options.quick else (25, 50, 100, 200)
    cluster = options.lab(1)
    folder = WORK / "many"
    folder.mkdir(parents=True, exist_ok=True)
    for size in sizes:
        record(cluster, size, folder / f"{size}.json")
    cases = [
        Case({"hosts": size}, partial(answer, cluster, size, folder / f"{size}.json"))
        for size in sizes
    ]
    interleave(cases, results, options.clock, options.rounds)
    profile = folder / "profile"
    answer(cluster, max(sizes), folder / f"{max(sizes)}.json", BENCH_PROFILE=str(profile))
    results.note("profile", profile.read_text().splitlines())
    converge(cluster, [_NODE])


def record(cluster: Cluster, size: int, file: Path) -> None:
    """Record what the real node answers as one of so many nodes, and its files with its name."""
    say(f"{_NODE} as one of {size} nodes")
    nodes = {"BENCH_NODES": str(size)}
    limit = ("--limit", _NODE)
    timed(cluster, "pyinfra", *_RUN, *limit, environment=nodes)
    run = timed(cluster, *_SIMULATED, "record", str(file), *_RUN, *limit, environment=nodes)
    if changed := changes(run.out):
        raise RunError(f"{_NODE} does not come to rest: {changed}")
    recording = simulated.Recording.load(file)
    recording.files = inside(cluster, _NODE, _FILES).decode().split()
    recording.save(file)


def answer(cluster: Cluster, size: int, file: Path, **environment: str) -> Mapping[str, float]:
    """Run with so many simulated nodes. Return what it took, without what the stand-in took."""
    run = timed(
        cluster,
        *(*_SIMULATED, "answer", str(file), *_RUN),
        environment={"BENCH_NODES": str(size), **environment},
    )
    done = json.loads(run.out)["results"]["operations"]
    if changed := changes(run.out):
        raise RunError(f"{size} simulated nodes are not as wanted: {changed}")
    if not done or any(len(one["no_change"]) != size for one in done):
        raise RunError(f"not every one of {size} simulated nodes went through all operations")
    (spent,) = (line for line in run.err.splitlines() if line.startswith(simulated.SPENT))
    own = float(spent.removeprefix(simulated.SPENT))
    return {**run.values, "cpu_seconds": run.values["cpu_seconds"] - own}


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("Hundreds of nodes on one controller")
    page.say(
        "What a run without change costs the controller. The nodes are simulated at pyinfra's "
        "connector ([simulated.py](../../tests/bench/simulated.py)): a real node is deployed as "
        "one of so many, its answer is recorded, and each simulated node gives this answer to the "
        f"very same script {simulated.DELAY:g} s after it was asked, with its own name, address, "
        "identities and checksums. All of them are found as wanted. What making up the answers "
        "takes is subtracted. ssh's own share, which is cryptography, is not in these numbers; it "
        "is in those of [real nodes](scale.md).",
    )
    sizes = sorted({int(size) for size in results.labels("hosts")})
    rows = []
    points: dict[str, list[tuple[float, float]]] = {}
    for size in sizes:
        wall, cpu, memory = (
            results.values(value, hosts=size) for value in ("seconds", "cpu_seconds", "memory_mib")
        )
        points.setdefault("processor time", []).append((size, median(cpu)))
        rows.append([str(size), spread(wall, "s"), spread(cpu, "s"), spread(memory, "MiB")])
    page.table(["nodes", "wall", "processor time", "memory at most"], rows)
    steps = [
        [f"from {few} to {many}", f"{number(ms)} ms", f"{number(mib)} MiB"]
        for few, many in pairwise(sizes)
        for ms, mib in [each(results, few, many)]
    ]
    if steps:
        page.say(
            f"What each further node costs; wanted are at most {_MS} ms and {_MIB} MiB, and the "
            "same at each step, for then the cost is linear."
        )
        page.table(["nodes", "processor time a node", "memory a node"], steps)
        page.plot("many.svg", curves("No-change run", "nodes", "seconds", points), "By nodes")
    if found := results.notes.get("profile"):
        page.say(
            f"Where the processor time with {sizes[-1]} nodes goes, in milliseconds: the fifteen "
            "functions that take most by themselves, and those with the most in what they call."
        )
        for column in (0, 1):
            largest = sorted(found, key=lambda line: -float(line.split()[column]))[:15]
            page.table(["function", "itself", "with calls"], map(_function, largest))
    return page


def each(results: Results, few: int, many: int) -> tuple[float, float]:
    """Return what each further node costs between two numbers: milliseconds, MiB."""
    cpu, memory = (
        (results.median(value, hosts=many) or 0) - (results.median(value, hosts=few) or 0)
        for value in ("cpu_seconds", "memory_mib")
    )
    return 1000 * cpu / (many - few), memory / (many - few)


def _function(line: str) -> list[str]:
    own, total, name = line.split(maxsplit=2)
    return [f"`{name}`", own, total]
