"""Upgrade a cluster that kubeadm has made: kubeadm, the control plane, then the kubelets.

pyinfra begins an operation only after all hosts have ended the operation before. So each operation
here is a step of the whole cluster's upgrade. What a step has to do is read from the cluster and
from the node, so a run continues where an interrupted run has stopped.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import gevent  # type: ignore[import-untyped]
from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]
from pyinfra.api.command import FunctionCommand
from pyinfra.api.host import Host
from pyinfra.api.state import State

from chaos_engine.facts.api_servers import ABSENT, ApiServers, ApiVersions
from chaos_engine.facts.apt import Packages
from chaos_engine.facts.cri_dockerd import CriDockerdVersion
from chaos_engine.facts.etcd import EtcdVersions
from chaos_engine.facts.kubernetes import (
    UPGRADING,
    ControlPlane,
    ControlPlaneState,
    KubeletConfiguration,
)
from chaos_engine.facts.observe import (
    NodeError,
    Read,
    current,
    forget,
    observe,
    of_host,
    warn,
)
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.standing import StandingState
from chaos_engine.facts.text import printable, setting
from chaos_engine.operations.compatibility import feature_gates, without_old_gates
from chaos_engine.operations.engine.arguments import (
    AbsolutePath,
    Address,
    LogSize,
    PackageName,
    Version,
)
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, differences
from chaos_engine.operations.engine.remote import ask_fact, run_script
from chaos_engine.operations.engine.shell import PRELUDE, quote
from chaos_engine.operations.engine.summary import Verdict
from chaos_engine.operations.kubernetes import install
from chaos_engine.operations.kubernetes.kubelet import (
    change_configuration,
    cluster_configuration,
    needed,
)
from chaos_engine.operations.kubernetes.skew import (
    ClusterState,
    Wanted,
    first_controller,
    left_behind,
    refusals,
)
from chaos_engine.operations.rolling.cordon import (
    PAUSE,
    WORKS_AGAIN_SECONDS,
    NodeName,
    Rolling,
    read_standing,
)
from chaos_engine.operations.rolling.gate import gate
from chaos_engine.operations.rolling.kubectl import API_SECONDS, ClusterError, ClusterNode, Kubectl
from chaos_engine.operations.rolling.turns import READ, in_turn, node_standing, take_turn

T = TypeVar("T")

APPLY, NODE = "kubeadm upgrade apply", "kubeadm upgrade node"
CONFIGURE = f"{NODE} phase kubelet-config"


@dataclass(frozen=True)
class Target:
    """What a run brings the cluster to. All hosts of a run get the same values.

    + version: the version of Kubernetes, such as "1.36.2"
    + controllers: address of each controller's API server, by the controller's name
    + nodes: names of the nodes in the run
    + etcd: addresses of the external etcd's servers; () if kubeadm runs etcd
    + etcd_folder: folder on a controller with etcd's ca.crt, client.crt and client.key
    """

    version: Version
    controllers: Mapping[NodeName, Address] = field(default_factory=dict)
    nodes: tuple[NodeName, ...] = ()
    etcd: tuple[Address, ...] = ()
    etcd_folder: AbsolutePath = "/etc/kubernetes"

    @property
    def wanted(self) -> Wanted:
        """Return the upgrade that the rules judge."""
        return Wanted(self.version, self.nodes, tuple(self.controllers))


@dataclass(frozen=True)
class _Known:
    """What kubectl says of a cluster.

    + nodes: the nodes by name
    + configured: version to which kubeadm has last brought the cluster; "" if kubeadm has not made
      the cluster
    + kubelet: kubelet's configuration in the cluster; {} if it is unknown
    """

    nodes: Mapping[str, ClusterNode]
    configured: str
    kubelet: Mapping[str, Any]


ANSWER_SECONDS = 30.0
"""Seconds for which an answer of kubectl is used. So a node that waited for kubeadm asks again."""


@dataclass
class _Asked:
    """The answers of kubectl in a run, which one host asks for all hosts.

    + at: the time of the answer, in seconds of ``time.monotonic``
    """

    lock: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(1))
    answer: _Known | ClusterError | None = None
    at: float = 0.0


_ASKED: WeakKeyDictionary[State, _Asked] = WeakKeyDictionary()


def _reads(target: Target) -> list[Read]:
    """Return the facts from which the node's part in the upgrade is decided."""
    return [
        READ,
        Read.of(ApiVersions, addresses=_addresses(target)),
        Read.of(ControlPlane),
    ]


