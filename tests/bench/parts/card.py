"""Measure what a steady load of log messages writes to the card.

The nodes are undeployed, deployed, and with log2ram's approach.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import nodes
from tests.bench.nodes import RunError, converge, inside
from tests.bench.parts.options import Options
from tests.bench.plot import bars
from tests.bench.report import Page, spread
from tests.bench.report import number as shown
from tests.bench.results import CHECKOUT, Label, Results, say
from tests.cluster.virtual_cluster import Cluster

PART = "card"
MINUTES = 80

_LAB = "bench-card"
_SECTOR = 512
_SECONDS = 120

NODES = {"undeployed": "pi1", "log2ram's approach": "pi2", "deployed": "pi3"}
"""The worker for each way of logging."""

SOURCES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "syslog, 1000 messages a second": ("syslog",),
    "a container, 200 lines a second": ("container",),
    "a service in /var/log, 100 lines a second": ("service",),
    "all three": ("syslog", "container", "service"),
}

_LOG2RAM = CHECKOUT / "tests/bench/card/log2ram.sh"
_LOAD = CHECKOUT / "tests/bench/card/load.py"

# Installs Debian's Docker, and makes an image of the node's own shell, as no registry has one
_DOCKER = r"""
set -eu
command -v docker >/dev/null || {
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update && apt-get -y -q install --no-install-recommends docker.io docker-cli
} >/dev/null </dev/null
docker image inspect bench-shell >/dev/null 2>&1 ||
  tar -chf - /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') | docker import - bench-shell >/dev/null
"""

# Lists files on the card that were changed since the mark
_CHANGED = r"""
for place in / /boot/firmware; do
  find $place -xdev -newer /run/bench.mark -type f -printf '%s %p\n' 2>/dev/null
done
"""


@dataclass(frozen=True)
class Changed:
    """A file that was written to, and its size after that."""

    path: str
    size: int


def run(options: Options) -> None:
    """Measure each source on each node."""
    results = options.results(PART)
    seconds = 10 if options.quick else _SECONDS
    workers = ",".join(NODES.values())
    cards = [word for node in NODES.values() for word in ("--card", node)]
    cluster = nodes.lab(_LAB, "--workers", workers, "--storage", "3", *cards)
    set_up(cluster)
    for number in range(1 if options.quick else options.rounds):
        for source, programs in SOURCES.items():
            wanted: dict[str, Label] = {"source": source, "seconds": seconds}
            if results.count({**wanted, "way": "deployed"}) > number:
                continue
            options.clock.check()
            # The nodes can run at once, as each has its own card
            one = partial(measure, cluster, programs=programs, seconds=seconds)
            with ThreadPoolExecutor(len(NODES)) as pool:
                found = pool.map(one, NODES)
                for way, (values, changed) in zip(NODES, found, strict=True):
                    results.add({**wanted, "way": way}, values)
                    _note(results, way, source, changed)
                    say(f"{way}, {source}: {values}")


def set_up(cluster: Cluster) -> None:
    """Bring each node to its way of logging, with Docker and an image."""
    deployed = NODES["deployed"]
    converge(cluster, [deployed])
    for way, node in NODES.items():
        cluster.exec(node, _DOCKER)
        if (
            way.startswith("log2ram")
            and cluster.exec(node, "findmnt -no FSTYPE /var/log", ok=False) != "tmpfs"
        ):
            log2ram(cluster, node, "start")


def measure(
    cluster: Cluster, way: str, programs: Sequence[str], seconds: int
) -> tuple[Mapping[str, float], list[Changed]]:
    """Log for a while. Return what was written to the node's card, and the changed files."""
    node = NODES[way]
    if way.startswith("log2ram"):
        log2ram(cluster, node, "empty")
    cluster.exec(node, "sync; touch /run/bench.mark")
    before = sectors(cluster, node)
    if programs:
        with ThreadPoolExecutor(len(programs)) as pool:
            list(pool.map(lambda name: load(cluster, node, name, seconds), programs))
    else:
        cluster.exec(node, f"sleep {seconds}")
    if way.startswith("log2ram"):
        # The write that it postpones to its stop or the next day counts too
        log2ram(cluster, node, "sync")
    cluster.exec(node, "sync")
    written = (sectors(cluster, node) - before) * _SECTOR
    return {"bytes": written}, parse_changed(cluster.exec(node, _CHANGED))


