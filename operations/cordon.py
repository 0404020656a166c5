"""How a node leaves its cluster for some work, and how it comes back."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import gevent  # type: ignore[import-untyped]

from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.standing import NOTE, Standing, StandingState
from chaos_engine.operations.arguments import Form
from chaos_engine.operations.gate import Lane, gate
from chaos_engine.operations.kubectl import ClusterError, ClusterNode, Kubectl
from chaos_engine.operations.prelude import PRELUDE
from chaos_engine.operations.remote import ask, run_script
from chaos_engine.operations.shell import quote

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

WELL_SECONDS = 300.0
"""How long a node may take until it does its work again: a Pi is slow after its start."""

MENDED_SECONDS = 20.0
"""How long is waited for what did not work before: the work may have mended it, or not."""

PAUSE = 2.0
"""Seconds between two looks at it."""


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
    + peers: the other controllers, if it is one; all of them have to be up when it goes
    + drain_seconds: how long its pods may take to leave
    """

    lane: Lane = ""
    batch: int = 1
    kubectl: Kubectl | None = None
    node: NodeName = ""
    peers: tuple[NodeName, ...] = ()
    drain_seconds: int = 300


@dataclass(frozen=True)
class Departure:
    """How a node was when it left: whether it is `ours` to uncordon, and whether it was `ready`."""

    ours: bool = False
    ready: bool = False


def leave(state: State, host: Host, rolling: Rolling, before: StandingState) -> Departure:
    """Cordon and drain the node, if its cluster can be told.

    That it is going to be cordoned is noted on the node first, so that a later run knows if this
    one does not come to uncordon it. What somebody else has cordoned stays so. Raises
    `ClusterError` if the node cannot leave: then it is as it was.
    """
    if rolling.kubectl is None:
        return Departure()
    own = fit_to_leave(rolling, rolling.kubectl.nodes())
    ours = before.cordoned or not own.unschedulable
    if ours:
        _script(state, host, note(rolling.node))
    host.log(f"Draining {rolling.node}")
    try:
        rolling.kubectl.cordon(rolling.node)
        problem = rolling.kubectl.drain(rolling.node, rolling.drain_seconds)
    except ClusterError as error:
        problem = str(error)
    if problem:
        if ours:
            _uncordon(state, host, rolling)
        raise ClusterError(
            f"{rolling.node} cannot be drained, so nothing was done to it: {problem}"
        )
    return Departure(ours, own.ready)


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
    problems = _await_work(state, host, rolling, left.ready, known or {})
    if problems:
        cordoned = f"; {rolling.node} is left cordoned" if left.ours else ""
        return f"{'; '.join(problems)}{cordoned}"
    if left.ours:
        _uncordon(state, host, rolling)
    return ""


def fit_to_leave(rolling: Rolling, nodes: Mapping[str, ClusterNode]) -> ClusterNode:
    """The node as its cluster sees it: a pure function.

    Raises `ClusterError` if the cluster does not know it, or cannot do without it.
    """
    if rolling.node not in nodes:
        raise ClusterError(
            f"the cluster of chaos_kubeconfig has no node {rolling.node}, it has "
            f"{', '.join(sorted(nodes)) or 'none'}; is it the kubeconfig of another cluster?"
        )
    down = [peer for peer in rolling.peers if peer in nodes and not nodes[peer].ready]
    if down:
        raise ClusterError(
            f"{rolling.node} is a controller, and another one, {down[0]}, is not Ready; look at: "
            f"kubectl describe node {down[0]}"
        )
    return nodes[rolling.node]


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
        rolling.kubectl.cordon(rolling.node, wanted=False)
    _script(state, host, f"{PRELUDE}rm -f -- {NOTE}; sync {posixpath.dirname(NOTE)}")


def _script(state: State, host: Host, script: str) -> None:
    problem = run_script(state, host, script)
    if problem is not None:
        raise NodeError(f"{NOTE} cannot be changed: {problem}")


def _await_work(
    state: State, host: Host, rolling: Rolling, ready: bool, known: Mapping[str, str]
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
        waited = time.monotonic() - began
        if waited > WELL_SECONDS or (not problems and (not found or waited > MENDED_SECONDS)):
            # not at each look: beside it others may take their turns, and it is still starting
            gate(state, rolling.batch).saw(host.name, found)
            return problems
        gevent.sleep(PAUSE)


def _look(state: State, host: Host) -> StandingState:
    """How the node stands now: read by itself, for an operation is under way."""
    fact = Standing()
    return fact.process(ask(state, host, fact.command().get_raw_value()))
