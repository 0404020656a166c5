"""Remove a node from the cluster, whether or not the node still works."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyinfra.api.command import FunctionCommand

from chaos_engine.facts.api_servers import ABSENT, SILENT, ApiServers
from chaos_engine.facts.membership import Membership
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.observe.host import in_words
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.standing import NOTE
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.arguments import Address, AddressOrNone
from chaos_engine.operations.engine.converge import Commands, converge, fail_host
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.remote import ask
from chaos_engine.operations.membership import known_hosts
from chaos_engine.operations.membership.elsewhere import as_operation, connect
from chaos_engine.operations.membership.kubeadm import reset_script, run_kubeadm
from chaos_engine.operations.rolling.cluster_turn import work_with_leases
from chaos_engine.operations.rolling.cordon import (
    NodeName,
    Rolling,
    api_servers_missing,
    leave,
    read_standing,
)
from chaos_engine.operations.rolling.gate import gate
from chaos_engine.operations.rolling.kubectl import API_SECONDS, ClusterError, ClusterNode
from chaos_engine.operations.rolling.turns import attempt

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

_PKI = "/etc/kubernetes/pki/etcd"
_ETCDCTL = f"etcdctl --cacert={_PKI}/ca.crt --cert={_PKI}/server.crt --key={_PKI}/server.key"
"""The program etcdctl with the certificates that kubeadm has made for its etcd."""


@dataclass(frozen=True)
class Leaving:
    """What is known of a node that shall leave the cluster.

    + known: the cluster's node of this name, ``None`` if the cluster does not have it
    + host: the node's host, ``None`` if the node cannot be reached
    + problem: why the node cannot be reached, "" if it can
    + joined: whether the node can be reached, and has Kubernetes' files
    + keys: how many lines of each known_hosts file have the node's host keys, without files that
      have none
    """

    known: ClusterNode | None
    host: Host | None = None
    problem: str = ""
    joined: bool = False
    keys: tuple[tuple[Path, int], ...] = ()


@converge(
    reads=lambda rolling, known_nodes, at, address, controllers, host_key=False, own_etcd=False: [
        Read.of(ApiServers, addresses=(*filter(None, [address]), *controllers.values()))
    ]
)
def forget_node(
    rolling: Rolling,
    known_nodes: Iterable[NodeName],
    at: str,
    address: AddressOrNone,
    controllers: Mapping[NodeName, Address],
    host_key: bool = False,
    own_etcd: bool = False,
) -> Commands:
    """Remove another node from the cluster.

    + rolling: the other node's name, whether it is a controller, and how it is drained;
      `rolling.kubectl` is needed
    + known_nodes: names of all nodes in the settings
    + at: the other node's name in the inventory, "" if the inventory does not have it
    + address: the other node's address, "" if it is not known
    + controllers: addresses of the other controllers, by name
    + host_key: whether to remove the node's host keys from known_hosts on this computer
    + own_etcd: whether kubeadm runs etcd on the controllers. ``kubeadm reset`` removes a node that
      works from that etcd. The run tells how to remove a dead one

    Any host that works can run this operation. If the node can be reached by ssh, it is drained,
    and ``kubeadm reset`` runs on it. Then it is deleted from the cluster. A controller leaves in
    the turn of the controllers. The node's log share is not changed. Raises `NodeError` in these
    cases:

    - the cluster does not answer, or neither the cluster nor the settings have the node
    - the node is Ready, but ssh cannot reach it: its pods would go on without the cluster
    - the node is a controller, and without it too few API servers would be ready

    **Example:** ``forget_node(name="Forget pi3", rolling=Rolling(node="pi3", kubectl=...),
    known_nodes=["pi1", "pi3"], at="pi3", address="192.168.1.52", controllers={})``
    """
    state, host = current()
    answers = observe(ApiServers, addresses=(*filter(None, [address]), *controllers.values()))
    found = _look(state, rolling, known_nodes, at, address, host_key)
    others = {name: answers.get(one, SILENT) for name, one in controllers.items()}
    own = answers.get(address, ABSENT) if rolling.controller else ABSENT
    problems = [
        cannot_leave(rolling.node, found),
        last_of_controllers(rolling, own, others),
    ]
    if any(problems):
        raise NodeError("; ".join(filter(None, problems)))
    todo = plan(rolling.node, found)
    if not todo:
        host.noop(f"the cluster has no node {rolling.node}")
        return
    because(*todo)
    names = _names(state, rolling.node, at, address)
    member = own_etcd and rolling.controller and not found.joined
    yield FunctionCommand(_forget, (rolling, found, names, member), {})


def cannot_leave(node: str, found: Leaving) -> str:
    """Return why a node must not be removed, "" if it may. This is a pure function."""
    if found.known is None or not found.known.ready or found.joined:
        return ""
    if found.host is None:
        return (
            f"{node} is Ready in the cluster, but cannot be reached by ssh: {found.problem}. Its "
            "pods would run on. Make ssh work, or switch the node off, and run again when kubectl "
            f"get node {node} says NotReady, which takes a minute"
        )
    return (
        f"{node} is Ready in the cluster, but the machine that answers ssh has not joined; if the "
        f"old one has just stopped, wait until kubectl get node {node} says NotReady; if another "
        "machine has this name in the cluster, give one of the two another name"
    )


def last_of_controllers(rolling: Rolling, own: str, others: Mapping[str, str]) -> str:
    """Return why a controller must stay, "" if it may leave. This is a pure function.

    + own: what its own API server answers (`ApiServers`)
    + others: what the API servers of the other controllers answer, by name

    A controller whose API server does not answer may leave, for it takes nothing away.
    """
    if own in (ABSENT, SILENT):
        return ""
    found = ", ".join(f"{name}: {said}" for name, said in others.items()) or "none"
    if "200" not in others.values():
        return (
            f"{rolling.node} has the last API server that is ready (others: {found}); have another "
            "controller join first"
        )
    if api_servers_missing(True, others):
        return (
            f"{rolling.node} is a controller, and without it too few API servers would be ready "
            f"(others: {found}); start the others first. If one of them is gone for good, forget "
            "that one first"
        )
    return ""


def plan(node: str, found: Leaving) -> list[str]:
    """Return what has to be done to remove a node, a text a step. This is a pure function."""
    steps = []
    if found.joined and found.known:
        steps.append(f"drain {node}")
    if found.joined:
        steps.append(f"run kubeadm reset on {node}")
    if found.known:
        standing = "Ready" if found.known.ready else "not Ready"
        reached = "" if found.host else f"; ssh does not reach it: {found.problem}"
        steps.append(f"delete the node {node} from the cluster ({standing}{reached})")
    for path, lines in found.keys:
        steps.append(f"remove the host keys of {node} from {path} ({lines} lines)")
    return steps


def what_remains(node: str, controller: bool, keys: bool) -> list[str]:
    """Return the steps that the user has to take once a node has left, one step per line.

    + controller: whether the node is in the setting of the controllers
    + keys: whether the node's host keys stay in known_hosts
    """
    own = f", {setting('controllers')}" if controller else ""
    back = [f"{setting('forget_host_key')}=true removes its old host keys"] if keys else []
    return [
        "; ".join(
            [
                f"If {node} comes back under this name, deploy and join it; HAProxy sends nothing "
                "there until its API server is ready"
                if controller
                else f"If {node} comes back under this name, deploy and join it",
                *back,
            ]
        ),
        f"If it is gone for good, remove it from inventory.py, {setting('nodes')}{own}, and deploy "
        "all nodes",
    ]


def member_of_etcd(node: str) -> str:
    """Return how to remove a dead controller from the etcd that kubeadm runs.

    Until that is done, the controller cannot join again, because kubeadm then finds that etcd is
    not healthy (its phase ``check-etcd``).
    """
    return (
        f"{node} may still be a member of kubeadm's etcd, and cannot join again before it is "
        "removed there. On another controller run: sudo crictl exec $(sudo crictl ps -q --name "
        f"'^etcd$') {_ETCDCTL} member list; then the same with: member remove ID"
    )


def _look(
    state: State,
    rolling: Rolling,
    known_nodes: Iterable[str],
    at: str,
    address: str,
    host_key: bool,
) -> Leaving:
    """Look for the node in three places: the cluster, the node itself, and ``known_hosts``.

    Raises `NodeError` if the cluster does not answer, or if nobody knows the node.
    """
    assert rolling.kubectl is not None
    node, known_nodes = rolling.node, list(known_nodes)
    try:
        nodes = rolling.kubectl.nodes()
    except ClusterError as error:
        raise NodeError(str(error)) from None
    if node not in nodes and node not in known_nodes:
        raise NodeError(
            f"neither {setting('nodes')} nor the cluster has a node {node}; the cluster's nodes: "
            f"{', '.join(sorted(nodes)) or 'none'}"
        )
    host, problem, joined = None, "the inventory does not have it", False
    if at:
        host, problem = connect(state, at, f"to forget {node}")
        if not problem:
            with as_operation(state, host):
                joined = Membership().process(ask(host, Membership().command())).joined
    names = _names(state, node, at, address)
    keys = [
        (path, count)
        for path in (names[1] if host_key else ())
        if (count := known_hosts.count_in(path, names[0]))
    ]
    return Leaving(nodes.get(node), None if problem else host, problem, joined, tuple(keys))


def _names(state: State, node: str, at: str, address: str) -> tuple[list[str], list[Path]]:
    """Return the names of a node's host keys, and the files that may have them."""
    host = state.inventory.get_host(at) if at else current()[1]
    assert host is not None
    names, files = known_hosts.names_and_files(host, [node, *filter(None, [address])])
    return names if at else [node, *filter(None, [address])], files