def log2ram(cluster: Cluster, node: str, action: str) -> None:
    """Do an action of the imitation of log2ram on a node: start, empty or sync."""
    inside(cluster, node, _LOG2RAM.read_text(), "sh", "-s", action)


def load(cluster: Cluster, node: str, program: str, seconds: int) -> None:
    """Run one source of messages. Raise `RunError` if it could not keep its rate."""
    rates = {"syslog": 1000, "container": 200, "service": 100}
    script = _LOAD.read_text()
    output = inside(cluster, node, script, "python3", "-", program, str(seconds)).decode()
    if int(output.split()[-1]) < 0.95 * rates[program] * seconds:
        raise RunError(f"{program} on {node}: only {output} messages in {seconds} s")


def sectors(cluster: Cluster, node: str) -> int:
    """Return the number of 512-byte sectors that were ever written to the node's card."""
    found = json.loads(cluster.lab("status", "--json").out)["nodes"]
    device = next(each["card"] for each in found if each["name"] == node)
    return int(Path(f"/sys/block/{device}/stat").read_text().split()[6])


def parse_changed(text: str) -> list[Changed]:
    """Parse lines ``SIZE PATH``. Return the largest files first."""
    pairs = (line.split(" ", 1) for line in text.splitlines())
    found = [Changed(path, int(size)) for size, path in pairs]
    return sorted(found, key=lambda each: -each.size)


def kinds(changed: Iterable[Changed]) -> list[str]:
    """Return the paths, each once, with `*` for names that differ from run to run."""
    found = []
    for each in changed:
        words = ["*" if _is_name_of_one(word) else word for word in each.path.split("/")]
        found.append("/".join(words))
    return list(dict.fromkeys(found))


def _is_name_of_one(word: str) -> bool:
    stem = word.removesuffix("-json.log")
    rotated = word.startswith("system@")  # a file of the journal's
    return rotated or (len(stem) >= 32 and all(c in "0123456789abcdef" for c in stem))


def _note(results: Results, way: str, source: str, changed: Sequence[Changed]) -> None:
    files = results.notes.get("files", {})
    files.setdefault(way, {})[source] = kinds(changed)[:8]
    results.note("files", files)


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("What reaches the card")
    seconds = max((int(s) for s in results.labels("seconds")), default=_SECONDS)
    page.say(
        f"Bytes written to the device that a node's root lies on, in {seconds} s under a steady "
        "load, journal and metadata of ext4 included, synchronised before and after. Undeployed is "
        "Debian as the image has it: rsyslog's own rules and a persistent journal. log2ram's "
        "approach is an imitation of ours ([log2ram.sh](../../tests/bench/card/log2ram.sh)): "
        "`/var/log` in RAM, emptied before and copied to the card once, at the end; the real one "
        "does so once a day and at shutdown, and loses what it has not copied at a power cut. "
        "Docker's logs are below `/var/lib/docker`, which only a data root elsewhere takes off the "
        "card; they are capped on the deployed node.",
    )
    ways = list(NODES)
    rows, chart = [], {}
    for source in SOURCES:
        found = {
            way: [v / 2**20 for v in results.values("bytes", source=source, way=way)]
            for way in ways
        }
        if not any(found.values()):
            continue
        rows.append([source, *(spread(found[way], "MiB") for way in ways)])
        chart[source] = {way: sum(v) / len(v) for way, v in found.items() if v}
    page.table([f"source, {seconds} s", *ways], rows)
    page.plot("card.svg", bars("Written to the card", "MiB", chart), "Bytes written to the card")
    page.say("Which files on the card were written to, the largest first:")
    files: dict[str, dict[str, list[str]]] = results.notes.get("files", {})
    for way, by_source in files.items():
        lines = [
            f"- {way}, {source}: {', '.join(f'`{path}`' for path in paths) or 'none'}"
            for source, paths in by_source.items()
        ]
        page.say("\n".join(lines))
    day = results.median("bytes", source="all three", way="deployed")
    if day is not None:
        page.say(f"Deployed, all three: {shown(day * 86400 / seconds / 2**20)} MiB a day.")
    return page