def _addresses(target: Target) -> tuple[str, ...]:
    """Return the addresses of all API servers."""
    return tuple(map(str, target.controllers.values()))


def _etcd(target: Target) -> dict[str, Any]:
    """Return the arguments of the fact `EtcdVersions`."""
    servers = tuple(map(str, target.etcd))
    return {"servers": servers, "folder": target.etcd_folder, "joined_too": True}


@converge(
    reads=lambda target, rolling: [
        *_reads(target),
        Read.of(CriDockerdVersion),
        *([Read.of(EtcdVersions, **_etcd(target))] if target.etcd else []),
    ]
)
def check_upgrade(target: Target, rolling: Rolling) -> Commands:
    """Refuse the node if the cluster cannot be upgraded, or if the node does not work.

    + target: what the run brings the cluster to
    + rolling: how the node is drained; `rolling.kubectl` must be set

    Nothing is changed. The operation asks each API server, kubectl, the node and etcd for their
    versions. A node that an interrupted run has left half upgraded is not refused, because the
    upgrade repairs it. Raises one `NodeError` with all problems. Warns of nodes that are not in the
    run and stay behind.

    **Example:** ``check_upgrade(target=Target("1.36.2", ...), rolling=Rolling(...))``
    """
    standing = node_standing(rolling)
    if not standing.joined:
        current()[1].noop("the node has not joined a cluster")
        return
    if _transient(rolling, standing):
        forget()
        standing = node_standing(rolling)
    known = _ask_kubectl(_kubectl(rolling))
    own = observe(ControlPlane)
    shim, etcd = observe(CriDockerdVersion), {}
    if target.etcd:
        etcd = observe(EtcdVersions, **_etcd(target))
    cluster = replace(_cluster(target, known), etcd=etcd, cri_dockerd=shim)
    problems = [
        *node_problems(rolling, standing, own, known.nodes, target),
        *refusals(cluster, target.wanted),
    ]
    if problems:
        raise NodeError("; ".join(problems))
    if behind := left_behind(cluster, target.wanted):
        found = ", ".join(f"{name} ({version})" for name, version in behind.items())
        warn(
            f"the kubelet stays as it is on nodes that are not in this run: {found}; upgrade them "
            "before the next minor version",
            of_node=False,
        )
    current()[1].noop(f"the cluster can be brought to {target.version}")
    yield from ()


def node_problems(
    rolling: Rolling,
    standing: StandingState,
    own: ControlPlaneState,
    nodes: Mapping[str, ClusterNode],
    target: Target,
) -> list[str]:
    """Return why a node cannot take part in an upgrade, [] if it can. This is a pure function.

    + standing, own: the node's state in its cluster, and its part of the control plane
    + nodes: all nodes of the cluster, by name
    """
    node = nodes.get(rolling.node)
    if node is None:
        return [
            f"the cluster of {setting('kubeconfig')} has no node {rolling.node}; its nodes: "
            f"{', '.join(sorted(nodes)) or 'none'}. Is this the kubeconfig of another cluster?"
        ]
    if rolling.node in target.controllers and not own.versions:
        return [
            f"{rolling.node} is in {setting('controllers')}, but the node runs no control plane; "
            "remove it there, or have it join as a controller"
        ]
    if is_interrupted(standing, own):
        return []
    problems = [*standing.problems.values()]
    if not problems and not node.ready:
        problems = [f"it is not Ready; look at: kubectl describe node {rolling.node}"]
    return [f"the node does not work: {'; '.join(problems)}; fix it first"] if problems else []


def is_interrupted(standing: StandingState, own: ControlPlaneState) -> bool:
    """Tell whether an interrupted run may have left the node half upgraded."""
    return standing.cordoned or bool(own.interrupted)


