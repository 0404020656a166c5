"""Test turns: who may go, what the cluster is told, and what a killed run has left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import gevent  # type: ignore[import-untyped]
import pytest
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.operation import operation
from pyinfra.connectors.util import CommandOutput, OutputLine

from chaos_engine.facts.standing import StandingState
from chaos_engine.operations.engine.converge import Commands
from chaos_engine.operations.rolling import cluster_turn, cordon
from chaos_engine.operations.rolling import turns as rolling
from chaos_engine.operations.rolling.cordon import Rolling, api_servers_missing, check_may_leave
from chaos_engine.operations.rolling.gate import Gate, gate
from chaos_engine.operations.rolling.kubectl import ClusterError, ClusterNode
from chaos_engine.operations.rolling.turns import in_turn, node_standing, take_turn, uncordon_node
from tests.unit.lease_api import LeaseApi
from tests.unit.nodes import Nodes

UP = ClusterNode(ready=True, unschedulable=False)
CORDONED = ClusterNode(ready=True, unschedulable=True)
DOWN = ClusterNode(ready=False, unschedulable=False)
WELL = StandingState(joined=True)
ILL = StandingState(joined=True, problems={"docker": "Docker does not answer"})
LEFT = StandingState(joined=True, cordoned=True)
PEERS = {"pi4": "192.168.1.53", "pi7": "192.168.1.56"}


@dataclass
class Cluster(LeaseApi):
    """A cluster that remembers what it was told; words in `fails` fail."""

    known: dict[str, ClusterNode] = field(default_factory=dict)
    fails: str = ""
    told: list[str] = field(default_factory=list)

    def nodes(self) -> dict[str, ClusterNode]:
        return dict(self.known)

    def cordon(self, name: str, wanted: bool = True) -> None:
        word = "cordon" if wanted else "uncordon"
        self.told.append(f"{word} {name}")
        if word in self.fails.split():
            raise ClusterError(f"no {word}")
        self.known[name] = replace(self.known[name], unschedulable=wanted)

    def drain(self, name: str, seconds: int, ends_pods: bool = True) -> str:
        self.told.append(f"drain {name} {seconds}" + ("" if ends_pods else " whatever ends"))
        return "a budget forbids it" if "drain" in self.fails else ""


@dataclass
class Node:
    """The answers of all hosts in the middle of an operation, and what was done on them."""

    looks: list[StandingState] = field(default_factory=lambda: [WELL])
    steps: list[str] = field(default_factory=list)
    api: list[dict[str, str]] = field(default_factory=lambda: [{}])
    """What the API servers of `PEERS` that are not ready answer, look by look."""

    def ask(self, host: Any, fact: Any, command: Any) -> dict[str, str]:
        said = self.api.pop(0) if len(self.api) > 1 else self.api[0]
        return {address: said.get(name, "200") for name, address in PEERS.items()}

    def look(self, host: Any) -> StandingState:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def run_script(self, host: Any, script: str) -> str | None:
        self.steps.append("note" if "printf" in script.rpartition("clear_staging")[2] else "forget")
        return None

    def run(self, host: Any, command: Any) -> tuple[bool, CommandOutput]:
        self.steps.append(str(command))
        if "fail" not in str(command):
            return True, CommandOutput([])
        return False, CommandOutput([OutputLine("stderr", "the old files are back")])


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node()
    for module in (cordon, rolling):
        monkeypatch.setattr(module, "read_standing", node.look)
    monkeypatch.setattr(cordon, "ask_fact", node.ask)
    monkeypatch.setattr(cordon, "run_script", node.run_script)
    monkeypatch.setattr(rolling, "run", node.run)
    # a clock that moves only while somebody waits, so that a busy computer changes nothing
    clock = [0.0]
    waits = SimpleNamespace(sleep=lambda seconds: clock.append(clock.pop() + seconds))
    monkeypatch.setattr(cordon, "gevent", waits)
    monkeypatch.setattr(cordon, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return node


def how(cluster: Cluster | None = None, **more: Any) -> Rolling:
    """Describe how the node pi1 of a cluster is drained."""
    kubectl: Any = cluster
    return Rolling(kubectl=kubectl, node="pi1", **more)


def take(
    nodes: Nodes, how: Rolling, before: StandingState = WELL, does: str = "work", name: str = "pi1"
) -> bool:
    """Have a host do something in its turn."""
    work = partial(rolling.perform, StringCommand(does))
    with nodes.on(name) as host:
        return take_turn(nodes.state, host, how, before, "restarted", work)


def failed(nodes: Nodes) -> str:
    return gate(nodes.state, 1).failed


def test_a_node_is_drained_before_and_given_back_after(node: Node) -> None:
    cluster, nodes = Cluster({"pi1": UP, "pi4": UP}), Nodes()
    node.looks = [ILL, ILL, WELL]

    assert take(nodes, how(cluster, drain_seconds=7))

    assert cluster.told == ["cordon pi1", "drain pi1 7", "uncordon pi1"]
    # it is noted before the cluster is told, and forgotten after
    assert node.steps == ["note", "work", "forget"]
    assert failed(nodes) == ""


@dataclass
class Watched(Cluster):
    """A cluster that notes who holds Leases when a node is drained."""

    held: list[dict[str, str]] = field(default_factory=list)

    def drain(self, name: str, seconds: int, ends_pods: bool = True) -> str:
        self.held.append(self.holders())
        return super().drain(name, seconds, ends_pods)


def test_a_turn_holds_between_runs(node: Node) -> None:
    cluster, nodes = Watched({"pi1": UP, "pi4": UP}), Nodes()

    assert take(nodes, how(cluster, lane="controller", batch=2))

    (held,) = cluster.held
    assert held.keys() == {"chaos-engine.controller", "chaos-engine.turn-1"}
    assert all(holder.endswith("/pi1") for holder in held.values())
    assert cluster.holders() == {}
    assert "replace chaos-engine.turn-1" in cluster.asked, "it is renewed before the work"


def test_a_node_that_joins_or_leaves_holds_leases_too(node: Node) -> None:
    cluster, nodes = Cluster({"pi1": UP}), Nodes()
    held: list[dict[str, str]] = []

    def work() -> str:
        held.append(cluster.holders())
        return "kubeadm failed"

    with nodes.on("pi1") as host:
        said = cluster_turn.work_with_leases(host, how(cluster, lane="controller"), work)

    assert said == "kubeadm failed"
    assert held[0].keys() == {"chaos-engine.controller", "chaos-engine.turn-1"}
    assert cluster.holders() == {}


def test_a_node_that_cannot_be_drained_gives_its_lease_back(node: Node) -> None:
    cluster = Watched({"pi1": UP}, fails="drain")
    assert not take(Nodes(), how(cluster))
    assert cluster.held
    assert cluster.holders() == {}


def test_a_turn_without_the_right_to_take_leases_does_not_begin(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, nodes = Cluster({"pi1": UP}, refuses="create"), Nodes()

    assert not take(nodes, how(cluster))

    assert (cluster.told, node.steps) == ([], [])
    assert "give the user of kubeconfig the rights to get, list, create and update" in caplog.text
    assert failed(nodes).startswith("pi1: kubectl: Error from server (Forbidden): leases is")


def test_a_lease_that_was_lost_before_the_work_keeps_the_node_at_work(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    class Slow(Cluster):
        def drain(self, name: str, seconds: int, ends_pods: bool = True) -> str:
            lease = self.items["chaos-engine.turn-1"]
            lease["spec"]["holderIdentity"] = "bert@shop:1-a/pi4"
            lease["metadata"]["resourceVersion"] = "99"
            return super().drain(name, seconds, ends_pods)

    cluster, nodes = Slow({"pi1": UP}), Nodes()
    assert not take(nodes, how(cluster))
    assert "work" not in node.steps
    assert cluster.told[-1] == "uncordon pi1"
    assert "the work was not started; another run has taken over its Lease" in caplog.text
    assert "another run has taken over its Lease" in failed(nodes), "the next one does not begin"
    assert cluster.holders() == {"chaos-engine.turn-1": "bert@shop:1-a/pi4"}


def anothers(node: str) -> dict[str, Any]:
    """Return a Lease for a node's turn in another run."""
    notes = {"chaos-engine/node": node, "chaos-engine/batch": "1"}
    metadata = {"name": "chaos-engine.turn-1", "resourceVersion": "1", "annotations": notes}
    spec = {"holderIdentity": f"bert@shop:1-a/{node}", "leaseDurationSeconds": 60}
    return {"metadata": metadata, "spec": spec}


