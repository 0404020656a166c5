"""Create the cluster on its first controller by kubeadm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import gevent  # type: ignore[import-untyped]
from pyinfra.api.command import FunctionCommand

from chaos_engine.facts.api_servers import ABSENT, SILENT, ApiServers
from chaos_engine.facts.membership import (
    INIT,
    ApiState,
    ClusterApi,
    EtcdKeys,
    Membership,
    MembershipState,
)
from chaos_engine.facts.observe import NodeError, Read, current, observe
from chaos_engine.facts.observe.host import in_words
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.arguments import Address, Endpoint, Folder
from chaos_engine.operations.engine.converge import Commands, converge, fail_host
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.remote import ask
from chaos_engine.operations.membership.kubeadm import RESET, advice, init_script, run_kubeadm
from chaos_engine.operations.rolling.cordon import Departure, NodeName, Rolling, come_back
from chaos_engine.operations.rolling.kubectl import API_SECONDS, PAUSE
from chaos_engine.operations.rolling.turns import attempt

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

_EMPTY = "etcdctl del --prefix /registry/"


@converge(
    reads=lambda rolling, address, endpoint, controllers, etcd=(), folder="/etc/kubernetes": [
        Read.of(Membership),
        Read.of(ClusterApi, endpoint=endpoint),
        Read.of(ApiServers, addresses=tuple(controllers.values())),
        Read.of(EtcdKeys, servers=etcd, folder=folder),
    ]
)
def create_cluster(
    rolling: Rolling,
    address: Address,
    endpoint: Endpoint,
    controllers: Mapping[NodeName, Address],
    etcd: tuple[Address, ...] = (),
    folder: Folder = "/etc/kubernetes",
) -> Commands:
    """Create the cluster on this node, its first controller, unless the node has joined one.

    + rolling: the node's name
    + address: the node's address
    + endpoint: host and port of the Kubernetes API, such as "k8s:6443"
    + controllers: addresses of the other controllers, by name
    + etcd: addresses of the external etcd servers
    + folder: the folder on the node with etcd's client certificate and key

    kubeadm's standard output is not printed, because it has a bootstrap token. Raises `NodeError`
    in these cases:

    - the node was not deployed, or an earlier ``kubeadm init`` did not finish
    - another controller or the API's address answers as a cluster
    - nothing accepts a connection at the API's address
    - the external etcd has the data of a cluster

    **Example:** ``create_cluster(name="Create the cluster", rolling=Rolling(node="pi1"),
    address="192.168.1.50", endpoint="k8s:6443", controllers={"pi4": "192.168.1.53"})``
    """
    host = current()[1]
    found = observe(Membership)
    if found.joined and not found.unfinished:
        host.noop("the node has joined a cluster")
        return
    api = observe(ClusterApi, endpoint=endpoint)
    answers = observe(ApiServers, addresses=tuple(controllers.values()))
    keys = observe(EtcdKeys, servers=etcd, folder=folder)
    named = {name: answers.get(at, SILENT) for name, at in controllers.items()}
    problems = [
        unfinished(found, bool(keys)),
        "" if found.init else _no_file(),
        cluster_exists(host.name, named, api, endpoint),
        no_address(address, api, endpoint),
        "" if found.unfinished else foreign_data(keys),
    ]
    if any(problems):
        raise NodeError("; ".join(filter(None, problems)))
    because(f"create the cluster, with the API at {endpoint}")
    yield FunctionCommand(_init, (rolling,), {"endpoint": endpoint})


def unfinished(found: MembershipState, has_data: bool) -> str:
    """Return what to do about a ``kubeadm init`` that did not finish, "" if there is none.

    + has_data: whether the external etcd has data of a cluster
    """
    if not found.unfinished or not (found.joined or has_data):
        return ""
    return (
        f"an earlier kubeadm {found.unfinished} did not finish on this node; to begin anew, run "
        f"{RESET} on it, and, if no other cluster uses this etcd, {_EMPTY} on one of its servers"
    )


def _no_file() -> str:
    return (
        f"the node has no {INIT}; deploy the node first, as one of the controllers: pyinfra "
        "inventory.py deploy.py"
    )


def cluster_exists(host: str, answers: Mapping[str, str], api: ApiState, endpoint: str) -> str:
    """Return why the node must not create a cluster, "" if it may. This is a pure function.

    + host: the host's name in the inventory
    + answers: what the API servers of the other controllers answer (`ApiServers`), by name
    + api: what answers at the API's address
    + endpoint: the API's address
    """
    others = {name: said for name, said in answers.items() if said not in (ABSENT, SILENT)}
    if not others and api.answer not in (ABSENT, SILENT):
        others = {endpoint: api.answer}
    if others:
        found = ", ".join(f"{name} ({said})" for name, said in others.items())
        return (
            f"there is a cluster, because an API server answers: {found}; have this node join it: "
            f"pyinfra inventory.py chaos_engine.deploys.join --limit {host}"
        )
    return ""


def no_address(address: str, api: ApiState, endpoint: str) -> str:
    """Return why the API's address cannot be used, "" if it can. This is a pure function.

    + address: the node's own address. If the API has this address, nothing needs to answer there
    """
    at = endpoint.rpartition(":")[0]
    if api.answer != ABSENT or at == address:
        return ""
    return (
        f"nothing accepts a connection at {endpoint}, the API's address, so kubeadm init would "
        f"fail; deploy the proxy first; without a proxy, run this on the node that has {at}"
    )


def foreign_data(keys: int) -> str:
    """Return why the external etcd must not be used for a new cluster, "" if it may.

    + keys: how many keys of a cluster the etcd has

    ``kubeadm init`` does not look. It would give that cluster another CA, and all its nodes and
    pods would lose access.
    """
    if not keys:
        return ""
    return (
        f"etcd has the data of a cluster, {keys} keys below /registry/; if the cluster lives, "
        "start its controllers; if nobody needs it any more, remove its data on one of the etcd "
        f"servers: {_EMPTY}"
    )


def _init(state: State, host: Host, rolling: Rolling, endpoint: str) -> bool:
    """Create the cluster, and wait until the node works; print why it failed, if it did."""
    problem = attempt(partial(_init_and_wait, host, rolling, endpoint))
    return fail_host(state, host, problem) if problem else True


def _init_and_wait(host: Host, rolling: Rolling, endpoint: str) -> str:
    """Create the cluster; return the problem, "" if there is none."""
    if problem := run_kubeadm(host, init_script(INIT)):
        return f"kubeadm init: {problem}{advice(problem)}"
    if problem := come_back(host, rolling, Departure(), {}) or await_api(host, endpoint):
        return problem
    for line in next_steps(host.name):
        host.log(in_words(line))
    return ""


def await_api(host: Host, endpoint: str) -> str:
    """Wait until the API answers at its address; return the problem, "" if there is none.

    HAProxy sends requests to an API server only some seconds after the server is ready.
    """
    fact, began = ClusterApi(), time.monotonic()
    command = fact.command(endpoint=endpoint).get_raw_value()
    with waiting(host, f"waiting until the API answers at {endpoint}", API_SECONDS):
        while not (api := fact.process(ask(host, command))).ready:
            if time.monotonic() - began > API_SECONDS:
                return (
                    f"the cluster is there, but its API does not answer at {endpoint} "
                    f"({api.answer}); look at: chaos_engine.deploys.verify --limit proxy"
                )
            gevent.sleep(PAUSE)
    return ""


def next_steps(host: str) -> list[str]:
    """Return the steps that the user has to take once the cluster is there, one step per line."""
    return [
        "The cluster is there. Next:",
        f"1. ssh {host} sudo cat /etc/kubernetes/admin.conf >files/kubeconfig; chmod 600 it, and "
        f'set {setting("kubeconfig")} = "files/kubeconfig"',
        "2. install a pod network, such as Flannel, by kubectl apply; no node is Ready before",
        "3. pyinfra inventory.py chaos_engine.deploys.join",
    ]