@converge(reads=lambda target, rolling, key=None, tools=(): [
    READ, *install.reads(target.version, ("kubeadm",), key, tools)
])  # fmt: skip
def install_kubeadm(
    target: Target,
    rolling: Rolling,
    key: bytes | None = None,
    tools: Iterable[PackageName] = (),
) -> Commands:
    """Install and hold kubeadm at the target's version on a node that has joined a cluster.

    + target, rolling: as `check_upgrade` takes them
    + key, tools: as `install_kubernetes` takes them

    apt's source becomes the repository of the target's minor version. kubelet goes on as it is.

    **Example:** ``install_kubeadm(target=Target("1.36.2", ...), rolling=Rolling(...))``
    """
    joined = node_standing(rolling).joined
    if not joined:
        current()[1].noop("the node has not joined a cluster")
        return
    commands, _ = install.decide(target.version, ("kubeadm",), key, tuple(tools), joined)
    for command in commands:
        _require_others(rolling)
        yield command


@converge(reads=lambda target, rolling, first: _reads(target))
def upgrade_control_plane(target: Target, rolling: Rolling, first: bool) -> Commands:
    """Upgrade the node's part of the control plane with kubeadm, one controller at a time.

    + target, rolling: as `check_upgrade` takes them
    + first: whether this is the step for the first controller, which runs ``kubeadm upgrade
      apply``, and for controllers on which kubeadm was interrupted. All other controllers run
      ``kubeadm upgrade node`` in a second step

    The node is not drained, because its pods stay. It takes its turn, and so enough other API
    servers are ready meanwhile. The turn ends when the node's own API server has the version and
    is ready. Before kubeadm starts, the command is noted on the node. So if the run is interrupted,
    the next run repeats it.

    **Example:** ``upgrade_control_plane(target=..., rolling=..., first=True)``
    """
    host, standing = current()[1], node_standing(rolling)
    if not standing.joined or rolling.node not in target.controllers:
        host.noop("the node is no controller of the cluster")
        return
    kubectl = _kubectl(rolling)
    known, own = _ask_kubectl(kubectl), observe(ControlPlane)
    command, why = control_plane_step(rolling.node, _cluster(target, known), own, target, first)
    if not command:
        host.noop("the node's control plane: nothing to do in this step")
        return
    because(why)
    _require_others(rolling)
    work = partial(
        _run_kubeadm,
        command,
        target.version,
        str(target.controllers[rolling.node]),
        kubectl if command.startswith(APPLY) else None,
    )
    turn = replace(rolling, drain=False)
    yield FunctionCommand(take_turn, (turn, standing, "upgraded", work), {})


def control_plane_step(
    node: str, cluster: ClusterState, own: ControlPlaneState, target: Target, first: bool
) -> tuple[str, str]:
    """Return kubeadm's command for a controller in one of the two steps, and the reason for it.

    + node: the controller's name
    + own: the controller's part of the control plane
    + first: as `upgrade_control_plane` takes it

    Both are "" if the controller has nothing to do in this step. This is a pure function.
    """
    version = target.version
    applies = first_controller(cluster, target.wanted) == node
    if applies or own.interrupted not in ("", CONFIGURE):
        if not first:
            return "", ""
        if applies or own.interrupted.startswith(APPLY):
            command = f"{APPLY} v{version}"
            was = "" if cluster.configured == version else f" (the cluster is {cluster.configured})"
        else:
            command, was = NODE, ""
        begun = own.interrupted.startswith(command.partition(" v")[0])
        again = " again, because it was interrupted" if begun else ""
        return command, f"{command}{was}{again}"
    old = {name: was for name, was in own.versions.items() if was != version}
    if first or not old:
        return "", ""
    changes = ", ".join(f"{name} {was} -> {version}" for name, was in old.items())
    return NODE, f"{NODE}: {changes}"


