"""Measure what steady loads write to the card of a node.

Rows that need different nodes are measured side by side, as each node has a card of its own. Late
writeback is a setting of the kernel, which the nodes share, so its rows have a time of their own.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chaos_engine.deploys.container_logs import sysctls
from chaos_engine.deploys.docker import DockerSettings
from chaos_engine.facts.sysctl import path as sysctl_path
from tests.bench import nodes
from tests.bench.log2ram import install as install_log2ram
from tests.bench.nodes import RunError, converge, inside
from tests.bench.parts.options import Options
from tests.bench.plot import bars
from tests.bench.report import Page, spread
from tests.bench.report import number as shown
from tests.bench.results import CHECKOUT, Label, Results, Sample, say
from tests.cluster import joined
from tests.cluster.virtual_cluster import Cluster, wait_for

PART = "card"
MINUTES = 240

_LAB = "bench-card"
_SECTOR = 512
_SECONDS = 120
_HOUR = 3600
_DAY = 86400
_QUICK = 10
_WARM_UP = 30
"""Until the container's files have been rotated, and the first of them removed."""

_UNDEPLOYED, _IDLE_NODE = "pi9", "pi8"
# pi11 would have the address of the API
_LOG2RAM_NODE, _IMITATING = "pi12", "pi10"
_ELSEWHERE, _SENDING = "pi4", "pi7"
_LOG_SERVER = "etcd3"

NODES = {
    "undeployed": _UNDEPLOYED,
    "log2ram": _LOG2RAM_NODE,
    "log2ram imitated": _IMITATING,
    "deployed": _IDLE_NODE,
}
"""The worker for each way of logging."""

DEPLOYED: dict[tuple[str, ...], tuple[str, ...]] = {
    (): ("pi1", "pi2", "pi3", "pi5", "pi6", _IDLE_NODE),
    ("--data", "chaos_docker_data_root=/srv/docker"): (_ELSEWHERE,),
    ("--data", "chaos_log_containers=True", "--data", "chaos_log_protocol=tcp"): (_SENDING,),
}
"""The workers that are deployed, by what is set for them besides the site's settings."""

_WORKERS = sorted({*NODES.values(), *(node for found in DEPLOYED.values() for node in found)})

SOURCES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "syslog, 1000 messages a second": ("syslog",),
    "a container, 200 lines a second": ("container",),
    "a service in /var/log, 100 lines a second": ("service",),
    "all three": ("syslog", "container", "service"),
}

_DEFAULTS = DockerSettings().docker_log_max_size, DockerSettings().docker_log_max_file
_BEFORE = "10m", 3
_ONE = ("running",)
_ALL = ("syslog", "running", "service")


@dataclass(frozen=True)
class Row:
    """Something to measure on a node.

    + programs: what loads it; none for an idle node
    + rotation: ``max-size`` and ``max-file`` of the running container's logs, ``None`` for Docker's
      own defaults
    + spared: whether the node's root has all mount options of the concern `container_logs`
    + late: whether the kernel writes data back as late as with `container_logs_writeback`
    + sent: whether the container's lines are counted at the log server
    + zram: whether Docker's data lie in compressed RAM
    + hour: whether it is measured for one hour too
    """

    node: str
    programs: tuple[str, ...] = ()
    rotation: tuple[str, int] | None = None
    spared: bool = False
    late: bool = False
    sent: bool = False
    zram: bool = False
    hour: bool = True


OUTPUTS = {
    "10m x 3, the default before": Row("pi1", _ONE, _BEFORE),
    "by default": Row("pi2", _ONE, _DEFAULTS),
    "with mount options": Row("pi3", _ONE, _DEFAULTS, spared=True),
    "with late writeback": Row("pi2", _ONE, _DEFAULTS, late=True),
    "with both": Row("pi3", _ONE, _DEFAULTS, spared=True, late=True),
    "by default, lines sent to the log server": Row(_SENDING, _ONE, _DEFAULTS, sent=True),
    "data root elsewhere": Row(_ELSEWHERE, _ONE, _DEFAULTS),
    "data root in zram": Row(_ELSEWHERE, _ONE, _DEFAULTS, zram=True, hour=False),
    "log2ram": Row(_LOG2RAM_NODE, _ONE),
    "log2ram imitated": Row(_IMITATING, _ONE),
}
"""The ways to keep a container's output."""

