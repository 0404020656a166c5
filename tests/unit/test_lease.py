"""Test turns between runs: who has which Lease, when it expires, and what a lost one means."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import gevent  # type: ignore[import-untyped]
import pytest
from gevent.event import Event  # type: ignore[import-untyped]

from chaos_engine.operations.rolling import cluster_turn as module
from chaos_engine.operations.rolling.cluster_turn import (
    CONTROLLER,
    ClusterTurn,
    await_others,
    cluster_turn,
    is_of_another_run,
    wanted,
)
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.kubectl import ClusterError, Json, reason_of
from chaos_engine.operations.rolling.lease import Lease, Leases, Observer
from tests.unit.lease_api import LeaseApi, refused

ONE = "chaos-engine.turn-1"
NEXT = "chaos-engine.next"


class Time:
    """A clock that jumps to the next moment at which somebody wakes up."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, Event]] = []

    def sleep(self, seconds: float) -> None:
        sleeper = self.now + seconds, Event()
        self._sleepers.append(sleeper)
        try:
            sleeper[1].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    def run(self, *greenlets: gevent.Greenlet, until: float = float("inf")) -> None:
        """Let time pass until these greenlets have ended, or until a moment."""
        while not (greenlets and all(greenlet.ready() for greenlet in greenlets)):
            for _ in range(5):
                gevent.sleep(0)
            if not self._sleepers:
                assert all(greenlet.ready() for greenlet in greenlets), "nobody wakes up"
                break
            first = min(self._sleepers, key=lambda sleeper: sleeper[0])
            if first[0] > until:
                self.now = until
                return
            self.now = first[0]
            self._sleepers.remove(first)
            first[1].set()
        for greenlet in greenlets:
            greenlet.get()


@dataclass
class Computer:
    """A run on a computer, and its connection to the API.

    + api: the API that it asks
    + time: the clock; every request takes some of it
    """

    api: LeaseApi
    time: Time
    name: str = "anna@desk:1-a"
    cut: bool = False
    said: list[str] = field(default_factory=list)
    turns: dict[str, ClusterTurn] = field(default_factory=dict)

    def request(self, verb: str, path: str, body: Json | None = None) -> Json:
        self.time.sleep(random.uniform(0.01, 0.1))
        if self.cut:
            self.time.sleep(10)
            raise ClusterError("kubectl: Unable to connect to the server: i/o timeout")
        try:
            return self.api.request(verb, path, body)
        finally:
            self.time.sleep(random.uniform(0.01, 0.1))

    def log(self, message: str) -> None:
        self.said.append(message)

    def turn(self, work: Callable[[], object], node: str = "pi1", **more: Any) -> gevent.Greenlet:
        """Do work in the turn of a node; the greenlet's value is the problem."""

        def take() -> str:
            gevent.getcurrent().run_name = self.name
            with cluster_turn(self, self.rolling(node, **more)) as turn:  # type: ignore[arg-type]
                self.turns[node] = turn
                problem = turn.confirm()
                if not problem:
                    work()
            return "; ".join(filter(None, (problem, turn.problem)))

        return gevent.spawn(take)

    def rolling(self, node: str = "pi1", **more: Any) -> Rolling:
        kubectl: Any = self
        return Rolling(kubectl=kubectl, node=node, **more)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    random.seed(1)
    monkeypatch.setattr(module, "gevent", SimpleNamespace(sleep=time.sleep, spawn=gevent.spawn))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: time.now))
    monkeypatch.setattr(module, "waiting", lambda *args: nullcontext())
    monkeypatch.setattr(
        module, "_run", lambda: getattr(gevent.getcurrent(), "run_name", "anna@desk:1-a")
    )
    return time


@pytest.fixture
def api() -> LeaseApi:
    return LeaseApi()


@pytest.fixture
def anna(api: LeaseApi, time: Time) -> Computer:
    return Computer(api, time)