@converge(
    reads=lambda target, rolling, packages, broken: [
        READ,
        *install.reads(target.version, tuple(packages)),
    ]
)
def upgrade_kubelet(
    target: Target, rolling: Rolling, packages: Iterable[PackageName], broken: bool
) -> Commands:
    """Install kubelet at the target's version, in the node's turn, after all API servers have it.

    + target, rolling: as `check_upgrade` takes them
    + packages: the packages to install and to hold, such as kubelet and kubectl
    + broken: whether this is the step for nodes that do not work. They have their turns first,
      because the others do not go while a node of the cluster is broken

    Call `install_kubeadm` before, which brings apt's source. The node is drained. On a worker,
    ``kubeadm upgrade node`` first writes kubelet's configuration and flags of the new version; on a
    controller, `upgrade_control_plane` has done that. Then kubelet is installed and restarted, and
    the node has to work again.

    **Example:** ``upgrade_kubelet(target=..., rolling=..., packages=["kubelet"], broken=False)``
    """
    host, standing = current()[1], node_standing(rolling)
    if not standing.joined or bool(standing.problems) is not broken:
        host.noop("nothing to do in this step")
        return
    before = "" if rolling.node in target.controllers else NODE
    commands, stops_pods = install.decide(
        target.version, tuple(packages), None, (), joined=True, before=before, source=False
    )
    for command in in_turn(commands, rolling, stops_pods):
        _require_others(rolling)
        if stops_pods and current()[0].is_executing:
            _require_api_servers(target)
        yield command


@converge(
    reads=lambda target, rolling, gates, log_size, broken: [
        READ,
        Read.of(ControlPlane),
        Read.of(KubeletConfiguration),
        Read.of(Packages, names=("kubelet",)),
    ]
)
def configure_kubelet(
    target: Target, rolling: Rolling, gates: Mapping[str, bool], log_size: LogSize, broken: bool
) -> Commands:
    """Set what kubelet needs to work with cri-dockerd, in the cluster and on the node.

    + target, rolling, broken: as `upgrade_kubelet` takes them
    + gates, log_size: as `report_configuration` takes them

    Call it after kubelet has the target's version on all nodes, because an older kubelet does not
    start with a feature gate that it does not know. While a node outside of the run has such a
    kubelet, the gates are not set, and the run warns. The values are added to the cluster's
    configuration, from which kubeadm then writes the node's (kubernetes.io, "Reconfiguring a
    kubeadm cluster"). The node takes its turn, but is not drained, because its pods go on while
    kubelet restarts.

    **Example:** ``configure_kubelet(target=..., rolling=..., gates={}, log_size="10m",
    broken=False)``
    """
    (state, host), standing = current(), node_standing(rolling)
    if not standing.joined or bool(standing.problems) is not broken:
        host.noop("nothing to do in this step")
        return
    kubectl = _kubectl(rolling)
    known = _ask_kubectl(kubectl)
    interrupted = observe(ControlPlane).interrupted == CONFIGURE
    # kubeadm may have been interrupted while it wrote the file
    config = {} if interrupted else observe(KubeletConfiguration)
    if old := without_gates(known.nodes, target.nodes, gates):
        if needed(config, gates, log_size) != needed(config, {}, log_size):
            warn(
                f"kubectl exec and attach fail with kubelet {target.version}, because its feature "
                "gate cannot be set yet: the kubelets of these nodes do not know it: "
                f"{', '.join(old)}; upgrade these nodes too",
                of_node=False,
            )
        gates = {}
    # One node's turn is enough to change what the cluster has
    first = rolling.node == next(iter(target.controllers), "")
    shared = needed(known.kubelet, gates, log_size) if first and known.kubelet else {}
    lacking = needed(config, gates, log_size)
    if not (shared or lacking or interrupted):
        host.noop("kubelet's configuration: as wanted")
        return
    if interrupted:
        because(f"{CONFIGURE} again, because it was interrupted")
    else:
        because(*differences(config, {**config, **lacking}, "kubelet's "))
    because(*differences(known.kubelet, {**known.kubelet, **shared}, "configmap kubelet-config: "))
    _require_others(rolling)
    found = observe(Packages, names=("kubelet",)).get("kubelet")
    if state.is_executing and not install.is_at_version(found, target.version):
        raise NodeError(
            f"kubelet is not configured, because it is not {target.version}; run the upgrade again"
        )
    work = partial(_configure, kubectl, gates, log_size)
    turn = replace(rolling, drain=False)
    yield FunctionCommand(take_turn, (turn, standing, "configured", work), {})