TOGETHER = {
    "10m x 3, the default before": Row("pi5", _ALL, _BEFORE),
    "by default": Row("pi6", _ALL, _DEFAULTS),
    "with both": Row("pi6", _ALL, _DEFAULTS, spared=True, late=True),
}
"""The same ways, with all three loads."""

IDLE = {
    "undeployed, with Docker": Row(_UNDEPLOYED),
    "deployed, with Docker and kubelet": Row(_IDLE_NODE),
}

_TABLES = {"output": OUTPUTS, "together": TOGETHER, "idle": IDLE}
"""The rows of each table, by the label of their samples."""

_LATE_SECONDS = 600
_COMMIT = "commit=600"
_MOUNTED = {
    True: f"noatime,lazytime,{_COMMIT}",
    False: "relatime,nolazytime,commit=5",
}

# Lab nodes have no entry for the root in fstab, so `mount` is not asked for one
_REMOUNT = "mount -i -o remount,{} /"

# A plain `sync` would be for all nodes, as they share a kernel
_SYNC = "sync -f /"

_RUN = """
docker rm -f bench-running >/dev/null 2>&1
docker run -d -i --name bench-running {} \
  bench-shell /bin/sh -c 'while read -r line; do echo "$line"; done' >/dev/null
"""

# A file system in RAM stands for another disk: what counts is what is left on the card
_MOUNT_ELSEWHERE = """
set -eu
mkdir -p /srv/docker
grep -q ' /srv/docker ' /etc/fstab ||
  echo 'tmpfs /srv/docker tmpfs size=1G,mode=711 0 0' >>/etc/fstab
systemctl daemon-reload
mountpoint -q /srv/docker || mount /srv/docker
"""

_ZRAM = Path("/sys/class/zram-control")

# With live-restore a container would go on, with its files in the file system that was there before
_STOP_DOCKER = """
set -eu
docker rm -f bench-running >/dev/null 2>&1 || true
systemctl stop docker.socket docker.service
"""
_TO_ZRAM = """
mknod -m 600 /dev/{device} b {number}
mkfs.ext4 -q /dev/{device}
mount /dev/{device} /srv/docker
systemctl start docker.service
"""
_FROM_ZRAM = """
! grep -q '^/dev/{device} ' /proc/mounts || umount /srv/docker
rm -f /dev/{device}
systemctl start docker.service
"""

# Waits until whoever started it has ended, however that came, or has closed the pipe
_RESTORE = """
cat >/dev/null
for pair; do
  echo "${pair#*=}" >"${pair%%=*}"
done
"""

_LOG2RAM = {
    _LOG2RAM_NODE: CHECKOUT / "tests/bench/card/log2ram.sh",
    _IMITATING: CHECKOUT / "tests/bench/card/log2ram_imitation.sh",
}
"""What does log2ram's work on each of its nodes."""
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


@dataclass(frozen=True)
class Case:
    """A row to be measured for a time.

    + labels: those of its sample
    + number: how many samples there are before
    """

    labels: Mapping[str, Label]
    row: Row
    seconds: int
    number: int = 0


def run(options: Options) -> None:
    """Measure what is missing, side by side as far as that can be."""
    results = options.results(PART)
    cards = [word for node in _WORKERS for word in ("--card", node)]
    cluster = nodes.lab(_LAB, "--workers", ",".join(_WORKERS), "--storage", "3", *cards)
    set_up(cluster)
    results.note("zram", _ZRAM.exists())
    pending = [
        case
        for case in cases(options.rounds, quick=options.quick)
        if results.count(case.labels) <= case.number and (not case.row.zram or _ZRAM.exists())
    ]
    failed: list[str] = []
    with joined.joined(cluster, [_IDLE_NODE]):
        while pending:
            options.clock.check()
            step = side_by_side(pending)
            pending = [case for case in pending if case not in step]
            failed += _measure_step(cluster, results, step, 2 if options.quick else _WARM_UP)
    if failed:
        raise RunError(
            "some rows are missing; the same command measures them\n" + "\n".join(failed)
        )