def _forget(
    state: State,
    host: Host,
    rolling: Rolling,
    found: Leaving,
    names: tuple[list[str], list[Path]],
    member: bool,
) -> bool:
    """Remove a node from the cluster; print why that failed, if it did.

    + names: the names of the node's host keys, and the files that may have them
    + member: whether the node may stay a member of kubeadm's own etcd
    """
    turns = gate(state, rolling.batch)
    with ExitStack() as held:
        if found.joined:
            with waiting(host, turns.what_it_waits_for):
                held.enter_context(turns.turn(rolling.node, rolling.lane, joined=True))
        work = partial(_leave_cluster, state, host, rolling, found)
        if found.joined:
            problem = attempt(partial(work_with_leases, host, rolling, work))
        else:
            problem = attempt(work)
    problems = [problem] if problem else []
    if not problem:
        problems += [
            why for path, _ in found.keys if (why := known_hosts.remove_from(path, names[0]))
        ]
        stays = not found.keys and any(known_hosts.count_in(path, names[0]) for path in names[1])
        for line in what_remains(rolling.node, rolling.controller, stays):
            host.log(in_words(line))
        if member:
            warn(member_of_etcd(rolling.node), of_node=False)
    return fail_host(state, host, "; ".join(problems)) if problems else True


def _leave_cluster(state: State, host: Host, rolling: Rolling, found: Leaving) -> str:
    """Drain, reset and delete a node; return the problem, "" if there is none."""
    assert rolling.kubectl is not None
    if found.joined and found.host:
        with as_operation(state, found.host):
            if found.known:
                leave(found.host, rolling, read_standing(found.host))
            if problem := run_kubeadm(found.host, reset_script(NOTE)):
                return f"kubeadm reset on {rolling.node}: {problem}"
    if found.known:
        with waiting(host, f"deleting {rolling.node}", API_SECONDS):
            rolling.kubectl.delete(rolling.node)
    return ""