def test_a_turn_that_had_to_wait_looks_at_its_node_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run may have left the node cordoned."""
    cluster, nodes = Cluster({"pi1": UP}), Nodes()
    cluster.items["chaos-engine.turn-1"] = anothers("pi1")
    node.looks = [LEFT, WELL]

    def sleep(seconds: float) -> None:  # the other run ends, and leaves the node cordoned
        cluster.items["chaos-engine.turn-1"]["spec"]["holderIdentity"] = None
        cluster.known["pi1"] = CORDONED

    monkeypatch.setattr(
        cluster_turn,
        "gevent",
        SimpleNamespace(sleep=sleep, spawn=lambda f: SimpleNamespace(kill=lambda: None)),
    )
    assert take(nodes, how(cluster))
    assert cluster.known["pi1"] == UP


def test_problems_of_a_node_that_is_at_work_in_another_run_do_not_count(
    stands: dict[str, StandingState],
) -> None:
    cluster, nodes = Cluster({"pi1": UP, "pi4": UP}), Nodes("pi1", "pi4")
    stands.update(pi1=ILL, pi4=WELL)
    with nodes.on("pi1"):
        cluster.items["chaos-engine.turn-1"] = anothers("pi1")
        assert node_standing(how(cluster)) == ILL
    assert gate(nodes.state, 1).why_closed("pi4") == ""
    with nodes.on("pi1"):
        cluster.items["chaos-engine.turn-1"] = anothers("pi7")
        node_standing(how(cluster))
    assert gate(nodes.state, 1).why_closed("pi4") == "pi1: Docker does not answer"


def test_a_node_whose_pods_stay_waits_for_the_others_and_is_not_drained(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, nodes = Cluster({"pi1": UP, "pi4": UP, "pi7": UP}), Nodes()
    own = how(cluster, lane="controller", controller=True, controllers=PEERS, drain=False)

    assert take(nodes, own)

    assert cluster.told == []
    assert node.steps == ["work"]
    node.api = [{"pi4": "500"}]
    assert not take(nodes, own)
    assert "because without it too few API servers are ready; not ready: pi4 (500)" in caplog.text


@pytest.mark.parametrize(
    ("known", "before"), [(UP, ILL), (DOWN, WELL), (DOWN, ILL)], ids=["node", "cluster", "both"]
)
def test_pods_that_nobody_is_there_to_end_are_not_waited_for(
    node: Node, known: ClusterNode, before: StandingState
) -> None:
    cluster = Cluster({"pi1": known})
    node.looks = [before, WELL]

    assert take(Nodes(), how(cluster, drain_seconds=7), before)

    assert cluster.told[1] == "drain pi1 7 whatever ends"


def test_a_node_whose_kubelet_was_dead_before_need_not_become_ready(node: Node) -> None:
    """The cluster may notice it only now, and another operation may be there to start it."""
    dead = StandingState(joined=True, problems={"kubernetes": "kubelet does not answer"})
    node.looks = [dead]

    class Hears(Cluster):
        def drain(self, name: str, seconds: int, ends_pods: bool = True) -> str:
            self.known[name] = replace(self.known[name], ready=False)
            return super().drain(name, seconds, ends_pods)

    cluster, nodes = Hears({"pi1": UP}), Nodes()
    assert take(nodes, how(cluster), dead)
    assert cluster.told[-1] == "uncordon pi1"
    assert failed(nodes) == ""


def test_a_node_that_somebody_else_has_cordoned_stays_so(node: Node) -> None:
    cluster = Cluster({"pi1": CORDONED})

    assert take(Nodes(), how(cluster))

    assert cluster.told == ["cordon pi1", "drain pi1 300"]
    assert node.steps == ["work"]


def test_a_node_that_a_run_has_left_cordoned_does_not(node: Node) -> None:
    cluster = Cluster({"pi1": CORDONED})

    assert take(Nodes(), how(cluster), before=LEFT)

    assert cluster.told[-1] == "uncordon pi1"
    assert node.steps == ["note", "work", "forget"]


@pytest.mark.parametrize("fails", ["drain", "cordon"])
def test_a_node_that_cannot_be_drained_is_left_as_it_is(
    node: Node, fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, nodes = Cluster({"pi1": UP, "pi4": UP}, fails=fails), Nodes("pi1", "pi4")

    assert not take(nodes, how(cluster))

    assert cluster.told[-1] == "uncordon pi1"
    assert node.steps == ["note", "forget"]
    assert "pi1 cannot be drained, so the work on it was not started: " in caplog.text
    assert not take(nodes, how(cluster), name="pi4")
    assert "work" not in node.steps
    assert "not restarted, because of a problem on pi1: pi1 cannot be drained" in caplog.text
    assert "; fix the problem and run again" in caplog.text


def test_a_cordoned_node_that_cannot_be_drained_stays_cordoned(node: Node) -> None:
    cluster = Cluster({"pi1": CORDONED}, fails="drain")

    assert not take(Nodes(), how(cluster))

    assert cluster.known == {"pi1": CORDONED}
    assert node.steps == []


def test_a_node_that_comes_back_wrong_is_left_cordoned_and_stops_the_rest(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, nodes = Cluster({"pi1": UP}), Nodes("pi1", "pi4")
    node.looks = [ILL]

    assert not take(nodes, how(cluster))

    assert cluster.known == {"pi1": CORDONED}
    assert node.steps == ["note", "work"]
    assert "Docker does not answer; pi1 is left cordoned" in caplog.text
    assert failed(nodes).startswith("pi1: Docker does not answer")


def test_a_node_that_its_cluster_does_not_call_ready_any_more_is_not_back(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster({"pi1": UP})

    def run(host: Any, command: Any) -> tuple[bool, CommandOutput]:
        cluster.known["pi1"] = replace(DOWN, unschedulable=True)
        return True, CommandOutput([])

    monkeypatch.setattr(rolling, "run", run)
    assert not take(Nodes(), how(cluster))

    assert cluster.told[-1] == "drain pi1 300"


def test_a_node_that_was_not_ready_before_is_not_waited_for(node: Node) -> None:
    cluster = Cluster({"pi1": DOWN})

    assert take(Nodes(), how(cluster))

    assert cluster.told[-1] == "uncordon pi1"


def test_what_was_wrong_before_is_not_waited_for_long(node: Node) -> None:
    cluster, nodes = Cluster({"pi1": UP}), Nodes()
    node.looks = [ILL]

    assert take(nodes, how(cluster), before=ILL)

    assert cluster.known == {"pi1": UP}
    assert gate(nodes.state, 1).why_closed("pi4") == "pi1: Docker does not answer"


def test_what_was_wrong_before_is_given_time_to_start(node: Node) -> None:
    nodes = Nodes()
    node.looks = [ILL, ILL, WELL]

    assert take(nodes, how(Cluster({"pi1": UP})), before=ILL)

    assert gate(nodes.state, 1).why_closed("pi4") == ""


def test_work_that_fails_is_rolled_back_and_the_node_given_back(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, nodes = Cluster({"pi1": UP}), Nodes()

    assert not take(nodes, how(cluster), does="fail")

    assert cluster.known == {"pi1": UP}
    assert node.steps == ["note", "fail", "forget"]
    assert failed(nodes) == "pi1: the old files are back"
    assert "[pi1] the old files are back" in caplog.text


def test_a_node_that_cannot_be_uncordoned_fails(node: Node) -> None:
    cluster, nodes = Cluster({"pi1": UP}, fails="uncordon"), Nodes()

    assert not take(nodes, how(cluster))

    assert node.steps == ["note", "work"], "a later run has to know of it"
    assert failed(nodes) == "pi1: no uncordon; pi1 is left cordoned"


def test_a_turn_that_is_cut_short_stops_the_rest(node: Node) -> None:
    nodes = Nodes()

    def work(state: Any, host: Any) -> str:
        raise KeyboardInterrupt

    with nodes.on() as host, pytest.raises(KeyboardInterrupt):
        take_turn(nodes.state, host, how(), WELL, "restarted", work)
    assert failed(nodes) == "pi1: its turn was interrupted"


def test_without_a_kubeconfig_it_is_awaited_and_not_drained(node: Node) -> None:
    node.looks = [ILL, WELL]

    assert take(Nodes(), how())

    assert node.steps == ["work"]
    assert node.looks == [WELL]


def test_a_node_of_no_cluster_is_neither_drained_nor_awaited(node: Node) -> None:
    cluster = Cluster({})
    node.looks = [ILL]

    assert take(Nodes(), how(cluster), before=StandingState())

    assert cluster.told == []


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ({"pi4": UP}, "has no node pi1; its nodes: pi4. Is this the kubeconfig of another"),
        ({}, "has no node pi1; its nodes: none"),
    ],
)
def test_a_node_leaves_only_a_cluster_that_knows_it(
    nodes: dict[str, ClusterNode], problem: str
) -> None:
    assert check_may_leave(how(), {"pi1": UP, "pi4": DOWN}) == UP
    with pytest.raises(ClusterError, match=problem):
        check_may_leave(how(), nodes)


def test_no_controller_goes_while_another_one_is_not_ready() -> None:
    controller = how(controller=True, controllers=PEERS)
    nodes = {"pi1": UP, "pi4": UP, "pi7": DOWN}
    with pytest.raises(ClusterError, match="the controller pi7 is not Ready; look at") as error:
        check_may_leave(controller, nodes)
    assert "kubectl delete node pi7) and from controllers" in str(error.value)
    # the proxy has no API server to take away, and controllers that have not joined do not count
    assert check_may_leave(replace(controller, controller=False), nodes) == UP
    assert check_may_leave(controller, {"pi1": UP, "pi4": UP}) == UP


@pytest.mark.parametrize(
    ("controller", "answers", "waiting"),
    [
        (True, {}, ()),  # the only one
        (True, {"pi4": "200"}, ()),
        (True, {"pi4": "500"}, ("pi4",)),
        (True, {"pi4": "200", "pi7": "200"}, ()),
        (True, {"pi4": "403", "pi7": "200"}, ("pi4",)),
        (True, {"pi4": "200", "pi7": "silent"}, ("pi7",)),
        (True, {"pi4": "absent", "pi7": "absent"}, ()),  # they have yet to join
        (True, {"pi4": "200", "pi7": "absent"}, ()),
        (True, {"a": "200", "b": "200", "c": "200", "d": "silent"}, ()),
        (True, {"a": "200", "b": "200", "c": "500", "d": "silent"}, ("c", "d")),
        (False, {"pi1": "200", "pi4": "200", "pi7": "500"}, ()),  # a worker that is the proxy
        (False, {"pi1": "200", "pi4": "403", "pi7": "500"}, ("pi4", "pi7")),
        (False, {"pi1": "200"}, ()),
        (False, {"pi1": "silent"}, ("pi1",)),
    ],
)
def test_a_majority_of_api_servers_stays(
    controller: bool, answers: dict[str, str], waiting: tuple[str, ...]
) -> None:
    assert api_servers_missing(controller, answers) == waiting


def test_a_controller_waits_for_the_others_api_servers(node: Node) -> None:
    cluster, nodes = Cluster({"pi1": UP, "pi4": UP, "pi7": UP}), Nodes()
    node.api = [{"pi4": "403"}, {"pi4": "500"}, {}]

    assert take(nodes, how(cluster, controller=True, controllers=PEERS))

    assert node.api == [{}], "it was asked until all were ready"
    assert cluster.told[0] == "cordon pi1"


def test_a_controller_does_not_go_where_another_ones_api_server_stays_away(node: Node) -> None:
    cluster, nodes = Cluster({"pi1": UP, "pi4": UP, "pi7": UP}), Nodes()
    node.api = [{"pi7": "silent"}]

    assert not take(nodes, how(cluster, controller=True, controllers=PEERS))

    assert cluster.told == []
    assert node.steps == []
    assert "too few API servers are ready; not ready: pi7 (silent)" in failed(nodes)
    assert "kubectl delete node pi7) and from controllers" in failed(nodes)


def test_a_controller_that_the_cluster_does_not_know_is_not_waited_for(node: Node) -> None:
    cluster = Cluster({"pi1": UP, "pi4": UP})
    node.api = [{"pi7": "silent"}]

    assert take(Nodes(), how(cluster, controller=True, controllers=PEERS))


def test_without_a_kubeconfig_api_servers_are_waited_for_too(node: Node) -> None:
    node.api = [{"pi4": "500"}, {}]

    assert take(Nodes(), how(controller=True, controllers=PEERS))
    assert node.api == [{}]


def test_a_controller_whose_own_api_server_is_down_may_be_fixed(node: Node) -> None:
    node.api = [{"pi4": "500"}]
    ill = StandingState(joined=True, problems={"api_server": "it is down"})

    assert take(Nodes(), how(controller=True, controllers=PEERS), before=ill)


def test_a_node_that_is_whole_is_left_at_work_while_another_is_not() -> None:
    turns = Gate(1)
    turns.problems = {"pi4": "Docker does not answer"}

    assert turns.why_closed("pi1") == "pi4: Docker does not answer"
    assert turns.why_closed("pi4") == "", "the turn that may fix it must be let through"
    turns.failed = "pi7: broken"
    assert turns.why_closed("pi4") == "pi7: broken"


@pytest.fixture
def stands(monkeypatch: pytest.MonkeyPatch) -> dict[str, StandingState]:
    """Let each host stand in its cluster as a test says."""
    found: dict[str, StandingState] = {}
    monkeypatch.setattr(rolling, "observe", lambda fact: found[rolling.current()[1].name])
    return found


def commands(nodes: Nodes, how: Rolling, stops_pods: bool) -> list[Any]:
    def transaction() -> Commands:
        yield StringCommand("work")

    with nodes.on():
        return list(in_turn(transaction(), how, stops_pods))


def test_a_turn_is_taken_on_a_joined_node_for_what_stops_pods(
    stands: dict[str, StandingState],
) -> None:
    for stands["pi1"], stops_pods, expected in (
        (WELL, True, FunctionCommand),
        (WELL, False, StringCommand),
        (StandingState(), True, StringCommand),
    ):
        (command,) = commands(Nodes(), how(Cluster({})), stops_pods)
        assert type(command) is expected


def test_nodes_that_are_not_drained_are_warned_of(
    stands: dict[str, StandingState], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    stands["pi1"] = WELL

    (command,) = commands(Nodes(), how(), True)

    assert type(command) is FunctionCommand
    assert "their services are restarted on one node after the other" in caplog.text


def test_nothing_to_do_takes_no_turn(stands: dict[str, StandingState]) -> None:
    stands["pi1"] = WELL
    nodes = Nodes()
    with nodes.on():
        assert list(in_turn(iter(()), how(), True)) == []  # type: ignore[arg-type]


def test_a_broken_node_is_known_before_another_takes_its_turn(
    stands: dict[str, StandingState], node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    stands.update(pi1=WELL, pi4=ILL)
    nodes = Nodes("pi1", "pi4")
    for name in ("pi1", "pi4"):
        with nodes.on(name):
            rolling.node_standing(how())

    assert not take(nodes, how())
    assert "not restarted, because of a problem on pi4: Docker does not answer" in caplog.text
    # its turn does not fix it
    node.looks = [ILL]
    assert take(nodes, how(), before=ILL, name="pi4")
    assert not take(nodes, how())
    # the node works again, so the others may go
    node.looks = [WELL]
    assert take(nodes, how(), before=ILL, name="pi4")
    assert take(nodes, how())


@operation()
def mend(stands: dict[str, StandingState]) -> Commands:
    """Change how a node stands, between the two calls."""
    host = rolling.current()[1]
    if stands[host.name].problems:
        yield FunctionCommand(lambda: stands.update({host.name: LEFT}), (), {})


def both(nodes: Nodes, how: Rolling, stands: dict[str, StandingState]) -> None:
    nodes.prepare(
        lambda: (
            uncordon_node(name="First", rolling=how),
            mend(name="Mend", stands=stands),
            uncordon_node(name="Last", rolling=how, last=True),
        )
    )


@pytest.mark.parametrize(
    ("before", "planned"),
    [
        (StandingState(), []),
        (WELL, []),
        (LEFT, ["First"]),
        (replace(LEFT, problems=ILL.problems), ["Last"]),
    ],
    ids=["alone", "well", "left cordoned", "left cordoned and broken"],
)
def test_what_a_killed_run_left_cordoned_takes_pods_again(
    node: Node,
    stands: dict[str, StandingState],
    monkeypatch: pytest.MonkeyPatch,
    before: StandingState,
    planned: list[str],
) -> None:
    cluster, nodes = Cluster({"pi1": CORDONED}), Nodes()
    stands["pi1"] = before
    monkeypatch.setattr(
        cordon,
        "_uncordon",
        lambda host, how: (how.kubectl.cordon("pi1", False), stands.update(pi1=WELL)),
    )

    both(nodes, how(cluster), stands)
    announced = [name for name in nodes.planned() if name != "Mend"]
    nodes.execute()

    assert announced == planned
    assert [name for name in nodes.changed() if name != "Mend"] == planned
    assert cluster.known == {"pi1": UP if planned else CORDONED}


def test_a_node_that_is_left_cordoned_and_stays_broken_fails(
    node: Node, stands: dict[str, StandingState], caplog: pytest.LogCaptureFixture
) -> None:
    cluster, nodes = Cluster({"pi1": CORDONED, "pi4": UP}), Nodes("pi1", "pi4")
    stands.update(pi1=replace(LEFT, problems=ILL.problems), pi4=WELL)
    node.looks = [ILL]

    nodes.prepare(lambda: uncordon_node(name="Last", rolling=how(cluster), last=True))
    nodes.execute()

    assert nodes.failed == {"pi1"}
    assert "Docker does not answer; pi1 is left cordoned" in caplog.text
    assert failed(nodes)


def test_a_node_that_is_left_cordoned_is_warned_of_without_a_kubeconfig(
    stands: dict[str, StandingState], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    nodes = Nodes()
    stands["pi1"] = LEFT

    nodes.prepare(lambda: uncordon_node(name="First", rolling=how()))

    assert nodes.planned() == []
    assert "set kubeconfig and run again, or uncordon the node yourself" in caplog.text


# Several proxies, one of which has the API's address


PROXY = Rolling(lane="proxy", one_of_several=True)
ALONE = StandingState()


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two proxies: what each could not do, look by look, and the steps of both."""
    known: dict[str, Any] = {"steps": [], "pi4": [[]], "pi5": [[]]}

    def look(host: Any) -> list[str]:
        looks = known[host.name]
        found: list[str] = looks.pop(0) if len(looks) > 1 else looks[0]
        return found

    def run(host: Any, command: Any) -> tuple[bool, CommandOutput]:
        known["steps"].append(f"{host.name} begins")
        gevent.sleep(0)
        known["steps"].append(f"{host.name} ends")
        return "fail" not in str(command), CommandOutput([OutputLine("stderr", "it broke")])

    monkeypatch.setattr(cordon, "proxy_problems", look)
    monkeypatch.setattr(rolling, "proxy_problems", look)
    monkeypatch.setattr(rolling, "run", run)
    clock = [0.0]

    def sleep(seconds: float) -> None:
        known["steps"].append("waits")
        clock.append(clock.pop() + seconds)
        gevent.sleep(0)

    monkeypatch.setattr(cordon, "gevent", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(cordon, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return known


def together(nodes: Nodes, function: Callable[[str], bool]) -> list[bool]:
    """Call a function for each of two proxies at the same time."""
    spawned = [gevent.spawn(function, name) for name in ("pi4", "pi5")]
    gevent.joinall(spawned, raise_error=True)
    return [one.value for one in spawned]


def test_proxies_without_a_cluster_have_turns_too(stands: dict[str, StandingState]) -> None:
    stands["pi1"] = ALONE
    (command,) = commands(Nodes(), PROXY, True)
    assert type(command) is FunctionCommand
    (command,) = commands(Nodes(), PROXY, False)
    assert type(command) is StringCommand
    (command,) = commands(Nodes(), replace(PROXY, one_of_several=False), True)
    assert type(command) is StringCommand


@pytest.mark.parametrize("batch", [1, 2, 10])
def test_two_proxies_never_have_their_turns_together(proxies: dict[str, Any], batch: int) -> None:
    nodes = Nodes("pi4", "pi5")
    how = replace(PROXY, batch=batch)
    proxies["pi4"] = [[], ["HAProxy does not answer"], ["HAProxy does not answer"], []]

    assert together(nodes, lambda name: take(nodes, how, ALONE, name=name)) == [True, True]

    steps = ["pi4 begins", "pi4 ends", "waits", "waits", "pi5 begins", "pi5 ends"]
    assert proxies["steps"] == steps


def test_a_proxy_that_does_not_come_back_keeps_the_other_one_up(proxies: dict[str, Any]) -> None:
    nodes = Nodes("pi4", "pi5")
    proxies["pi4"] = [[], ["HAProxy does not answer"]]

    assert together(nodes, lambda name: take(nodes, PROXY, ALONE, name=name)) == [False, False]

    assert proxies["steps"][:2] == ["pi4 begins", "pi4 ends"]
    assert {*proxies["steps"][2:]} == {"waits"}
    assert failed(nodes) == "pi4: HAProxy does not answer"


def test_a_proxy_that_did_not_work_before_is_not_waited_for(proxies: dict[str, Any]) -> None:
    nodes = Nodes("pi4", "pi5")
    proxies["pi4"] = [["HAProxy does not answer"]]
    assert take(nodes, PROXY, ALONE, name="pi4")
    assert proxies["steps"] == ["pi4 begins", "pi4 ends"]


@pytest.mark.parametrize(
    ("does", "done", "steps"),
    [
        ("work", [True, True], ["pi4 begins", "pi4 ends", "pi5 begins", "pi5 ends"]),
        ("fail", [False, False], ["pi4 begins", "pi4 ends"]),
    ],
)
def test_what_restarts_a_proxy_is_done_on_one_after_the_other(
    proxies: dict[str, Any], does: str, done: list[bool], steps: list[str]
) -> None:
    nodes = Nodes("pi4", "pi5")

    def work(name: str) -> bool:
        def transaction() -> Commands:
            yield StringCommand(does)

        with nodes.on(name) as host:
            (command,) = list(rolling.one_proxy_at_a_time(transaction()))
            assert isinstance(command, FunctionCommand)
            result: bool = command.function(nodes.state, host, *command.args)
            return result

    assert together(nodes, work) == done
    assert proxies["steps"] == steps