def cases(rounds: int, *, quick: bool) -> list[Case]:
    """Return all that is to be measured: one round of short cases, the long ones, more rounds.

    + quick: whether all take some seconds
    """
    if quick:
        return _short_cases(0, _QUICK, quick=True)
    long = [
        Case({label: name, "seconds": _HOUR}, row, _HOUR)
        for label, rows in _TABLES.items()
        for name, row in rows.items()
        if row.hour
    ]
    first, *others = (_short_cases(number, _SECONDS) for number in range(rounds))
    return [*first, *_late_last(long), *(case for found in others for case in found)]


def _short_cases(number: int, seconds: int, *, quick: bool = False) -> list[Case]:
    found = [
        Case({label: name, "seconds": seconds}, row, seconds, number)
        for label, rows in _TABLES.items()
        for name, row in rows.items()
        if label != "idle" or quick
    ]
    found += [
        Case(
            {"source": source, "way": way, "seconds": seconds},
            Row(node, programs),
            seconds,
            number,
        )
        for source, programs in SOURCES.items()
        for way, node in NODES.items()
    ]
    return _late_last(found)


def _late_last(found: Iterable[Case]) -> list[Case]:
    return sorted(found, key=lambda case: case.row.late)


def side_by_side(pending: Sequence[Case]) -> list[Case]:
    """Return the first case, and those that can be measured beside it, one a node.

    Beside the cases of a node that has many, the next round of the others is measured already.
    """
    first = pending[0]
    found: dict[str, Case] = {}
    for case in pending:
        if (case.seconds, case.row.late) == (first.seconds, first.row.late):
            found.setdefault(case.row.node, case)
    return list(found.values())


def _measure_step(
    cluster: Cluster, results: Results, step: Sequence[Case], warm_up: int
) -> list[str]:
    """Measure cases side by side. Return which failed, and why."""
    failed = []
    with (
        late_writeback() if step[0].row.late else nullcontext(),
        ThreadPoolExecutor(len(step)) as pool,
    ):
        running = {pool.submit(measure, cluster, case, warm_up): case for case in step}
        for done in as_completed(running):
            case = running[done]
            words = ", ".join(map(str, case.labels.values()))
            try:
                values, changed = done.result()
            except AssertionError as error:
                failed.append(f"{words}: {error}")
                say(f"FAILED {failed[-1]}")
                continue
            results.add(case.labels, values)
            _note(results, case, changed)
            say(f"{words} s: {values}")
    return failed


@contextmanager
def late_writeback(parameters: Mapping[Path, str] | None = None) -> Iterator[None]:
    """Have this computer's kernel, which the nodes share, write data back late for a while.

    A process of its own sets the old values again, also if this one is killed.

    + parameters: files and their values for this time, by default the kernel's
    """
    if parameters is None:
        late = sysctls(_LATE_SECONDS)
        parameters = {Path(sysctl_path(name)): value for name, value in late.items()}
    pairs = [f"{file}={file.read_text().strip()}" for file in parameters]
    with subprocess.Popen(
        ["sh", "-c", _RESTORE, "sh", *pairs], stdin=subprocess.PIPE, start_new_session=True
    ) as restore:
        try:
            for file, value in parameters.items():
                file.write_text(value)
            yield
        finally:
            assert restore.stdin is not None
            restore.stdin.close()
            restore.wait()


