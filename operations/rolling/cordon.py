"""Drain a node before work that stops its pods, and uncordon it once it works again."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import gevent  # type: ignore[import-untyped]
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host

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

T = TypeVar("T")

WORKS_AGAIN_SECONDS = 300.0
"""How long a node may take until it works again after its turn. A Pi starts slowly."""

FIXED_SECONDS = 20.0
"""How long to wait for something that did not work before the turn. The turn may have fixed it."""

PAUSE = 2.0
"""Seconds between two checks."""

ENDS_PODS = frozenset({"docker", "cri_dockerd", "kubernetes"})
"""The concerns that have to work before a pod of the node can end."""

NodeName = Annotated[
    str, Form("([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?", "the name of a node in Kubernetes, as pi1")
]


@dataclass(frozen=True)
class Rolling:
    """How a node is drained, and which other nodes may be down at the same time.

    + lane: "controller" for controllers, of which one at a time may be down; "proxy" for the proxy,
      which may be down only while all other nodes of the cluster are up; "" for all other nodes
    + batch: how many nodes of a cluster may be down at the same time; all nodes get the same number
    + kubectl: the program that talks to the cluster; ``None`` if no kubeconfig is known
    + node: the node's name in the cluster
    + controllers: addresses of the cluster's other controllers by name, for a controller or the
      proxy. Enough of their API servers have to be ready before the node goes down
      (`api_servers_missing`). Empty for all other nodes
    + controller: whether the node is a controller; the proxy may be one too
    + drain_seconds: how long the node's pods may take to leave
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
    """The state of a node before its turn, which the end of the turn restores.

    + ours: whether this package cordoned the node, and so has to uncordon it
    + ready: whether the node was Ready, and so has to become Ready again
    """

    ours: bool = False
    ready: bool = False


def leave(host: Host, rolling: Rolling, before: StandingState) -> Departure:
    """Cordon and drain a node; return how it was before.

    + before: how the node stands in its cluster

    Without a kubeconfig the node is neither cordoned nor drained. The cordon is noted on the node
    first, so that a later run can uncordon the node if this run is interrupted. A node that
    somebody else has cordoned stays cordoned. If the node cannot be drained, it is uncordoned
    again, and `ClusterError` is raised.
    """
    nodes, own = None, ClusterNode(ready=False, unschedulable=False)
    if rolling.kubectl:
        with waiting(host, "asking its cluster for its nodes", API_SECONDS):
            nodes = rolling.kubectl.nodes()
        own = check_may_leave(rolling, nodes)
    if "api_server" not in before.problems:  # if its own is down, the turn stops none
        _await_api_servers(host, rolling, nodes)
    if rolling.kubectl is None:
        return Departure()
    ours = before.cordoned or not own.unschedulable
    if ours:
        _change_note(host, note(rolling.node))
    # the cluster calls a node Ready until some 40 s after its kubelet has ended
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
            _uncordon(host, rolling)
        raise ClusterError(
            f"{rolling.node} cannot be drained, so the work on it was not begun: {problem}"
        )
    return Departure(ours, ready)


def come_back(host: Host, rolling: Rolling, departure: Departure, known: Mapping[str, str]) -> str:
    """Wait until a node works again, and uncordon it.

    + departure: how the node was before its turn
    + known: problems that it had before its turn, by concern. The wait for these is short

    Returns why the node does not work, "" if it does. A node that does not work stays cordoned.
    """
    with waiting(host, "looking whether it does its work", WORKS_AGAIN_SECONDS) as doing:
        problems = _await_work(host, rolling, departure.ready, known, doing)
    if problems:
        cordoned = f"; {rolling.node} is left cordoned" if departure.ours else ""
        return f"{'; '.join(problems)}{cordoned}"
    if departure.ours:
        _uncordon(host, rolling)
    return ""


