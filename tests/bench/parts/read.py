"""Measure what one read costs a node: processor time, and programs that are started for it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from chaos_engine.facts.observe.batch import PROBE
from tests.bench import simulated
from tests.bench.baseline import COMMIT, build, program
from tests.bench.contestants import deploy
from tests.bench.measure import Case, interleave
from tests.bench.nodes import RunError, converge, timed
from tests.bench.parts.options import Options
from tests.bench.parts.scale import changes, rest
from tests.bench.report import Page, ratio, spread
from tests.bench.results import CHECKOUT, Results
from tests.cluster.virtual_cluster import LAB, Cluster, limits
from tests.lab.cgroup import Group

PART = "read"
MINUTES = 20

_NODE = "pi1"
_NEW, _EARLIER = "this package", f"commit {COMMIT}"
_CALLS = "execve,clone,clone3,fork,vfork"


def run(options: Options) -> None:
    """Measure a run without change on one worker, by this build and by an earlier one."""
    results = options.results(PART)
    cluster = options.lab(1)
    builds = {_EARLIER: build(), _NEW: None}
    cases = []
    for name, checkout in builds.items():
        # The builds may want different things, so each one first has the node as it wants it
        cases.append(
            Case(
                {"contestant": name},
                partial(cost, cluster, checkout),
                partial(settle, cluster, checkout),
            )
        )
    interleave(cases, results, options.clock, options.rounds)
    for name, checkout in builds.items():
        if not results.count({"contestant": name, "counted": "programs"}):
            settle(cluster, checkout)
            results.add({"contestant": name, "counted": "programs"}, count(cluster, checkout))
    converge(cluster, [_NODE])


def settle(cluster: Cluster, checkout: Path | None) -> None:
    """Deploy the node with a build, and wait until it has ended the sessions of that."""
    deploy(cluster, [_NODE], changes=None, checkout=checkout)
    rest(cluster, [_NODE])


def cost(cluster: Cluster, checkout: Path | None) -> Mapping[str, float]:
    """Run without change. Return what it took, the processor time of the node among that."""
    before = node_seconds(cluster)
    values = deploy(cluster, [_NODE], checkout=checkout)
    return {**values, "node_seconds": node_seconds(cluster) - before}


def node_seconds(cluster: Cluster) -> float:
    """Return the processor time of all processes that the node ever had, in seconds."""
    text = (Group.of(cluster.name, _NODE).path / "cpu.stat").read_text()
    return parse_usage(text)


def parse_usage(text: str) -> float:
    """Return the seconds of ``usage_usec`` in the text of a cpu.stat file."""
    return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6


def count(cluster: Cluster, checkout: Path | None) -> Mapping[str, float]:
    """Return how many programs and processes the script that a run sends starts on the node."""
    with tempfile.TemporaryDirectory(prefix="chaos-bench-") as name:
        folder = Path(name)
        python = program(checkout, "python", str(CHECKOUT / "tests/bench/simulated.py"))
        words = ("record", str(folder / "recording"), "inventory.py", "deploy.py", "-y", "--json")
        run = timed(cluster, *python, *words, *limits([_NODE]))
        if changed := changes(run.out):
            raise RunError(f"{_NODE} is not as wanted: {changed}")
        ((_, script, _, _),) = simulated.Recording.load(folder / "recording").commands
        inside = ("exec", _NODE, "--", "sh", "-s", PROBE)
        strace = ("strace", "-f", "-qq", "-e", f"trace={_CALLS}", "-e", "signal=none")
        subprocess.run(
            [*strace, "-o", str(folder / "trace"), str(LAB), "--name", cluster.name, *inside],
            cwd=CHECKOUT,
            input=script.encode(),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return parse_trace((folder / "trace").read_text())


def parse_trace(text: str) -> dict[str, float]:
    """Return the numbers of programs and processes in strace's text, from the script's shell on.

    What comes before it is of the lab, which enters the node. While the script runs, the lab only
    waits. Raises `RunError` if that shell was never started.
    """
    lines = text.splitlines()
    shell = re.compile(r'\d+ +execve\("[^"]*/sh", \["sh", "-s".*(?: = 0|<unfinished ...>)$')
    begin = next((number for number, line in enumerate(lines) if shell.match(line)), None)
    if begin is None:
        raise RunError("strace saw no sh -s, so the script has not run")
    ours = lines[begin:]
    # A call that another process interrupts has two lines; the second one has the result
    programs = sum(bool(re.search(r"execve(\(| resumed).*= 0$", line)) for line in ours)
    forked = r"\b(v?fork|clone3?)(\(| resumed).*= [1-9]\d*$"
    return {"programs": programs, "processes": sum(bool(re.search(forked, line)) for line in ours)}


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("What one read costs a node")
    page.say(
        "A run without change on one worker, which is one read of it, by this package and by an "
        "earlier build of it. The processor time is that of the node's whole control group "
        "(`cpu.stat`) from the run's begin to its end: the script, sshd, sudo, and what systemd "
        "and Docker do to answer. A measurement of the script's own processes would leave that "
        "out. What the node does by itself meanwhile is in both. Programs and processes are those "
        "of the very script that the run sends, counted by strace.",
    )
    rows = []
    for name in (_EARLIER, _NEW):
        columns = ("node_seconds", "seconds", "programs", "processes")
        found = [results.values(column, contestant=name) for column in columns]
        if any(found):
            rows.append([name, *(spread(values) for values in found)])
    page.table(["", "node's processor, s", "wall, s", "programs", "processes"], rows)
    before, now = (results.median("node_seconds", contestant=one) for one in (_EARLIER, _NEW))
    page.say(f"The node's processor time by {_EARLIER} is {ratio(before, now)} that of today.")
    return page