@contextmanager
def zram(cluster: Cluster, node: str) -> Iterator[Path]:
    """Put Docker's data into compressed RAM for a while. Yield the device's folder below /sys."""
    number = (_ZRAM / "hot_add").read_text().strip()
    device = Path(f"/sys/block/zram{number}")
    try:
        (device / "disksize").write_text("1G")
        words = {
            "device": device.name,
            "number": (device / "dev").read_text().strip().replace(":", " "),
        }
        try:
            inside(cluster, node, _STOP_DOCKER + _TO_ZRAM.format(**words))
            cluster.exec(node, _DOCKER)
            yield device
        finally:
            inside(cluster, node, _STOP_DOCKER + _FROM_ZRAM.format(**words))
    finally:
        (_ZRAM / "hot_remove").write_text(number)


def set_up(cluster: Cluster) -> None:
    """Bring each node to its way of logging, with Docker and an image."""
    if joined.kubelet(cluster, _IDLE_NODE):
        joined.leave(cluster, _IDLE_NODE)  # an earlier run was killed
    cluster.exec(_ELSEWHERE, _MOUNT_ELSEWHERE)
    for data, names in DEPLOYED.items():
        converge(cluster, names, *data)
    with ThreadPoolExecutor(len(_WORKERS)) as pool:
        list(pool.map(lambda node: cluster.exec(node, _DOCKER), _WORKERS))
    install_log2ram(cluster, _LOG2RAM_NODE)
    if cluster.exec(_IMITATING, "findmnt -no FSTYPE /var/log", ok=False) != "tmpfs":
        log2ram(cluster, _IMITATING, "start")