def check_may_leave(rolling: Rolling, nodes: Mapping[str, ClusterNode]) -> ClusterNode:
    """Return the node as its cluster sees it: a pure function.

    + nodes: all nodes of the cluster, by name

    Raises `ClusterError` if the node must not be drained: because the cluster does not know it, or
    because it is a controller and another controller is not Ready.
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
    """Return what to do about a controller that will not come back."""
    return (
        f"If nobody will bring {name} back, take it out of the cluster (kubectl delete node {name})"
        f" and out of {setting('controllers')}"
    )


def api_servers_missing(controller: bool, answers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the controllers to wait for if too few API servers are ready: a pure function.

    + controller: whether the node that goes down has an API server itself
    + answers: what the other controllers' API servers say, by name, see `ApiServers`

    The controllers to wait for are those whose API servers are not ready. Returns nothing if enough
    API servers stay ready while the node is down. Enough is a majority of all that have joined; if
    only two have joined, one is enough. Kubernetes' own objects do not tell which API servers are
    ready: nodes and mirror pods stay Ready for half a minute after an API server has ended.
    """
    joined = {name: answer for name, answer in answers.items() if answer != ABSENT}
    enough = min((len(joined) + controller) // 2 + 1, len(joined))
    missing = tuple(name for name, answer in joined.items() if answer != "200")
    return missing if len(joined) - len(missing) < enough else ()


def _await_api_servers(
    host: Host, rolling: Rolling, nodes: Mapping[str, ClusterNode] | None
) -> None:
    """Wait until enough of the other controllers' API servers are ready.

    + nodes: all nodes of the cluster by name, ``None`` if they are not known

    Raises `ClusterError` if that takes longer than `API_SECONDS`.
    """
    asked = {
        name: address
        for name, address in rolling.controllers.items()
        if nodes is None or name in nodes
    }
    if not asked:
        return
    deadline = time.monotonic() + API_SECONDS
    fact, told = ApiServers(), ""
    command = fact.command(addresses=tuple(map(str, asked.values())))
    with waiting(host, "asking the other API servers whether they are ready", API_SECONDS) as doing:
        while True:
            found = _ask(host, fact, command)
            answers = {name: found.get(str(at), SILENT) for name, at in asked.items()}
            missing = api_servers_missing(rolling.controller, answers)
            if not missing:
                return
            if time.monotonic() > deadline:
                break
            names = ", ".join(missing)
            if names != told:
                host.log(f"Waiting for the API server of {names}")
            doing.what, told = f"waiting for the API server of {names}", names
            gevent.sleep(PAUSE)
    not_ready = ", ".join(f"{name} ({answers[name]})" for name in missing)
    raise ClusterError(
        f"{rolling.node or host.name} has to stay up, because without it too few API servers are "
        f"ready; not ready: {not_ready}. curl -k https://{asked[missing[0]]}:6443/readyz says "
        f"more. {_gone_for_good(missing[0])}"
    )


def note(node: str) -> str:
    """Return the shell script that notes on a node that a run is about to cordon it.

    + node: its name in the cluster
    """
    folder = posixpath.dirname(NOTE)
    return f"""\
{PRELUDE}mkdir -p {folder}
printf '%s\\n' {quote(node)} >{NOTE}.chaos-new; sync {NOTE}.chaos-new
mv -f {NOTE}.chaos-new {NOTE}; sync {folder}
"""


def _uncordon(host: Host, rolling: Rolling) -> None:
    """Uncordon a node, and remove the note that a run has cordoned it."""
    if rolling.kubectl:
        with waiting(host, f"uncordoning {rolling.node}", API_SECONDS):
            rolling.kubectl.cordon(rolling.node, wanted=False)
    _change_note(host, f"{PRELUDE}rm -f -- {NOTE}; sync {posixpath.dirname(NOTE)}")


def _change_note(host: Host, script: str) -> None:
    """Run a script that writes or removes the note that a run has cordoned the node."""
    if (problem := run_script(host, script)) is not None:
        raise NodeError(f"{NOTE} cannot be changed: {problem}")


def _await_work(
    host: Host, rolling: Rolling, ready: bool, known: Mapping[str, str], doing: Doing
) -> list[str]:
    """Wait until a node works again; return what does not work when the time is over.

    + ready: whether the node has to be Ready in its cluster
    + known: problems that it had before its turn, by concern. The wait for these lasts only
      `FIXED_SECONDS`, and they are never returned
    + doing: what the lines of progress say
    """
    began = time.monotonic()
    while True:
        found = _read_standing(host).problems
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
            # remembered only now, because problems keep other nodes from taking a turn, and a node
            # that is still starting always has some
            gate(host.state, rolling.batch).remember(host.name, found)
            return problems
        gevent.sleep(PAUSE)


def _read_standing(host: Host) -> StandingState:
    """Return how the node stands in its cluster now."""
    fact = Standing()
    return _ask(host, fact, fact.command())


def _ask(host: Host, fact: NodeFact[T], command: StringCommand) -> T:
    """Return a fact's value now. In the middle of an operation, `observe` cannot be used."""
    return fact.process(ask(host, command.get_raw_value()))