@pytest.fixture
def bert(api: LeaseApi, time: Time) -> Computer:
    return Computer(api, time, "bert@shop:2-b")


def steps(*each: Callable[[], object]) -> Callable[[], None]:
    """Return a function that calls these one after the other."""

    def work() -> None:
        for step in each:
            step()

    return work


def held(api: LeaseApi) -> dict[str, str]:
    """Return the nodes whose turns have a Lease, by the Lease's name."""
    return {name: holder.partition("/")[2] for name, holder in api.holders().items()}


@pytest.mark.parametrize(
    ("lane", "batch", "expected"),
    [
        ("", 2, [[NEXT], ["chaos-engine.turn-1", "chaos-engine.turn-2"]]),
        ("controller", 1, [[NEXT], ["chaos-engine.controller"], [ONE]]),
        ("proxy", 2, [[NEXT], [CONTROLLER], [ONE], ["chaos-engine.turn-2"]]),
    ],
)
def test_what_a_turn_needs(lane: Any, batch: int, expected: list[list[str]]) -> None:
    assert wanted(Rolling(lane=lane, batch=batch)) == expected


def test_a_turn_has_its_leases_while_it_lasts(api: LeaseApi, anna: Computer, time: Time) -> None:
    seen: list[Any] = []

    def work() -> None:
        seen.append(held(api))
        seen.append(api.items[ONE]["metadata"]["annotations"])
        time.sleep(1)

    done = anna.turn(work, "pi4", lane="controller")
    time.run(done)

    assert done.value == ""
    assert seen == [
        {CONTROLLER: "pi4", ONE: "pi4"},
        {"chaos-engine/node": "pi4", "chaos-engine/batch": "1"},
    ]
    assert held(api) == {}
    assert api.items[ONE]["metadata"]["annotations"] == {}