def measure(
    cluster: Cluster, case: Case, warm_up: int
) -> tuple[Mapping[str, float], list[Changed]]:
    """Load a node for a while. Return what was written to its card, and the changed files.

    The value "bytes" is what reached the card in that time, "synchronised" has also what was still
    in RAM at the end. Of samples with a source "bytes" has both.
    """
    row, node = case.row, case.row.node
    if node in _LOG2RAM:
        log2ram(cluster, node, "empty")
    cluster.exec(node, _REMOUNT.format(_MOUNTED[row.spared]))
    try:
        with zram(cluster, node) if row.zram else nullcontext() as device:
            if "running" in row.programs:
                inside(cluster, node, _RUN.format(_rotated(row.rotation)))
                load(cluster, node, "running", warm_up)
            synchronise(cluster, node, warm_up // 2 if case.seconds == _HOUR else 0)
            values = _load_all(cluster, case)
            changed = parse_changed(cluster.exec(node, _CHANGED))
            if device is not None:
                # mem_used_total of Documentation/admin-guide/blockdev/zram.rst
                values["ram"] = int((device / "mm_stat").read_text().split()[2])
    finally:
        cluster.exec(node, _REMOUNT.format(_MOUNTED[False]))
    return values, changed


def _load_all(cluster: Cluster, case: Case) -> dict[str, float]:
    """Have all programs of a row write for its time. Return what that wrote to the card."""
    row, node = case.row, case.row.node
    word = f"bench{secrets.token_hex(4)}"
    lines: dict[str, int] = {}
    before = sectors(cluster, node)
    if row.programs:
        one = partial(load, cluster, node, seconds=case.seconds, word=word)
        with ThreadPoolExecutor(len(row.programs)) as pool:
            lines |= zip(row.programs, pool.map(one, row.programs), strict=True)
    else:
        inside(cluster, node, f"sleep {case.seconds}")
    after = sectors(cluster, node)
    if node in _LOG2RAM:
        # The write that it postpones to its stop or the next day counts too
        log2ram(cluster, node, "sync")
    cluster.exec(node, _SYNC)
    last = sectors(cluster, node)
    if "source" in case.labels:
        return {"bytes": (last - before) * _SECTOR}
    values: dict[str, float] = {
        "bytes": (after - before) * _SECTOR,
        "synchronised": (last - before) * _SECTOR,
    }
    if row.sent:
        written = lines["running"]
        values |= {"lines": written, "arrived": arrived(cluster, node, word, written)}
    return values


def synchronise(cluster: Cluster, node: str, pause: int) -> None:
    """Have a node write all to its card, and mark the time for the search of changed files.

    + pause: seconds in which nothing may be written after that, else it is done again, three times
      at most. ext4 writes some blocks only seconds after a synchronisation
    """
    for _ in range(3):
        cluster.exec(node, f"{_SYNC}; touch /run/bench.mark")
        before = sectors(cluster, node)
        time.sleep(pause)
        if sectors(cluster, node) == before:
            return


def _rotated(rotation: tuple[str, int] | None) -> str:
    if rotation is None:
        return ""
    size, files = rotation
    return f"--log-opt max-size={size} --log-opt max-file={files}"


def arrived(cluster: Cluster, node: str, word: str, lines: int) -> int:
    """Return how many lines with this word the log server has of a node, each counted once.

    Waits for at most a minute until there are so many LINES.
    """
    log = f"/var/log/remote/{cluster.address(node)}.log"
    count = f"grep -aoE '{word} [0-9]{{8}}' {log} | sort -u | wc -l"

    def found() -> int:
        return int(cluster.exec(_LOG_SERVER, count))

    try:
        wait_for("the lines at the log server", lambda: found() >= lines)
    except AssertionError as error:
        say(str(error))
    return found()


def log2ram(cluster: Cluster, node: str, action: str) -> None:
    """Do an action of log2ram, or of its imitation, on a node: start, empty or sync."""
    inside(cluster, node, _LOG2RAM[node].read_text(), "sh", "-s", action)


def load(cluster: Cluster, node: str, program: str, seconds: int, word: str = "load") -> int:
    """Run one source of messages. Return how many it wrote.

    Raises `RunError` if it could not keep its rate.
    """
    rates = {"syslog": 1000, "container": 200, "running": 200, "service": 100}
    script = _LOAD.read_text()
    output = inside(cluster, node, script, "python3", "-", program, str(seconds), word).decode()
    written = int(output.split()[-1])
    if written < 0.95 * rates[program] * seconds:
        raise RunError(f"{program} on {node}: only {written} messages in {seconds} s")
    return written


def sectors(cluster: Cluster, node: str) -> int:
    """Return the number of 512-byte sectors that were ever written to the node's card."""
    return int(Path(f"/sys/block/{cluster.card(node)}/stat").read_text().split()[6])


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
    stem = re.sub(r"-json\.log(\.\d+)?$", "", word)
    rotated = word.startswith("system@")  # a file of the journal's
    return rotated or (len(stem) >= 32 and all(c in "0123456789abcdef" for c in stem))


def _note(results: Results, case: Case, changed: Sequence[Changed]) -> None:
    """Note the largest of the changed files."""
    labels = case.labels
    if "source" in labels:
        head, what = str(labels["way"]), str(labels["source"])
    else:
        label = next(label for label in _TABLES if label in labels)
        head, what = _TITLES[label], f"{labels[label]}, {case.seconds} s"
    files = results.notes.get("files", {})
    files.setdefault(head, {})[what] = kinds(changed)[:8]
    results.note("files", files)


_TITLES = {"output": "a container alone", "together": "all three loads", "idle": "idle"}


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
        "Debian as the image has it: rsyslog's own rules and a persistent journal. log2ram is the "
        "package of Debian's testing, with rsync, as Debian 13 has none. Beside it is an imitation "
        "of ours that needs neither "
        "([log2ram_imitation.sh](../../tests/bench/card/log2ram_imitation.sh)). Both have "
        "`/var/log` in RAM, emptied before and copied to the card once, at the end; in use that "
        "happens once a day and at shutdown, and a power cut loses what is not copied. Docker's "
        "logs are below `/var/lib/docker`, which they leave on the card. The container is started "
        "in that time, which writes more than its output does; the tables below are without that.",
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
    day = results.median("bytes", source="all three", way="deployed")
    if day is not None:
        page.say(f"Deployed, all three: {shown(day * _DAY / seconds / 2**20)} MiB a day.")
    _report_outputs(page, results)
    _report_together(page, results)
    _report_idle(page, results)
    page.say("Which files on the card were written to, the largest first:")
    files: dict[str, dict[str, list[str]]] = results.notes.get("files", {})
    for way, by_source in files.items():
        lines = [
            f"- {way}, {source}: {', '.join(f'`{path}`' for path in paths) or 'none'}"
            for source, paths in by_source.items()
        ]
        page.say("\n".join(lines))
    return page


def _report_outputs(page: Page, results: Results) -> None:
    """Add the table of a container's output to the page."""
    rows = _rows(results, "output")
    if not rows:
        return
    page.say(
        "A container that runs already, and writes 200 lines a second (its start, which the rows "
        "above have too, is not counted), on deployed nodes, one a row, side by side. Mount "
        f"options are `{_MOUNTED[True]}`; late writeback is `chaos_container_logs_writeback = "
        f"{_LATE_SECONDS}`. The first number is what reached the card in that time; the second has "
        "also what was in RAM at its end, which a file that is removed in time takes with it. Data "
        "root elsewhere is `chaos_docker_data_root` on a file system that is not the card's, here "
        "a tmpfs in place of a disk; the row is what is left on the card. A data root in a tmpfs "
        "or zram loses images and containers at each boot. "
        "With log2ram the node is not deployed, and Docker keeps all in one file.",
    )
    page.table(["time, container output", "written", "with the rest", "of before", "a day"], rows)
    ram = [v / 2**20 for v in results.values("ram")]
    if ram:
        page.say(f"With its data root in zram, Docker's data took {spread(ram, 'MiB')} of RAM.")
    elif not results.notes.get("zram", True):
        page.say("This computer's kernel has no zram.")
    lines = [
        f"{_time(sample)}: {sample.values['lines']:,.0f} lines written, "
        f"{sample.values['arrived']:,.0f} of them at the log server"
        for sample in results.samples
        if "arrived" in sample.values
    ]
    if lines:
        page.say(
            "With `chaos_log_containers`, by TCP, each line counted once:",
            "\n".join(f"- {line}" for line in lines),
        )


def _report_together(page: Page, results: Results) -> None:
    """Add the table of all three loads to the page."""
    if rows := _rows(results, "together"):
        page.say(
            "All three loads together, the container running already: 1000 messages a second by "
            "syslog, 200 lines of a container, 100 lines of a service in `/var/log`.",
        )
        page.table(
            ["time, all three loads", "written", "with the rest", "of before", "a day"], rows
        )


def _report_idle(page: Page, results: Results) -> None:
    """Add the table of nodes without load to the page."""
    rows = [
        [
            f"{_time(sample)}, {sample.labels['idle']}",
            *(f"{sample.values[value] / _SECTOR:,.0f}" for value in ("bytes", "synchronised")),
        ]
        for sample in results.samples
        if "idle" in sample.labels
    ]
    if rows:
        page.say(
            "Nodes without load, for which kubelet is the lab's stand-in. Sectors of 512 bytes:"
        )
        page.table(["time, idle node", "written", "with the rest"], rows)


def _rows(results: Results, label: str) -> list[list[str]]:
    """Return a table's rows: time and name, both numbers, the part of before, and a day's."""
    rows = []
    names = _TABLES[label]
    first = next(iter(names))
    times = sorted({int(s.labels["seconds"]) for s in results.samples if label in s.labels})
    for seconds in times:
        base = results.median("bytes", **{label: first}, seconds=seconds)
        for name in names:
            found = [
                [v / 2**20 for v in results.values(value, **{label: name}, seconds=seconds)]
                for value in ("bytes", "synchronised")
            ]
            if not found[0]:
                continue
            middle = results.median("bytes", **{label: name}, seconds=seconds)
            part = f"{100 * middle / base:.0f} %" if middle is not None and base else "-"
            day = [v * _DAY / seconds for v in found[0]]
            row = [f"{seconds} s, {name}", *(spread(values, "MiB") for values in found)]
            rows.append([*row, part, spread(day, "MiB")])
    return rows


def _time(sample: Sample) -> str:
    return f"{sample.labels['seconds']} s"
