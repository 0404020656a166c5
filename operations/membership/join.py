"""Have a node join the cluster by kubeadm."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import gevent  # type: ignore[import-untyped]
from pyinfra.api.command import FunctionCommand

from chaos_engine.facts.api_servers import ABSENT, ApiServers
from chaos_engine.facts.membership import JOIN, ApiState, ClusterApi, Membership, MembershipState
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.arguments import Address, Endpoint
from chaos_engine.operations.engine.converge import Commands, converge, fail_host
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.membership.credentials import credentials, filled
from chaos_engine.operations.membership.kubeadm import advice, join_script, run_kubeadm
from chaos_engine.operations.rolling.cluster_turn import work_with_leases
from chaos_engine.operations.rolling.cordon import (
    WORKS_AGAIN_SECONDS,
    Departure,
    NodeName,
    Rolling,
    come_back,
)
from chaos_engine.operations.rolling.gate import gate
from chaos_engine.operations.rolling.kubectl import PAUSE, ClusterError, ClusterNode
from chaos_engine.operations.rolling.turns import attempt

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

NO_NETWORK = "NetworkReady=false"
"""A part of what kubelet says in the condition Ready until a pod network is installed
(``updateRuntimeUp`` in kubelet.go, and ``String`` of its ``RuntimeCondition``)."""


@converge(
    reads=lambda rolling, endpoint, controllers, hosts, after_deploy=False: [
        Read.of(Membership),
        Read.of(ClusterApi, endpoint=endpoint),
        Read.of(ApiServers, addresses=tuple(controllers.values())),
    ]
)
def join_cluster(
    rolling: Rolling,
    endpoint: Endpoint,
    controllers: Mapping[NodeName, Address],
    hosts: Mapping[NodeName, str],
    after_deploy: bool = False,
) -> Commands:
    """Have the node join the cluster, unless it has joined already.

    + rolling: the node's name, whether it is a controller, and how to ask the cluster for its nodes
    + endpoint: host and port of the Kubernetes API, such as "k8s:6443"
    + controllers: addresses of the cluster's other controllers, by name
    + hosts: the controllers' names in the inventory, by name. One of them makes a bootstrap token
      for the node, and need not be in the run
    + after_deploy: whether the same run deploys the node first. Problems that a preview finds then
      do not refuse the node, because the deploy may solve them. The run itself looks again

    Controllers join one after the other, all other nodes at the same time. The operation waits
    until the node works, and until the API server of a controller is ready. With `rolling.kubectl`
    it also waits until the node is Ready. If ``kubeadm join`` was interrupted, the next run takes
    back what it did, and joins again. Raises `NodeError` in these cases:

    - the node was not deployed
    - the API does not answer, or no controller that is in the inventory has a ready API server
    - the node's kubelet has another minor version than the API server
    - the cluster has a node of this name that is Ready

    **Example:** ``join_cluster(name="Join the cluster", rolling=Rolling(node="pi3"),
    endpoint="k8s:6443", controllers={"pi1": "192.168.1.50"}, hosts={"pi1": "pi1"})``
    """
    state, host = current()
    found = observe(Membership)
    if found.joined and not found.unfinished:
        host.noop("the node has joined a cluster")
        return
    what = (
        f"join the cluster at {endpoint} as {'a controller' if rolling.controller else 'a worker'}"
    )
    api = observe(ClusterApi, endpoint=endpoint)
    answers = observe(ApiServers, addresses=tuple(controllers.values()))
    ready = [name for name, at in controllers.items() if answers.get(at) == "200"]
    problems = [
        not_deployed(found),
        unreachable(api, endpoint),
        version_problem(found.kubelet, api.version),
        *([] if not api.ready else [no_source(controllers, hosts, ready)]),
    ]
    if any(problems):
        if after_deploy and not state.is_executing:
            because(f"{what}, once it is deployed")
            yield FunctionCommand(_join, (rolling, found, False, hosts), {})
            return
        raise NodeError("; ".join(filter(None, problems)))
    known = _node_in_cluster(rolling)
    if why := taken(rolling.node, known, found.unfinished):
        raise NodeError(why)
    because(
        *(
            [f"take back what an unfinished kubeadm {found.unfinished} did"]
            * bool(found.unfinished)
        ),
        what + (f", in place of the node {rolling.node} that is not Ready" if known else ""),
    )
    sources = {name: hosts[name] for name in ready if name in hosts}
    yield FunctionCommand(_join, (rolling, found, known is not None, sources), {})


def not_deployed(found: MembershipState) -> str:
    """Return why the node lacks what a join needs, "" if it lacks nothing."""
    if found.kubelet and found.join:
        return ""
    missing = JOIN if found.kubelet else "kubelet"
    return f"the node has no {missing}; deploy the node first: pyinfra inventory.py deploy.py"


def unreachable(api: ApiState, endpoint: str) -> str:
    """Return why the node cannot join by the API's address, "" if it can."""
    if api.ready:
        return ""
    if api.answer == ABSENT:
        return (
            f"nothing accepts a connection at {endpoint}, the API's address; deploy the proxy, and "
            "look at: chaos_engine.deploys.verify --limit proxy"
        )
    return (
        f"no API server is ready at {endpoint} ({api.answer}); to create the cluster, run "
        "chaos_engine.deploys.init on one controller; if there is a cluster, look at: "
        f"curl -k https://{endpoint}/readyz"
    )


