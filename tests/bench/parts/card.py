"""Measure what a steady load of log messages writes to the card.

The nodes are undeployed, deployed, and with log2ram's approach.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chaos_engine.deploys.container_logs import sysctls
from chaos_engine.deploys.docker import DockerSettings
from chaos_engine.facts.sysctl import path as sysctl_path
from tests.bench import nodes
from tests.bench.nodes import RunError, converge, inside
from tests.bench.parts.options import Options
from tests.bench.plot import bars
from tests.bench.report import Page, spread
from tests.bench.report import number as shown
from tests.bench.results import CHECKOUT, Label, Results, Sample, say
from tests.cluster.virtual_cluster import Cluster

PART = "card"
MINUTES = 290

_LAB = "bench-card"
_SECTOR = 512
_SECONDS = 120
_HOUR = 3600
_WARM_UP = 30
"""Until the container's files have been rotated, and the first of them removed."""

NODES = {"undeployed": "pi1", "log2ram's approach": "pi2", "deployed": "pi3"}
"""The worker for each way of logging."""

SOURCES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "syslog, 1000 messages a second": ("syslog",),
    "a container, 200 lines a second": ("container",),
    "a service in /var/log, 100 lines a second": ("service",),
    "all three": ("syslog", "container", "service"),
}

_DEFAULTS = DockerSettings().docker_log_max_size, DockerSettings().docker_log_max_file


@dataclass(frozen=True)
class Output:
    """How the output of a container is kept.

    + size, files: ``max-size`` and ``max-file`` of Docker's logs
    + spared: whether the concern `container_logs` has set all its mount options
    + late: whether the kernel writes data back as late as with `container_logs_writeback`
    + hour: whether it is measured for one hour too
    """

    size: str
    files: int
    spared: bool = False
    late: bool = False
    hour: bool = True


OUTPUTS = {
    "10m x 3, the default before": Output("10m", 3),
    "by default": Output(*_DEFAULTS),
    "with mount options": Output(*_DEFAULTS, spared=True, hour=False),
    "with late writeback": Output(*_DEFAULTS, late=True, hour=False),
    "with both": Output(*_DEFAULTS, spared=True, late=True),
}
"""The ways to keep a container's output on the deployed node."""

_LATE_SECONDS = 600
_COMMIT = "commit=600"
_MOUNTED = {
    True: f"noatime,lazytime,{_COMMIT}",
    False: "relatime,nolazytime,commit=5",
}

# Lab nodes have no entry for the root in fstab, so `mount` is not asked for one
_REMOUNT = "mount -i -o remount,{} /"

_RUN = """
docker rm -f bench-running >/dev/null 2>&1
docker run -d -i --name bench-running --log-opt max-size={} --log-opt max-file={} \
  bench-shell /bin/sh -c 'while read -r line; do echo "$line"; done' >/dev/null
"""

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

    outputs(cluster, results, options)


def outputs(cluster: Cluster, results: Results, options: Options) -> None:
    """Measure the output of a running container, kept in each way, for two minutes and an hour."""
    seconds = 10 if options.quick else _SECONDS
    for number in range(1 if options.quick else options.rounds):
        for name, output in OUTPUTS.items():
            _output(cluster, results, options, name, output, seconds, number)
    if not options.quick:
        for name, output in OUTPUTS.items():
            if output.hour:
                _output(cluster, results, options, name, output, _HOUR, 0)


def _output(
    cluster: Cluster,
    results: Results,
    options: Options,
    name: str,
    output: Output,
    seconds: int,
    number: int,
) -> None:
    labels: dict[str, Label] = {"output": name, "seconds": seconds}
    if results.count(labels) > number:
        return
    options.clock.check()
    values = measure_output(cluster, output, seconds, 2 if options.quick else _WARM_UP)
    results.add(labels, values)
    say(f"container output, {name}, {seconds} s: {values}")


def measure_output(
    cluster: Cluster, output: Output, seconds: int, warm_up: int
) -> dict[str, float]:
    """Have a running container write lines. Return what was written to the deployed node's card.

    The value "synchronised" has also what was still in RAM at the end.
    """
    node = NODES["deployed"]
    cluster.exec(node, _REMOUNT.format(_MOUNTED[output.spared]))
    try:
        with late_writeback() if output.late else nullcontext():
            inside(cluster, node, _RUN.format(output.size, output.files))
            load(cluster, node, "running", warm_up)
            cluster.exec(node, "sync")
            before = sectors(cluster, node)
            load(cluster, node, "running", seconds)
            after = sectors(cluster, node)
            cluster.exec(node, "sync")
            last = sectors(cluster, node)
    finally:
        cluster.exec(node, _REMOUNT.format(_MOUNTED[False]))
    return {"bytes": (after - before) * _SECTOR, "synchronised": (last - before) * _SECTOR}


@contextmanager
def late_writeback() -> Iterator[None]:
    """Have this computer's kernel, which the nodes share, write data back late for a while."""
    parameters = {Path(sysctl_path(name)): value for name, value in sysctls(_LATE_SECONDS).items()}
    before = {file: file.read_text() for file in parameters}
    try:
        for file, value in parameters.items():
            file.write_text(value)
        yield
    finally:
        for file, value in before.items():
            file.write_text(value)


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
    rates = {"syslog": 1000, "container": 200, "running": 200, "service": 100}
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
    seconds = max(
        (int(s.labels["seconds"]) for s in results.samples if {"source", "seconds"} <= {*s.labels}),
        default=_SECONDS,
    )
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
    _report_outputs(page, results)
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


def _report_outputs(page: Page, results: Results) -> None:
    """Add the table of a container's output to the page."""
    rows = []
    first = next(iter(OUTPUTS))
    for seconds in sorted({int(s.labels["seconds"]) for s in results.samples if _is_output(s)}):
        base = results.median("bytes", output=first, seconds=seconds)
        for name in OUTPUTS:
            found = [
                [v / 2**20 for v in results.values(value, output=name, seconds=seconds)]
                for value in ("bytes", "synchronised")
            ]
            if not found[0]:
                continue
            middle = results.median("bytes", output=name, seconds=seconds)
            part = f"{100 * middle / base:.0f} %" if middle is not None and base else "-"
            day = [v * 86400 / seconds for v in found[0]]
            row = [f"{seconds} s, {name}", *(spread(values, "MiB") for values in found)]
            rows.append([*row, part, spread(day, "MiB")])
    if not rows:
        return
    page.say(
        "A container on the deployed node that runs already, and writes 200 lines a second "
        "(its start, which the rows above have too, is not counted). Mount options are "
        f"`{_MOUNTED[True]}`; late writeback is `chaos_container_logs_writeback = "
        f"{_LATE_SECONDS}`. The first number is what reached the card in that time; the second has "
        "also what was in RAM at its end, which a file that is removed in time takes with it.",
    )
    page.table(["time, container output", "written", "with the rest", "of before", "a day"], rows)


def _is_output(sample: Sample) -> bool:
    return "output" in sample.labels
