"""Drain a node before work that stops pods. Uncordon the node when its services run again."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import gevent  # type: ignore[import-untyped]
from pyinfra.api.host import Host

from chaos_engine.facts.api_servers import ABSENT, SILENT, ApiServers
from chaos_engine.facts.health import problems_command
from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.observe.progress import Doing, waiting
from chaos_engine.facts.standing import NOTE, Standing, StandingState
from chaos_engine.facts.text import setting
from chaos_engine.facts.vrrp import CAN_TAKE_OVER, VRRP_RUNS
from chaos_engine.operations.engine.arguments import Address, Form
from chaos_engine.operations.engine.remote import ask, ask_fact, run_script
from chaos_engine.operations.engine.shell import PRELUDE, quote
from chaos_engine.operations.rolling.gate import Lane, gate
from chaos_engine.operations.rolling.kubectl import API_SECONDS, ClusterError, ClusterNode, Kubectl

T = TypeVar("T")

WORKS_AGAIN_SECONDS = 300.0
"""Seconds that a node may take to work again after its turn. A Raspberry Pi starts slowly."""

FIXED_SECONDS = 20.0
"""Seconds to wait for services that did not work before the turn. The turn may have fixed them."""

PAUSE = 2.0
"""Seconds between two checks."""

ENDS_PODS = frozenset({"docker", "cri_dockerd", "kubernetes"})
"""Names of checks of the fact `Standing`. If one of these checks fails, kubelet cannot end the
node's pods."""

NodeName = Annotated[
    str, Form("([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?", "the name of a node in Kubernetes, such as pi1")
]


@dataclass(frozen=True)
class Rolling:
    """How a node is drained, and which nodes of its cluster may be down at the same time.

    + lane: "proxy" for a proxy, "controller" for a controller that is not a proxy, "" for all other
      nodes. A proxy may be down only while all other nodes of the cluster are up. Only one node of
      the lane "controller" may be down at a time
    + batch: how many nodes of a cluster may be down at the same time. All nodes of a cluster must
      have the same number
    + kubectl: kubectl with the cluster's kubeconfig; ``None`` if no kubeconfig is known
    + node: the node's name in the cluster
    + controllers: for a controller or a proxy, the addresses of the cluster's other controllers, by
      name; empty for all other nodes. Before the node goes down, enough API servers of these
      controllers have to be ready (`api_servers_missing`)
    + controller: whether the node is a controller. A proxy may also be a controller
    + drain_seconds: how long draining the node may take
    + one_of_several: whether the node is one of several proxies. Several proxies go down one after
      the other, even before they have joined a cluster. So one proxy always has the API's address
    + drain: whether the node is drained. If false, the node waits for its turn and for the other
      controllers, but its pods stay
    """

    lane: Lane = ""
    batch: int = 1
    kubectl: Kubectl | None = None
    node: NodeName = ""
    controllers: Mapping[NodeName, Address] = field(default_factory=dict)
    controller: bool = False
    drain_seconds: int = 300
    one_of_several: bool = False
    drain: bool = True


@dataclass(frozen=True)
class Departure:
    """What has to be restored on a node at the end of its turn.

    + ours: whether this package cordoned the node and has to uncordon it
    + ready: whether the node was Ready and has to become Ready again
    """

    ours: bool = False
    ready: bool = False


