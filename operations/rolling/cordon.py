"""Drain a node before work that stops its pods, and uncordon it once it works again."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeVar

import gevent  # type: ignore[import-untyped]
from pyinfra.api.command import StringCommand

from chaos_engine.facts.api_servers import ABSENT, SILENT, ApiServers
from chaos_engine.facts.observe import NodeError, NodeFact
from chaos_engine.facts.observe.progress import Doing, waiting
from chaos_engine.facts.standing import NOTE, Standing, StandingState
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.arguments import Address, Form
from chaos_engine.operations.engine.remote import ask, run_script
from chaos_engine.operations.engine.shell import PRELUDE, quote
from chaos_engine.operations.rolling.gate import Lane, gate
from chaos_engine.operations.rolling.kubectl import API_SECONDS, ClusterError, ClusterNode, Kubectl

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

T = TypeVar("T")

WORKS_AGAIN_SECONDS = 300.0
"""How long a node may take until it works again after a turn: a Pi is slow after its start."""

FIXED_SECONDS = 20.0
"""How long to wait for something that did not work before the turn: the turn may have fixed it."""

PAUSE = 2.0
"""Seconds between two checks."""

ENDS_PODS = frozenset({"docker", "cri_dockerd", "kubernetes"})
"""Concerns without which no pod of the node can be ended."""


NodeName = Annotated[
    str, Form("([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?", "the name of a node in Kubernetes, as pi1")
]


@dataclass(frozen=True)
class Rolling:
    """The way in which a node is drained, and which other nodes may be down with it.

    + lane: "controller" for nodes of which only one may be down; "proxy" for a node that is down
      only while no other node of the cluster is; "" for all others
    + batch: how many nodes of a cluster may be down at the same time, the same for all nodes
    + kubectl: how the cluster is asked and told, ``None`` if it cannot be
    + node: the node's name in the cluster
    + controllers: addresses of the cluster's other controllers by name, empty unless the node is
      a controller or the proxy. Enough of their API servers have to be ready before it goes down
      (`api_servers_missing`)
    + controller: whether the node is a controller too
    + drain_seconds: how long its pods may take to leave
    """

    lane: Lane = ""
    batch: int = 1
    kubectl: Kubectl | None = None
    node: NodeName = ""
    controllers: Mapping[NodeName, Address] = field(default_factory=dict)
    controller: bool = False
    drain_seconds: int = 300


@dataclass(frozen=True)
class Departure:
    """What is known of a node that was drained.

    + ours: whether we cordoned it, so that we have to uncordon it
    + ready: whether it was Ready before, so that it has to be Ready again
    """

    ours: bool = False
    ready: bool = False


def leave(state: State, host: Host, rolling: Rolling, before: StandingState) -> Departure:
    """Cordon and drain the node, if its cluster can be told.

    + before: how the node stands in its cluster

    The cordon is noted on the node first: if this run does not come to uncordon it, a later run
    does. A node that somebody else has cordoned stays cordoned. Raises `ClusterError` if the node
    cannot be drained; then it is uncordoned again.
    """
    nodes = None
    if rolling.kubectl:
        with waiting(host, "asking its cluster for its nodes", API_SECONDS):
            nodes = rolling.kubectl.nodes()
    own = ClusterNode(ready=False, unschedulable=False)
    if nodes is not None:
        own = check_may_leave(rolling, nodes)
    if "api_server" not in before.problems:  # an API server that is down already is no loss
        _await_api_servers(state, host, rolling, nodes)
    if rolling.kubectl is None:
        return Departure()
    ours = before.cordoned or not own.unschedulable
    if ours:
        _script(state, host, note(rolling.node))
    # the cluster takes some 40 s to notice that a kubelet is dead, so Ready alone is not enough
    ready = own.ready and not ENDS_PODS & {*before.problems}
    host.log(f"Draining {rolling.node}")
    try:
        with waiting(host, f"cordoning {rolling.node}", API_SECONDS) as doing:
            rolling.kubectl.cordon(rolling.node)
            doing.now("waiting until its pods have left it", rolling.drain_seconds)
            problem = rolling.kubectl.drain(rolling.node, rolling.drain_seconds, ready)
    except ClusterError as error:
        problem = str(error)
    if problem:
        if ours:
            _uncordon(state, host, rolling)
        raise ClusterError(
            f"{rolling.node} cannot be drained, so nothing was done to it: {problem}"
        )
    return Departure(ours, ready)


def come_back(
    state: State,
    host: Host,
    rolling: Rolling,
    departure: Departure,
    known: Mapping[str, str] | None = None,
) -> str:
    """Wait until the node works again, and uncordon it.

    + departure: how it was when it was drained
    + known: problems that it had before the turn, by concern: these are not waited for long

    Returns why the node does not work, "" if it does. A node that does not work stays cordoned.
    """
    with waiting(host, "looking whether it does its work", WORKS_AGAIN_SECONDS) as doing:
        problems = _await_work(state, host, rolling, departure.ready, known or {}, doing)
    if problems:
        cordoned = f"; {rolling.node} is left cordoned" if departure.ours else ""
        return f"{'; '.join(problems)}{cordoned}"
    if departure.ours:
        _uncordon(state, host, rolling)
    return ""


def check_may_leave(rolling: Rolling, nodes: Mapping[str, ClusterNode]) -> ClusterNode:
    """Return the node as its cluster sees it, if it may be drained: a pure function.

    Raises `ClusterError` if the cluster does not know it, or if it is a controller and another
    controller is not Ready: a second one must not go down then.
    """
    if rolling.node not in nodes:
        raise ClusterError(
            f"the cluster of {setting('kubeconfig')} has no node {rolling.node}, it has "
            f"{', '.join(sorted(nodes)) or 'none'}; is it the kubeconfig of another cluster?"
        )
    down = [name for name in rolling.controllers if name in nodes and not nodes[name].ready]
    if rolling.controller and down:
        raise ClusterError(
            f"{rolling.node} is a controller, and another one, {down[0]}, is not Ready; look at: "
            f"kubectl describe node {down[0]}. {_gone_for_good(down[0])}"
        )
    return nodes[rolling.node]


def _gone_for_good(name: str) -> str:
    return (
        f"If nobody will bring {name} back, take it out of the cluster (kubectl delete node {name})"
        f" and out of {setting('controllers')}"
    )


def api_servers_missing(controller: bool, answers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the controllers whose API servers are not ready, if that leaves too few without us.

    + controller: whether the node has an API server itself
    + answers: what the other controllers' API servers say, by name, see `ApiServers`

    Enough is a majority of all API servers that have joined; of two, the other one is enough.
    Returns nothing if enough are ready. Node objects and mirror pods are no help: they say Ready
    for half a minute after the API server is gone. A pure function.
    """
    joined = {name: answer for name, answer in answers.items() if answer != ABSENT}
    enough = min((len(joined) + controller) // 2 + 1, len(joined))
    waiting = tuple(name for name, answer in joined.items() if answer != "200")
    return waiting if len(joined) - len(waiting) < enough else ()


def _await_api_servers(
    state: State, host: Host, rolling: Rolling, nodes: Mapping[str, ClusterNode] | None
) -> None:
    """Wait until enough of the other controllers' API servers are ready.

    Raises `ClusterError` if that takes longer than `API_SECONDS`.
    """
    asked = {
        name: address
        for name, address in rolling.controllers.items()
        if nodes is None or name in nodes
    }
    if not asked:
        return
    deadline, told = time.monotonic() + API_SECONDS, False
    fact = ApiServers()
    command = fact.command(addresses=tuple(map(str, asked.values())))
    with waiting(host, "asking the other API servers whether they are ready", API_SECONDS) as doing:
        while True:
            found = _ask(state, host, fact, command)
            answers = {name: found.get(str(at), SILENT) for name, at in asked.items()}
            missing = api_servers_missing(rolling.controller, answers)
            if not missing:
                return
            if time.monotonic() > deadline:
                break
            names = ", ".join(missing)
            if not told:
                host.log(f"Waiting for the API server of {names}")
                told = True
            doing.what = f"waiting for the API server of {names}"
            gevent.sleep(PAUSE)
    not_ready = ", ".join(f"{name} ({answers[name]})" for name in missing)
    raise ClusterError(
        f"too few API servers are ready to do without {rolling.node or host.name} now, not that of "
        f"{not_ready}: curl -k https://{asked[missing[0]]}:6443/readyz says more. "
        f"{_gone_for_good(missing[0])}"
    )


def note(node: str) -> str:
    """Return the shell script that notes on the node that a run cordons it."""
    folder = posixpath.dirname(NOTE)
    return f"""\
{PRELUDE}mkdir -p {folder}
printf '%s\\n' {quote(node)} >{NOTE}.chaos-new; sync {NOTE}.chaos-new
mv -f {NOTE}.chaos-new {NOTE}; sync {folder}
"""


def _uncordon(state: State, host: Host, rolling: Rolling) -> None:
    if rolling.kubectl:
        with waiting(host, f"uncordoning {rolling.node}", API_SECONDS):
            rolling.kubectl.cordon(rolling.node, wanted=False)
    _script(state, host, f"{PRELUDE}rm -f -- {NOTE}; sync {posixpath.dirname(NOTE)}")


def _script(state: State, host: Host, script: str) -> None:
    problem = run_script(state, host, script)
    if problem is not None:
        raise NodeError(f"{NOTE} cannot be changed: {problem}")


def _await_work(
    state: State,
    host: Host,
    rolling: Rolling,
    ready: bool,
    known: Mapping[str, str],
    doing: Doing,
) -> list[str]:
    """Wait until the node works again; return what does not work when the time is over.

    + ready: whether its cluster has to say that it is Ready
    + known: problems that it had before the turn, by concern: they are waited for only
      `FIXED_SECONDS`, and never returned
    """
    began = time.monotonic()
    while True:
        found = _read_standing(state, host).problems
        problems = [problem for concern, problem in found.items() if concern not in known]
        if not problems and rolling.kubectl and ready:
            node = rolling.kubectl.nodes().get(rolling.node)
            if node is None or not node.ready:
                problems = [
                    f"its cluster does not say that {rolling.node} is Ready; look at: kubectl "
                    f"describe node {rolling.node}"
                ]
        if found:
            doing.what = f"waiting until these work again: {', '.join(found)}"
        elif problems:
            doing.what = f"waiting until its cluster says that {rolling.node} is Ready"
        waited = time.monotonic() - began
        if waited > WORKS_AGAIN_SECONDS or (not problems and (not found or waited > FIXED_SECONDS)):
            # only the last answer: a problem of a node that is still starting would hold up others
            gate(state, rolling.batch).remember(host.name, found)
            return problems
        gevent.sleep(PAUSE)


def _read_standing(state: State, host: Host) -> StandingState:
    """Return how the node stands in its cluster now."""
    fact = Standing()
    return _ask(state, host, fact, fact.command())


def _ask(state: State, host: Host, fact: NodeFact[T], command: StringCommand) -> T:
    """Read a fact in the middle of an operation, when `observe` cannot."""
    return fact.process(ask(state, host, command.get_raw_value()))
