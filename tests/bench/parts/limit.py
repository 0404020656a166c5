"""Compare this package under pyinfra with bare shell scripts, which are the limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.bench.contestants import deploy
from tests.bench.measure import Case, interleave
from tests.bench.nodes import RunError, converge, through_relays
from tests.bench.parts.options import Options, hosts_of
from tests.bench.plot import bars
from tests.bench.report import Page, against, by_scenario
from tests.bench.results import Label, Results
from tests.bench.shell import Scripts
from tests.cluster.virtual_cluster import Cluster, wait_for

PART = "limit"
MINUTES = 90

_PYINFRA, _SCRIPT, _TOGETHER = "pyinfra", "shell script", "shell script, one call of apt"
_ONE = "pyinfra, one operation"
_NO_CHANGE, _FIRST = "no change", "first deploy"


def run(options: Options) -> None:
    """Measure a run without change, and a first deploy."""
    results = options.results(PART)
    sizes = options.sizes(2, 4)
    size = max(sizes)
    cluster, hosts = options.lab(size), hosts_of(size)
    scripts = Scripts(cluster, hosts)
    if any(scripts.had_first(host) for host in hosts):
        make_fresh(cluster, hosts)
    converge(cluster, hosts)
    scripts.record()
    with through_relays(cluster, hosts, 20) as way:
        cases = []
        for ms, hosts_file in ((0, None), (20, way.hosts_file)):
            labels: dict[str, Label] = {
                "scenario": _NO_CHANGE,
                "hosts": size,
                "ms round trip": ms,
            }
            cases += [
                Case(
                    {**labels, "contestant": _PYINFRA},
                    partial(deploy, cluster, hosts, hosts_file=hosts_file),
                ),
                Case({**labels, "contestant": _SCRIPT}, partial(scripts.look, hosts_file)),
            ]
        for few in sizes:
            cases += _few(cluster, few, with_both=few != size)
        interleave(cases, results, options.clock, options.rounds)
    fresh = partial(make_fresh, cluster, hosts)
    first: dict[str, Label] = {"scenario": _FIRST, "hosts": size, "ms round trip": 0}
    deploys: dict[str, Callable[[], Mapping[str, float]]] = {
        _PYINFRA: partial(deploy, cluster, hosts, changes=None),
        _SCRIPT: scripts.first,
        _TOGETHER: partial(scripts.first, together=True),
    }
    cases = [
        Case({**first, "contestant": name}, partial(and_see, one, scripts), fresh)
        for name, one in deploys.items()
    ]
    interleave(cases, results, options.clock, options.rounds)


def _few(cluster: Cluster, size: int, *, with_both: bool) -> list[Case]:
    """Return cases of a run without change on so many hosts, at 0 ms.

    + with_both: whether this package and the script are among them, beside pyinfra alone
    """
    hosts = hosts_of(size)
    labels: dict[str, Label] = {"scenario": _NO_CHANGE, "hosts": size, "ms round trip": 0}
    one = "tests/bench/one_operation.py"
    runs: dict[str, Callable[[], Mapping[str, float]]] = {
        # pyinfra counts a command that ran as a change
        _ONE: partial(deploy, cluster, hosts, changes=size, deploy_file=one),
    }
    if with_both:
        runs[_PYINFRA] = partial(deploy, cluster, hosts)
        runs[_SCRIPT] = Scripts(cluster, hosts).look
    return [Case({**labels, "contestant": name}, each) for name, each in runs.items()]


def and_see(one: Callable[[], Mapping[str, float]], scripts: Scripts) -> Mapping[str, float]:
    """Run it, and check that the nodes are as the deploy had made them."""
    values = one()

    def as_wanted() -> bool:
        try:
            scripts.look()
        except RunError as error:
            raise AssertionError(str(error)) from error
        return True

    # Units that start at boot need some time
    wait_for("the nodes in their recorded state", as_wanted, 90)
    return values


def make_fresh(cluster: Cluster, hosts: Sequence[str]) -> None:
    """Bring the hosts back to the fresh image."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(lambda host: cluster.lab("reset", host), hosts))


def report(results: Results) -> Page:
    """Return a page about what was measured."""
    page = Page("Against the limit")
    page.say(
        "One shell script a node, over one ssh connection each, all at once: what nobody can beat "
        "who logs in to each node. Its check "
        "([state.sh](../../tests/bench/shell/state.sh)) looks at the same files, packages, units, "
        "kernel, mounts and containers in as few processes as will do, and compares them with "
        "what was recorded on the same node; it explains nothing and fixes nothing. Its first "
        "deploy ([first.sh](../../tests/bench/shell/first.sh)) does the steps of the deploy in the "
        "same order, the reboot included, until systemd has finished the start, without checking "
        "or keeping anything. “One call of apt” "
        "installs everything at once instead, which the deploy does not: each of its concerns can "
        "be used alone.",
        "After each first deploy, by whomever, the nodes were seen in the same recorded state.",
    )
    contestants = (_SCRIPT, _PYINFRA, _TOGETHER)
    medians = by_scenario(results, page, (_NO_CHANGE, _FIRST), contestants)
    page.say(
        f"“{_ONE}” is a deploy of a single `server.shell` that runs `true`: what pyinfra needs to "
        "do anything at all."
    )
    sizes = results.labels("hosts")
    least = [{"scenario": _NO_CHANGE, "hosts": size, "ms round trip": 0} for size in sizes]
    against(
        results, page, least, lambda row: f"{_NO_CHANGE}, {row['hosts']} nodes", (_ONE, _PYINFRA)
    )
    for name, plot in ((_NO_CHANGE, "limit-no-change"), (_FIRST, "limit-first")):
        chosen = {key: values for key, values in medians.items() if key.startswith(name)}
        svg = bars(f"Wall time: {name}", "seconds", chosen)
        page.plot(f"{plot}.svg", svg, f"Wall times, {name}")
    page.say(
        "For how many seconds all processors together were at work in a first deploy, the nodes' "
        "work included. What is left of the difference is waiting: pyinfra begins an operation "
        "when all nodes have ended the one before."
    )
    rows = [{"scenario": _FIRST}]
    against(results, page, rows, lambda row: _FIRST, contestants, "machine_seconds")
    return page