def leave(host: Host, rolling: Rolling, before: StandingState) -> Departure:
    """Cordon and drain a node; return what has to be restored at the end of its turn.

    + before: the node's state in its cluster, before its turn

    The function first waits until enough other API servers are ready. Before cordoning the node,
    the function writes the file `NOTE` on the node. If the run is interrupted while the node is
    cordoned, a later run finds the file and uncordons the node. A node that cannot be drained is
    uncordoned. A node that somebody else has cordoned always stays cordoned. Without a kubeconfig,
    or if `rolling.drain` is false, the node is neither cordoned nor drained. Raises `ClusterError`
    if the node must not be drained, or cannot be drained.
    """
    nodes, own = None, ClusterNode(ready=False, unschedulable=False)
    if rolling.kubectl:
        with waiting(host, "asking the cluster for its nodes", API_SECONDS):
            nodes = rolling.kubectl.nodes()
        own = check_may_leave(rolling, nodes)
    if "api_server" not in before.problems:  # the turn cannot stop an API server that is down
        _await_api_servers(host, rolling, nodes)
    if rolling.kubectl is None or not rolling.drain:
        return Departure()
    ours = before.cordoned or not own.unschedulable
    if ours:
        _change_note(host, note(rolling.node))
    # A node stays Ready in the API until some 40 s after its kubelet has ended
    ready = own.ready and not ENDS_PODS & {*before.problems}
    host.log(f"Draining {rolling.node}")
    try:
        with waiting(host, f"cordoning {rolling.node}", API_SECONDS) as doing:
            rolling.kubectl.cordon(rolling.node)
            doing.now("waiting until the node's pods have ended", rolling.drain_seconds)
            problem = rolling.kubectl.drain(rolling.node, rolling.drain_seconds, ready)
    except ClusterError as error:
        problem = str(error)
    if problem:
        if ours:
            _uncordon(host, rolling)
        raise ClusterError(
            f"{rolling.node} cannot be drained, so the work on it was not started: {problem}"
        )
    return Departure(ours, ready)


def come_back(host: Host, rolling: Rolling, departure: Departure, known: Mapping[str, str]) -> str:
    """Wait until a node works again, and uncordon it.

    + departure: what has to be restored on the node, from `leave`
    + known: problems that the node had before its turn, by the check's name. If the node has only
      known problems, the wait ends after `FIXED_SECONDS`

    Returns the problems that are not in `known`, "" if there are none. A node with a problem that
    is not in `known` stays cordoned.
    """
    cordoned = f"; {rolling.node} is left cordoned" if departure.ours else ""
    try:
        with waiting(host, "checking whether the node works", WORKS_AGAIN_SECONDS) as doing:
            problems = _await_work(host, rolling, departure.ready, known, doing)
        if problems:
            return f"{'; '.join(problems)}{cordoned}"
        if departure.ours:
            _uncordon(host, rolling)
    except ClusterError as error:
        raise ClusterError(f"{error}{cordoned}") from error
    return ""


def proxy_problems(host: Host) -> list[str]:
    """Return the reasons why one of several proxies cannot take over the API's address now."""
    command = problems_command((VRRP_RUNS, CAN_TAKE_OVER))
    return [line.partition(" ")[2] for line in ask(host, command.get_raw_value())]


def await_proxy(host: Host) -> str:
    """Wait until one of several proxies can take over the API's address.

    Returns the problems that are left after `WORKS_AGAIN_SECONDS`, "" if there are none.
    """
    began = time.monotonic()
    with waiting(host, "waiting until this proxy can have the API's address", WORKS_AGAIN_SECONDS):
        while (problems := proxy_problems(host)) and (
            time.monotonic() - began < WORKS_AGAIN_SECONDS
        ):
            gevent.sleep(PAUSE)
    return "; ".join(problems)


def check_may_leave(rolling: Rolling, nodes: Mapping[str, ClusterNode]) -> ClusterNode:
    """Check that a node may be drained, and return its entry in `nodes`. This is a pure function.

    + nodes: all nodes of the cluster, by name

    Raises `ClusterError` if the cluster has no node of this name, or if the node is a controller
    and another controller is not Ready.
    """
    if rolling.node not in nodes:
        raise ClusterError(
            f"the cluster of {setting('kubeconfig')} has no node {rolling.node}; its nodes: "
            f"{', '.join(sorted(nodes)) or 'none'}. Is this the kubeconfig of another cluster?"
        )
    down = [name for name in rolling.controllers if name in nodes and not nodes[name].ready]
    if rolling.controller and down:
        raise ClusterError(
            f"{rolling.node} is a controller and must stay up, because the controller {down[0]} is "
            f"not Ready; look at: kubectl describe node {down[0]}. {_gone_for_good(down[0])}"
        )
    return nodes[rolling.node]