def version_problem(kubelet: str, api: str) -> str:
    """Return why a kubelet's version does not fit an API server's, "" if it does.

    + kubelet: version of kubelet and of kubeadm on the node
    + api: version of the API server. If it is "" (not known), the result is "", and kubeadm itself
      checks the versions when it joins the node

    A node has to be joined by a kubeadm of the cluster's version (kubernetes.io, "Creating a
    cluster with kubeadm", version skew). kubelet may not be newer than any API server
    (kubernetes.io/releases/version-skew-policy). Patch releases may differ. This is a pure
    function.
    """
    own, others = kubelet.split(".")[:2], api.split(".")[:2]
    if not kubelet or not api or own == others:
        return ""
    minor = ".".join(others)
    return (
        f"kubelet and kubeadm {kubelet} cannot join a cluster of version {api}; set "
        f"{setting('kubernetes_version')} to a release of {minor} and deploy the node, or upgrade "
        "the cluster first"
    )


def no_source(controllers: Iterable[str], hosts: Mapping[str, str], ready: Iterable[str]) -> str:
    """Return why no controller can make a bootstrap token, "" if one can.

    + controllers: names of the other controllers
    + hosts: their names in the inventory, by name
    + ready: names of the controllers whose API servers are ready
    """
    ready = list(ready)
    if any(name in hosts for name in ready):
        return ""
    if not ready:
        return (
            "a controller has to make a bootstrap token, but the API server of none is ready "
            f"({', '.join(controllers) or 'no other controllers are known'})"
        )
    return (
        "a controller has to make a bootstrap token, but none whose API server is ready is in the "
        f"inventory ({', '.join(ready)}); add one to inventory.py, or join the node by hand: "
        f"{JOIN} says how"
    )


def taken(node: str, known: ClusterNode | None, unfinished: str) -> str:
    """Return why another machine may have the node's name in the cluster, "" if none has.

    + known: the cluster's node of this name, ``None`` if there is none
    + unfinished: "join" if an earlier run has begun to join this node
    """
    if known is None or not known.ready or unfinished:
        return ""
    return (
        f"the cluster already has a node {node} that is Ready; if another machine has this name, "
        "give this one another; if it was this node, and it stopped less than a minute ago, wait "
        f"until kubectl get node {node} says NotReady; to remove it, run "
        f"chaos_engine.deploys.forget --data {setting('forget')}={node}"
    )


def _node_in_cluster(rolling: Rolling) -> ClusterNode | None:
    """Return the cluster's node of the same name, ``None`` if there is none, or it is not known.

    Raises `NodeError` if the cluster does not answer.
    """
    if rolling.kubectl is None:
        warn(
            f"{setting('kubeconfig')} is not set, so it is not known whether a node of this name "
            "is in the cluster, and whether the node becomes Ready",
            of_node=False,
        )
        return None
    try:
        return rolling.kubectl.nodes().get(rolling.node)
    except ClusterError as error:
        raise NodeError(str(error)) from None


def _join(
    state: State,
    host: Host,
    rolling: Rolling,
    found: MembershipState,
    known: bool,
    sources: Mapping[str, str],
) -> bool:
    """Join a node, controllers in turns; print why it failed, if it did.

    + known: whether the cluster has a node of this name
    """
    turns = gate(state, rolling.batch)
    with ExitStack() as held:
        if rolling.controller:
            with waiting(host, turns.what_it_waits_for):
                held.enter_context(turns.turn(host.name, "controller", joined=True))
        work = partial(_join_in_turn, state, host, rolling, found, known, sources)
        if rolling.controller:
            problem = attempt(partial(work_with_leases, host, rolling, work))
        else:
            problem = attempt(work)
    return fail_host(state, host, problem) if problem else True


def _join_in_turn(
    state: State,
    host: Host,
    rolling: Rolling,
    found: MembershipState,
    known: bool,
    sources: Mapping[str, str],
) -> str:
    """Join a node and wait until it works; return the problem, "" if there is none."""
    began = time.monotonic()
    if found.unfinished and known and rolling.kubectl:
        # The unfinished join may have left the node Ready, and kubeadm would refuse that
        rolling.kubectl.delete(rolling.node)
    with credentials(state, host, sources, rolling.controller) as secrets:
        try:
            config = filled(found.join, secrets)
        except ValueError as error:
            return f"{JOIN}: {error}; deploy the node again: chaos_engine.deploys.kubernetes"
        script = join_script(bool(found.unfinished))
        if problem := run_kubeadm(host, script, stdin=config):
            return f"kubeadm join: {problem}{advice(problem)}"
    problem = come_back(host, rolling, Departure(), {}) or await_ready(host, rolling)
    if not problem:
        seconds = time.monotonic() - began
        host.log(f"{rolling.node} has joined the cluster, {seconds:.0f} s after it began")
    return problem


def await_ready(host: Host, rolling: Rolling) -> str:
    """Wait until a node is Ready; return the problem, "" if there is none.

    A node that lacks only a pod network counts as ready, because the user installs the network.
    """
    if rolling.kubectl is None:
        return ""
    node, began = None, time.monotonic()
    with waiting(host, f"waiting until {rolling.node} is Ready", WORKS_AGAIN_SECONDS):
        while time.monotonic() - began < WORKS_AGAIN_SECONDS:
            node = rolling.kubectl.nodes().get(rolling.node)
            if node and (node.ready or NO_NETWORK in node.why):
                if not node.ready:
                    warn(f"{rolling.node} is not Ready until the cluster has a pod network")
                if node.unschedulable:
                    warn(f"{rolling.node} is cordoned; look at: kubectl uncordon {rolling.node}")
                return ""
            gevent.sleep(PAUSE)
    why = node.why if node else "the cluster does not have it"
    return (
        f"the node {rolling.node} is not Ready in its cluster: {why}; look at: kubectl describe "
        f"node {rolling.node}"
    )