def test_a_long_turn_is_renewed_and_keeps_the_others_waiting(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    order: list[str] = []
    first = anna.turn(steps(partial(time.sleep, 400), partial(order.append, "anna")))
    time.run(until=time.now + 5)
    second = bert.turn(lambda: order.append("bert"), "pi4")
    time.run(first, second)

    assert order == ["anna", "bert"]
    assert (first.value, second.value) == ("", "")
    assert bert.turns["pi4"].waited
    assert not anna.turns["pi1"].waited
    renewals = [request for request in api.asked if request == f"replace {ONE}"]
    assert 25 <= len(renewals) <= 35


def test_a_waiting_node_says_for_whom_it_waits(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    first = anna.turn(lambda: time.sleep(100), "pi4")
    time.run(until=time.now + 5)
    api.items[ONE]["spec"]["acquireTime"] = "2026-11-29T21:13:34.000000Z"
    waits = ClusterTurn(bert, bert.rolling("pi7"))  # type: ignore[arg-type]
    second = gevent.spawn(waits.take)
    second.run_name = bert.name
    time.run(until=time.now + 10)

    assert waits.what_it_waits_for() == (
        "waiting for its turn; Lease chaos-engine.turn-1 is held by anna@desk:1-a/pi4 for node pi4 "
        "since 2026-11-29 21:13:34 UTC"
    )
    time.run(first, second)
    waits.abandon()


@pytest.mark.parametrize("lane", ["", "controller", "proxy"])
def test_a_run_with_many_nodes_lets_another_one_in_between(
    anna: Computer, bert: Computer, time: Time, lane: str
) -> None:
    order: list[str] = []

    def all_of(computer: Computer) -> None:
        for number in range(4):
            work = steps(partial(time.sleep, 10), partial(order.append, computer.name[:4]))
            computer.turn(work, f"{computer.name[0]}{number}", lane=lane).get()

    time.run(gevent.spawn(all_of, anna), gevent.spawn(all_of, bert))
    assert order == ["anna", "bert"] * 4 or order == ["bert", "anna"] * 4


def test_the_lease_of_a_killed_run_expires(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    killed = anna.turn(lambda: time.sleep(1000))
    time.run(until=time.now + 40)
    killed.kill(block=True)
    assert held(api) == {ONE: "pi1"}
    at, began = time.now, []
    second = bert.turn(lambda: began.append(time.now), "pi4")
    time.run(second)

    assert second.value == ""
    assert 55 <= began[0] - at <= 75
    (said,) = bert.said
    assert "Lease chaos-engine.turn-1 is held by anna@desk:1-a/pi1 for node pi1 since" in said
    assert said.endswith("; it was not renewed for 60 s, so it has expired")


def test_a_run_without_an_end_of_work_lets_its_lease_expire(
    api: LeaseApi, anna: Computer, time: Time
) -> None:
    """The node may still be at work, so others have to wait."""

    def work() -> None:
        raise KeyboardInterrupt

    done = anna.turn(work)
    with pytest.raises(KeyboardInterrupt):
        time.run(done)
    assert held(api) == {ONE: "pi1"}


def test_the_clocks_of_computers_do_not_matter(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chaos_engine.operations.rolling import lease as module

    monkeypatch.setattr(module, "stamp", lambda: "1970-01-01T00:00:09.000000Z")
    order: list[str] = []
    first = anna.turn(steps(partial(time.sleep, 200), partial(order.append, "anna")))
    time.run(until=time.now + 5)
    second = bert.turn(lambda: order.append("bert"), "pi4")
    time.run(first, second)
    assert order == ["anna", "bert"]


def test_nobody_loses_a_lease_while_the_api_is_away(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    """In the turn of the only proxy, the API is away for minutes, and for everybody."""
    order: list[str] = []

    def work() -> None:
        time.sleep(20)
        api.away = True
        time.sleep(300)
        api.away = False
        time.sleep(20)
        order.append("anna")

    first = anna.turn(work, "pi5", lane="proxy")
    time.run(until=time.now + 5)
    second = bert.turn(lambda: order.append("bert"), "pi4")
    time.run(first, second)

    assert order == ["anna", "bert"]
    assert (first.value, second.value) == ("", "")


def test_a_run_that_is_cut_off_learns_that_it_has_lost_its_lease(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    def work() -> None:
        anna.cut = True
        time.sleep(200)
        anna.cut = False
        time.sleep(30)

    first = anna.turn(work)
    time.run(until=time.now + 5)
    second = bert.turn(lambda: time.sleep(300), "pi4")
    time.run(first, second)

    assert first.value.startswith("another run has taken over its Lease chaos-engine.turn-1, which "
                                  "was last renewed ")  # fmt: skip
    assert "is held by bert@shop:2-b/pi4 for node pi4" in first.value
    assert second.value == ""


def test_work_does_not_start_without_a_lease(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    """Check that also where a drain has taken so long that the Lease was lost meanwhile."""
    worked: list[str] = []

    def drain_and_work() -> str:
        gevent.getcurrent().run_name = anna.name
        with cluster_turn(anna, anna.rolling()) as turn:  # type: ignore[arg-type]
            anna.cut = True
            time.sleep(100)
            anna.cut = False
            problem = turn.confirm()
            if not problem:
                worked.append("anna")
        return f"{problem}; {turn.problem}"

    first = gevent.spawn(drain_and_work)
    time.run(until=time.now + 5)
    second = bert.turn(lambda: time.sleep(300), "pi4")
    time.run(first, second)

    assert worked == []
    assert first.value.startswith("the work was not started; another run has taken over its Lease")


def test_work_does_not_start_while_the_api_is_away(
    api: LeaseApi, anna: Computer, time: Time
) -> None:
    def drain_and_work() -> str:
        with cluster_turn(anna, anna.rolling()) as turn:  # type: ignore[arg-type]
            api.away = True
            problem = turn.confirm()
        return problem

    first = gevent.spawn(drain_and_work)
    time.run(first)
    assert first.value == (
        "the work was not started, because chaos-engine.turn-1 cannot be renewed: kubectl replace: "
        "Unable to connect to the server: no route to host"
    )


def test_a_turn_whose_end_nobody_hears_of_is_a_problem_only_if_it_was_not_renewed(
    api: LeaseApi, anna: Computer, time: Time
) -> None:
    def work(seconds: float) -> None:
        api.away = True
        time.sleep(seconds)

    short = anna.turn(lambda: work(20))
    time.run(short)
    assert short.value == ""
    assert (
        "Lease chaos-engine.turn-1 could not be given back, so other runs wait 60 s"
        in (anna.said[-1])
    )
    api.away = False
    long = anna.turn(lambda: work(80))
    time.run(long)
    assert long.value.startswith("its Lease chaos-engine.turn-1 could not be renewed for ")


@pytest.mark.parametrize("verb", ["create", "replace"])
def test_an_answer_that_gets_lost_changes_nothing(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time, verb: str
) -> None:
    if verb == "replace":
        time.run(anna.turn(lambda: None))
    api.loses = 1
    first = anna.turn(steps(partial(setattr, api, "loses", 1), partial(time.sleep, 100)))
    time.run(first)
    assert first.value == ""
    assert held(api) == {}
    assert api.loses == 0


def test_a_user_without_the_right_is_told_at_once(
    api: LeaseApi, anna: Computer, time: Time
) -> None:
    at = time.now
    for verb in ("get", "create"):
        api.refuses = verb
        done = anna.turn(lambda: None)
        with pytest.raises(ClusterError) as error:
            time.run(done)
        assert str(error.value) == (
            "kubectl: Error from server (Forbidden): leases is forbidden: User anna cannot "
            f"{verb}; give the user of kubeconfig the rights to get, list, create and update "
            "leases of coordination.k8s.io in the namespace kube-system"
        )
    assert time.now - at < 2


def test_an_api_that_never_answers_is_an_error(api: LeaseApi, anna: Computer, time: Time) -> None:
    api.away = True
    at, done = time.now, anna.turn(lambda: None)
    with pytest.raises(ClusterError, match="no route to host"):
        time.run(done)
    assert 85 <= time.now - at <= 100


def test_runs_with_different_batches_exclude_each_other(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    order: list[str] = []
    first = [
        anna.turn(steps(partial(time.sleep, 30), partial(order.append, "anna")), node, batch=3)
        for node in ("pi1", "pi2", "pi3")
    ]
    time.run(until=time.now + 5)
    assert held(api).keys() == {f"chaos-engine.turn-{n}" for n in (1, 2, 3)}
    waits = ClusterTurn(bert, bert.rolling("pi7", batch=4))  # type: ignore[arg-type]
    second = gevent.spawn(waits.take)
    second.run_name = bert.name
    time.run(until=time.now + 5)
    assert waits.what_it_waits_for().endswith(", whose run has batch 3, not 4")
    time.run(*first, second)
    assert held(api) == {ONE: "pi7"}
    waits.abandon()


def test_a_killed_run_with_another_batch_does_not_keep_others_waiting_for_ever(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    killed = [anna.turn(lambda: time.sleep(1000), f"pi{n}", batch=2) for n in (1, 2)]
    time.run(until=time.now + 5)
    for one in killed:
        one.kill(block=True)
    second = bert.turn(lambda: None, "pi4")
    time.run(second)
    assert second.value == ""
    assert held(api) == {}
    assert len(bert.said) == 2


def test_a_node_is_left_alone_while_another_run_is_at_work_on_it(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    first = anna.turn(lambda: time.sleep(100))
    time.run(until=time.now + 5)
    ended: list[float] = []

    def wait() -> bool:
        gevent.getcurrent().run_name = bert.name
        assert is_of_another_run(bert.rolling())
        assert not is_of_another_run(bert.rolling("pi4"))
        waited = await_others(bert, bert.rolling())  # type: ignore[arg-type]
        ended.append(time.now)
        assert not await_others(bert, bert.rolling())  # type: ignore[arg-type]
        return waited

    second = gevent.spawn(wait)
    time.run(first, second)
    assert second.value
    assert ended[0] > 1000 + 100


def test_without_a_kubeconfig_no_lease_is_needed(anna: Computer) -> None:
    rolling = Rolling(node="pi1")
    with cluster_turn(anna, rolling) as turn:  # type: ignore[arg-type]
        assert turn.confirm() == ""
    assert (turn.problem, turn.waited) == ("", False)
    assert not is_of_another_run(rolling)
    assert not await_others(anna, rolling)  # type: ignore[arg-type]


def test_a_lease_of_another_batch_that_was_taken_meanwhile_is_seen(
    api: LeaseApi, anna: Computer, bert: Computer, time: Time
) -> None:
    """Check that of two turns that take their first Leases at once, one gives its Lease back."""
    time.run(anna.turn(lambda: None, batch=2))
    carl: Any = api
    holder = Leases(carl, "carl/pi7", {"chaos-engine/node": "pi7", "chaos-engine/batch": "1"})

    def request(verb: str, path: str, body: Json | None = None) -> Json:
        if verb == "create":  # bert has seen no Lease of another batch, and takes the second one
            freed = Leases(carl, anna_holds).give_back(holder.get(ONE))
            assert freed is not None
            assert holder.take(freed) is not None
        return Computer.request(bert, verb, path, body)

    anna_holds = "anna@desk:1-a/pi1"
    notes = {"chaos-engine/batch": "2"}
    assert Leases(carl, anna_holds, notes).take(holder.get(ONE)) is not None
    setattr(bert, "request", request)  # noqa: B010
    began: list[float] = []
    second = bert.turn(lambda: began.append(time.now), "pi4", batch=2)
    time.run(until=time.now + 30)
    assert began == []
    assert held(api) == {ONE: "pi7", NEXT: "pi4"}
    assert holder.give_back(holder.get(ONE)) is not None
    time.run(second)
    assert len(began) == 1


@pytest.mark.parametrize("seed", range(25))
def test_the_rule_holds_whatever_happens(api: LeaseApi, time: Time, seed: int) -> None:
    """Runs with any batches, an API that comes and goes, killed runs: nobody goes too many."""
    random.seed(seed)
    at_work: dict[str, Rolling] = {}
    done: list[str] = []
    computers = [Computer(api, time, f"run-{number}") for number in range(3)]
    batches = [random.choice((1, 1, 2, 3)) for _ in computers]

    def check() -> None:
        names = [name.partition("/")[2] for name in at_work]
        lanes = [rolling.lane for rolling in at_work.values()]
        assert len(names) <= min(rolling.batch for rolling in at_work.values()), at_work.keys()
        assert lanes.count("controller") <= 1, at_work.keys()
        assert "proxy" not in lanes or len(lanes) == 1, at_work.keys()

    def work(computer: Computer, rolling: Rolling) -> Callable[[], None]:
        name = f"{computer.name}/{rolling.node}"

        def function() -> None:
            at_work[name] = rolling
            try:
                check()
                time.sleep(random.choice((1, 5, 20, 80)))
            finally:
                del at_work[name]
            done.append(name)

        return function

    def come_and_go() -> None:
        while True:
            time.sleep(random.uniform(5, 200))
            api.away = True
            time.sleep(random.uniform(1, 80))
            api.away = False
            api.loses = random.choice((0, 0, 1, 2))

    turns: dict[str, gevent.Greenlet] = {}
    for computer, batch in zip(computers, batches, strict=True):
        lanes = {"pi1": "controller", "pi4": "controller", "pi5": "proxy", "pi6": "", "pi8": ""}
        for node, lane in lanes.items():
            more = {"lane": lane, "batch": batch}
            function = work(computer, computer.rolling(node, **more))
            turns[f"{computer.name}/{node}"] = computer.turn(function, node, **more)
    weather = gevent.spawn(come_and_go)
    time.run(until=time.now + random.uniform(1, 100))
    killed = [name for name in turns if name.startswith("run-0/") and not turns[name].ready()]
    for name in killed:
        turns.pop(name).kill(block=True)
    time.run(*turns.values())
    weather.kill()

    # An API that is away for longer than a lease lasts is the only problem
    problems = [turn.value for turn in turns.values() if "could not be renewed" not in turn.value]
    assert problems == [""] * len(problems)
    assert set(done) >= turns.keys()
    api.away, last = False, computers[1].turn(lambda: None, "pi9", lane="proxy")
    time.run(last)
    assert held(api) == {}


def version(name: str, resource_version: int) -> Lease:
    return Lease(name, "anna", item={"metadata": {"resourceVersion": str(resource_version)}})


def test_a_lease_expires_if_it_does_not_change_while_it_is_seen() -> None:
    observer, lease = Observer(), version("a", 1)
    for now in range(0, 61, 10):
        observer.see([lease], now)
        assert observer.has_expired(lease) is (now >= 60)
    observer.see([version("a", 2)], 65)
    assert not observer.has_expired(version("a", 2))


@pytest.mark.parametrize("gap", [16, 1000])
def test_time_in_which_a_lease_is_not_seen_does_not_count(gap: int) -> None:
    """The API was away, or the computer was asleep."""
    observer, lease = Observer(), version("a", 1)
    for now in range(0, 51, 10):
        observer.see([lease], now)
    observer.see([lease], 50 + gap)
    assert not observer.has_expired(lease)
    for now in range(10, 61, 10):
        observer.see([lease], 50 + gap + now)
    assert observer.has_expired(lease)


def test_a_lease_has_the_duration_that_its_holder_gave_it() -> None:
    item = {"metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 5, "holderIdentity": "x"}}
    observer, lease = Observer(), Lease.parse(item)
    observer.see([lease], 1)
    observer.see([lease], 6)
    assert observer.has_expired(lease)


@pytest.mark.parametrize("item", [{}, {"metadata": {}}, {"metadata": {"name": "a"}, "spec": [1]}])
def test_what_is_no_lease_is_an_error(item: Json) -> None:
    with pytest.raises(ClusterError, match="kubectl's answer is not a Lease"):
        Lease.parse(item)


def test_only_one_of_two_gets_a_lease(api: LeaseApi) -> None:
    kubectl: Any = api
    anna, bert = Leases(kubectl, "anna"), Leases(kubectl, "bert")
    nobodys = anna.get("a")
    assert anna.take(nobodys) is not None
    assert bert.take(nobodys) is None
    mine = anna.get("a")
    freed = anna.give_back(mine)
    assert freed is not None
    assert anna.renew(mine) is None
    assert bert.take(freed) is not None
    assert anna.take(freed) is None
    assert api.items["a"]["spec"]["leaseTransitions"] == 1


def test_what_others_wrote_into_a_lease_stays(api: LeaseApi) -> None:
    kubectl: Any = api
    leases = Leases(kubectl, "anna", {"chaos-engine/node": "pi1"})
    leases.take(Lease("a"))
    api.items["a"]["metadata"] |= {"labels": {"team": "x"}, "annotations": {"note": "y"}}
    assert leases.renew(leases.get("a")) is not None
    assert leases.give_back(leases.get("a")) is not None
    assert api.items["a"]["metadata"]["labels"] == {"team": "x"}
    assert api.items["a"]["metadata"]["annotations"] == {"note": "y"}


def test_the_reason_of_a_refusal_is_read_from_kubectls_error() -> None:
    assert reason_of("Error from server (Conflict): Operation cannot be fulfilled\n") == "Conflict"
    assert reason_of("W1129 warning\nError from server (NotFound): x") == "NotFound"
    assert reason_of("Unable to connect to the server: EOF") == ""
    assert refused("Conflict", "").reason == "Conflict"
