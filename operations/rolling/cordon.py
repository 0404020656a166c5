"""How a node leaves its cluster for some work, and how it comes back."""

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
from chaos_engine.operations.engine.prelude import PRELUDE
from chaos_engine.operations.engine.remote import ask, run_script
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.rolling.gate import Lane, gate
from chaos_engine.operations.rolling.kubectl import API_SECONDS, ClusterError, ClusterNode, Kubectl

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

T = TypeVar("T")

WORKS_AGAIN_SECONDS = 300.0
"""How long a node may take until it does its work again: a Pi is slow after its start."""

FIXED_SECONDS = 20.0
"""How long is waited for what did not work before: the work may have mended it, or not."""

PAUSE = 2.0
"""Seconds between two looks at it."""

ENDS_PODS = frozenset({"docker", "cri_dockerd", "kubernetes"})
"""Concerns that have to work for a pod of the node to end."""


NodeName = Annotated[
    str, Form("([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?", "the name of a node in Kubernetes, as pi1")
]


@dataclass(frozen=True)
class Rolling:
    """How a node is taken out of its cluster, and beside which others.

    + lane: nodes of one lane are never down together: "controller"; "proxy" is for one that is
      down while no other node of the cluster is
    + batch: how many nodes of a cluster may be down at the same time, the same for all
    + kubectl: how the cluster is asked and told, ``None`` if it cannot be
    + node: the node's name in the cluster
    + controllers: address of each of the cluster's controllers by its name, without the node
      itself, if it is a controller or the proxy: enough of their API servers have to be ready when
      it goes (`api_servers_missing`)
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
    """How a node was when it left: whether it is `ours` to uncordon, and whether it was `ready`,
    and so has to be again."""

    ours: bool = False
    ready: bool = False


def leave(state: State, host: Host, rolling: Rolling, before: StandingState) -> Departure:
    """Cordon and drain the node, if its cluster can be told.

    That it is going to be cordoned is noted on the node first, so that a later run knows if this
    one does not come to uncordon it. What somebody else has cordoned stays so. Raises
    `ClusterError` if the node cannot leave: then it is as it was.
    """
    nodes = None
    if rolling.kubectl:
        with waiting(host, "asking its cluster for its nodes", API_SECONDS):
            nodes = rolling.kubectl.nodes()
    own = ClusterNode(ready=False, unschedulable=False)
    if nodes is not None:
        own = check_may_leave(rolling, nodes)
    if "api_server" not in before.problems:  # else none goes that was there
        _await_api_servers(state, host, rolling, nodes)
    if rolling.kubectl is None:
        return Departure()
    ours = before.cordoned or not own.unschedulable
    if ours:
        _script(state, host, note(rolling.node))
    # of a kubelet that is dead the cluster hears after some 40 s
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
    left: Departure,
    known: Mapping[str, str] | None = None,
) -> str:
    """Wait until the node does its work, and have it take pods again.

    + left: how it was when it left
    + known: what did not work then, by concern: not waited for long

    Says why the node does not do its work, or nothing; it stays cordoned then.
    """
    with waiting(host, "looking whether it does its work", WORKS_AGAIN_SECONDS) as doing:
        problems = _await_work(state, host, rolling, left.ready, known or {}, doing)
    if problems:
        cordoned = f"; {rolling.node} is left cordoned" if left.ours else ""
        return f"{'; '.join(problems)}{cordoned}"
    if left.ours:
        _uncordon(state, host, rolling)
    return ""


def check_may_leave(rolling: Rolling, nodes: Mapping[str, ClusterNode]) -> ClusterNode:
    """The node as its cluster sees it: a pure function.

    Raises `ClusterError` if the cluster does not know it, or if it is a controller and another one
    is not Ready: whatever that lacks, this is no time to take one more away.
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
    """The controllers without whose API servers too few are ready once the node is down, none if
    there are enough: a pure function.

    + controller: whether the node has an API server itself
    + answers: what the other controllers' say, by name, see `ApiServers`

    Enough is a majority of all that have joined; of two the other one has to do. Node objects and
    mirror pods do not tell: they say Ready for half a minute after the API server is gone.
    """
    joined = {name: answer for name, answer in answers.items() if answer != ABSENT}
    enough = min((len(joined) + controller) // 2 + 1, len(joined))
    waiting = tuple(name for name, answer in joined.items() if answer != "200")
    return waiting if len(joined) - len(waiting) < enough else ()


def _await_api_servers(
    state: State, host: Host, rolling: Rolling, nodes: Mapping[str, ClusterNode] | None
) -> None:
    """Wait until enough of the other controllers' API servers are ready. `ClusterError` if it does
    not come to that."""
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
    said = ", ".join(f"{name} ({answers[name]})" for name in missing)
    raise ClusterError(
        f"too few API servers are ready to do without {rolling.node or host.name} now, not that of "
        f"{said}: curl -k https://{asked[missing[0]]}:6443/readyz says more. "
        f"{_gone_for_good(missing[0])}"
    )


def note(node: str) -> str:
    """The shell script that notes on the node that a run cordons it."""
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
    """Wait until the node does its work; what does not work when time is over."""
    began = time.monotonic()
    while True:
        found = _look(state, host).problems
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
            # not at each look: beside it others may take their turns, and it is still starting
            gate(state, rolling.batch).remember(host.name, found)
            return problems
        gevent.sleep(PAUSE)


def _look(state: State, host: Host) -> StandingState:
    """How the node stands now."""
    fact = Standing()
    return _ask(state, host, fact, fact.command())


def _ask(state: State, host: Host, fact: NodeFact[T], command: StringCommand) -> T:
    """What a fact says now: read by itself, for an operation is under way."""
    return fact.process(ask(state, host, command.get_raw_value()))