def without_gates(
    nodes: Mapping[str, ClusterNode], in_run: Collection[str], gates: Mapping[str, bool]
) -> list[str]:
    """Return the nodes outside of a run whose kubelet does not know all the gates.

    + nodes: all nodes of the cluster, by name
    + in_run: names of the nodes in the run. They get a kubelet that knows the gates
    + gates: the feature gates that the run sets

    This is a pure function.
    """
    return sorted(
        name
        for name, node in nodes.items()
        if name not in in_run and not gates.keys() <= feature_gates(node.kubelet or "0.0").keys()
    )


def _configure(
    kubectl: Kubectl, gates: Mapping[str, bool], log_size: str, state: State, host: Host
) -> str:
    """Configure the cluster's kubelets and this node's. Return the problem, "" if there is none."""
    try:
        change_configuration(kubectl, lambda config: needed(config, gates, log_size))
    except ClusterError as error:
        return str(error)
    return _run_noted(host, CONFIGURE, then="systemctl restart kubelet.service")


def _cluster(target: Target, known: _Known) -> ClusterState:
    """Return the state of the cluster, from kubectl's answers and those of the API servers."""
    found = observe(ApiVersions, addresses=_addresses(target))
    return ClusterState(
        known.configured,
        {name: found.get(str(at), "") for name, at in target.controllers.items()},
        {name: node.kubelet for name, node in known.nodes.items()},
        tuple(name for name, node in known.nodes.items() if node.controller),
    )


def _kubectl(rolling: Rolling) -> Kubectl:
    """Return kubectl. Raises `NodeError` if there is none."""
    if rolling.kubectl is None:
        raise NodeError(
            f"an upgrade needs {setting('kubeconfig')}, to read the cluster's versions and to "
            "drain nodes; set it to the path of a kubeconfig on this computer"
        )
    return rolling.kubectl


def _ask_kubectl(kubectl: Kubectl) -> _Known:
    """Return what kubectl says of the cluster. One host of the run asks for all.

    Raises `NodeError` if the cluster does not answer.
    """
    state, host = current()
    asked = _ASKED.setdefault(state, _Asked())
    with asked.lock:
        if asked.answer is None or time.monotonic() - asked.at > ANSWER_SECONDS:
            try:
                with waiting(host, "asking the cluster for its versions", API_SECONDS):
                    asked.answer = _Known(
                        kubectl.nodes(), kubectl.cluster_version(), cluster_configuration(kubectl)
                    )
            except ClusterError as error:
                asked.answer = error
            asked.at = time.monotonic()
    if isinstance(asked.answer, ClusterError):
        raise NodeError(str(asked.answer))
    return asked.answer


def _transient(rolling: Rolling, standing: StandingState) -> bool:
    """Wait for a node that may be about to work again. Tell whether it works now.

    An interrupted run may have left a service that starts. While a node does not work, the others
    have no turns. If kubeadm was interrupted on the node, the function does not wait, because the
    run repeats kubeadm's work.
    """
    if not standing.problems or observe(ControlPlane).interrupted:
        return False
    host, deadline = current()[1], time.monotonic() + API_SECONDS
    what = f"waiting until these work: {', '.join(standing.problems)}"
    with waiting(host, what, API_SECONDS):
        while time.monotonic() < deadline:
            if not read_standing(host).problems:
                return True
            gevent.sleep(PAUSE)
    return False


def _require_others(rolling: Rolling) -> None:
    """Raise `NodeError` in a run if another host of the run has failed, or is not reached.

    A cluster must not be upgraded in part. So after a problem on one host, no host goes on.
    """
    state, host = current()
    if not state.is_executing:
        return
    turns = gate(state, rolling.batch)
    if why := turns.failed or others_problem(state, host):
        turns.failed = why
        raise NodeError(
            f"not upgraded, because of a problem on {why}; fix the problem and run again"
        )