def _gone_for_good(name: str) -> str:
    """Return what to do about a controller that will not come back."""
    return (
        f"If {name} will not come back, remove it from the cluster (kubectl delete node {name}) "
        f"and from {setting('controllers')}"
    )


def api_servers_missing(controller: bool, answers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the controllers to wait for before a node goes down. This is a pure function.

    + controller: whether the node that goes down runs an API server itself
    + answers: what the API servers of the other controllers answer (`ApiServers`), by the
      controller's name

    The result is empty if enough API servers stay ready while the node is down. If not, the result
    has the controllers whose API servers are not ready. A majority of the controllers that have
    joined the cluster is enough. If the node is one of only two controllers, the other controller
    is enough.

    Each API server is asked directly, because the Kubernetes API learns too late that an API server
    has ended: the API server's node and mirror pod stay Ready for another half a minute.
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

    Raises `ClusterError` if too few are ready after `API_SECONDS`.
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
            found = ask_fact(host, fact, command)
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
        f"{rolling.node or host.name} must stay up, because without it too few API servers are "
        f"ready; not ready: {not_ready}. Look at: curl -k https://{asked[missing[0]]}:6443/readyz. "
        f"{_gone_for_good(missing[0])}"
    )


def note(node: str) -> str:
    """Return the shell script that writes the file `NOTE` on a node.

    + node: the node's name in the cluster

    A run executes the script before the run cordons the node.
    """
    folder = posixpath.dirname(NOTE)
    return f"""\
{PRELUDE}mkdir -p {folder}
printf '%s\\n' {quote(node)} >{NOTE}.chaos-new; sync {NOTE}.chaos-new
mv -f {NOTE}.chaos-new {NOTE}; sync {folder}
"""


def _uncordon(host: Host, rolling: Rolling) -> None:
    """Uncordon a node, and remove the file `NOTE` from it."""
    if rolling.kubectl:
        with waiting(host, f"uncordoning {rolling.node}", API_SECONDS):
            rolling.kubectl.cordon(rolling.node, wanted=False)
    _change_note(host, f"{PRELUDE}rm -f -- {NOTE}; sync {posixpath.dirname(NOTE)}")


def _change_note(host: Host, script: str) -> None:
    """Run a script that writes or removes the file `NOTE` on the node."""
    if (problem := run_script(host, script)) is not None:
        raise NodeError(f"{NOTE} cannot be changed: {problem}")


def _await_work(
    host: Host, rolling: Rolling, ready: bool, known: Mapping[str, str], doing: Doing
) -> list[str]:
    """Wait until a node works again. Return the remaining problems that are not in `known`.

    + ready: whether the node has to be Ready in its cluster
    + known: problems that the node had before its turn, by the check's name. If the node has only
      known problems, the wait ends after `FIXED_SECONDS`
    + doing: the step that the progress lines show. The function updates the step's description
    """
    began = time.monotonic()
    while True:
        found = read_standing(host).problems
        problems = [problem for concern, problem in found.items() if concern not in known]
        if not problems and rolling.kubectl and ready:
            node = rolling.kubectl.nodes().get(rolling.node)
            if node is None or not node.ready:
                problems = [
                    f"the node {rolling.node} is not Ready in its cluster; look at: kubectl "
                    f"describe node {rolling.node}"
                ]
        if found:
            doing.what = f"waiting until these work again: {', '.join(found)}"
        elif problems:
            doing.what = f"waiting until {rolling.node} is Ready in its cluster"
        waited = time.monotonic() - began
        if waited > WORKS_AGAIN_SECONDS or (not problems and (not found or waited > FIXED_SECONDS)):
            # Problems are remembered only after the wait, because they prevent other nodes from
            # taking a turn. A node that is still starting always has problems
            gate(host.state, rolling.batch).remember(host.name, found)
            return problems
        gevent.sleep(PAUSE)


def read_standing(host: Host) -> StandingState:
    """Read the node's present state in its cluster, and return it."""
    fact = Standing()
    return ask_fact(host, fact, fact.command())