def others_problem(state: State, host: Host) -> str:
    """Return the first problem of another host in the run, with the host's name; "" for none."""
    for other in state.inventory:
        if other is host or not state.is_host_in_limit(other):
            continue
        if other not in state.activated_hosts:
            return f"{other.name}: it is not reached; leave it out with --exclude {other.name}"
        if other in state.failed_hosts:
            verdict = of_host(Verdict, other)
            why = verdict.refusal or "; ".join(verdict.failures) or "its output says why"
            return f"{other.name}: {why}"
    return ""


def _require_api_servers(target: Target) -> None:
    """Raise `NodeError` if an API server does not have the target's version now."""
    host = current()[1]
    addresses = _addresses(target)
    ready, versions = ApiServers(), ApiVersions()
    answers = ask_fact(host, ready, ready.command(addresses=addresses))
    found = ask_fact(host, versions, versions.command(addresses=addresses))
    old = [
        f"{name} ({found.get(str(at)) or 'no answer'})"
        for name, at in target.controllers.items()
        if answers.get(str(at)) != ABSENT and found.get(str(at)) != target.version
    ]
    if old:
        raise NodeError(
            f"kubelet is not upgraded, because it must not be newer than any API server, and these "
            f"are not {target.version}: {', '.join(old)}; run again when they are"
        )


def kubeadm_script(command: str, then: str = "") -> str:
    """Return the script that runs kubeadm on a node.

    + command: kubeadm's words without the answer to its question, such as "kubeadm upgrade node"
    + then: a shell command that has to follow; "" for none

    The file `UPGRADING` has kubeadm's words until both are done.
    """
    folder = posixpath.dirname(UPGRADING)
    words = f"{command} -y" if command.startswith(APPLY) else command
    return f"""\
{PRELUDE}mkdir -p {folder}
printf '%s\\n' {quote(command)} >{UPGRADING}.chaos-new; sync {UPGRADING}.chaos-new
mv -f {UPGRADING}.chaos-new {UPGRADING}; sync {folder}
{install.run_kubeadm(words)}
{then or ":"}
rm -f -- {UPGRADING}; sync {folder}
"""


def _run_kubeadm(
    command: str, version: str, address: str, kubectl: Kubectl | None, state: State, host: Host
) -> str:
    """Run kubeadm on a controller, and wait until its API server has the version and is ready.

    + kubectl: for the first controller, what removes feature gates from kubelet's configuration in
      the cluster with which the new kubelet may not start; ``None`` for the others

    Returns the problem, "" if there is none.
    """
    if kubectl is not None:
        try:
            change_configuration(kubectl, partial(without_old_gates, version))
        except ClusterError as error:
            return str(error)
    return _run_noted(host, command) or _await_api_server(host, address, version)


def _run_noted(host: Host, command: str, then: str = "") -> str:
    """Run kubeadm by its script. Show its output if it fails, and return the problem or ""."""
    host.log(f"Running {command}")
    output = run_script(host, kubeadm_script(command, then))
    if output is None:
        return ""
    *lines, last = [line for line in output.splitlines() if line.strip()] or [f"{command} failed"]
    for line in lines:
        host.log(printable(line))
    return last


def _await_api_server(host: Host, address: str, version: str) -> str:
    """Wait until an API server is ready and has a version; return the problem, "" for none."""
    began = time.monotonic()
    ready, versions = ApiServers(), ApiVersions()
    with waiting(host, f"waiting for the API server {version}", WORKS_AGAIN_SECONDS):
        while True:
            said = ask_fact(host, ready, ready.command(addresses=(address,))).get(address)
            found = ask_fact(host, versions, versions.command(addresses=(address,))).get(address)
            if said == "200" and found == version:
                return ""
            if time.monotonic() - began > WORKS_AGAIN_SECONDS:
                return (
                    f"the API server is {found or 'silent'} and answers {said} to /readyz, after "
                    f"{WORKS_AGAIN_SECONDS:.0f} s, but it should be {version} and answer 200; "
                    "look at: crictl ps -a --name kube-apiserver"
                )
            gevent.sleep(PAUSE)
