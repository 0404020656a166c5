"""Test upgrades of a cluster: the steps, what stops them, and what a next run does."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors.util import CommandOutput, OutputLine

from chaos_engine.deploys.upgrade import UpgradeSettings
from chaos_engine.facts.api_servers import ApiServers, ApiVersions
from chaos_engine.facts.apt import Packages, PackageState
from chaos_engine.facts.cri_dockerd import CriDockerdVersion
from chaos_engine.facts.etcd import EtcdVersions
from chaos_engine.facts.files import Content, Files
from chaos_engine.facts.kubernetes import (
    UPGRADING,
    ControlPlane,
    ControlPlaneState,
    KubeletConfiguration,
    KubeletReplaced,
    KubernetesSources,
    RepositorySigners,
)
from chaos_engine.facts.observe import NodeError, Read, ask
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.standing import Standing, StandingState
from chaos_engine.facts.systemd import Units, UnitState
from chaos_engine.facts.unit_traces import Traces
from chaos_engine.operations.compatibility import feature_gates
from chaos_engine.operations.files import File, Plan
from chaos_engine.operations.kubernetes import install, upgrade
from chaos_engine.operations.kubernetes.kubelet import change_configuration, cluster_configuration
from chaos_engine.operations.kubernetes.skew import ClusterState
from chaos_engine.operations.kubernetes.upgrade import (
    Target,
    check_upgrade,
    configure_kubelet,
    control_plane_step,
    install_kubeadm,
    kubeadm_script,
    node_problems,
    upgrade_control_plane,
    upgrade_kubelet,
)
from chaos_engine.operations.rolling import cordon, kubectl, turns
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.gate import Lane
from chaos_engine.operations.rolling.kubectl import (
    ClusterError,
    ClusterNode,
    Json,
    parse_cluster_version,
    parse_nodes,
)
from tests.unit.asking import ask_below
from tests.unit.lease_api import LeaseApi, refused
from tests.unit.nodes import Connector, Nodes
from tests.unit.scripts import Sandbox

ADDRESSES = {"pi1": "192.168.1.50", "pi4": "192.168.1.53", "pi7": "192.168.1.56"}
NODES = ("pi1", "pi4", "pi5", "pi7")
OLD, NEW = "1.34.2", "1.35.1"
TARGET = Target(NEW, ADDRESSES, NODES)
CONFIG = {"kind": "KubeletConfiguration", "maxPods": 50}
GATE = "ExtendWebSocketsToKubelet"


@dataclass
class Machine:
    """The Kubernetes of a node."""

    kubeadm: str = OLD
    kubelet: str = OLD
    api: str = OLD
    manifests: str = OLD
    interrupted: str = ""
    problems: dict[str, str] = field(default_factory=dict)
    ready: bool = True
    joined: bool = True
    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))


class World(LeaseApi):
    """A cluster of four nodes, of which pi5 is a worker. It plays kubectl too.

    + done: what was done on each node, in order
    + fails: number of the step that fails
    + config: kubelet's configuration in the cluster
    + conflicts: how many of the next changes of it somebody else is faster than
    """

    def __init__(self) -> None:
        super().__init__()
        self.machines = {name: Machine() for name in NODES}
        self.configured = OLD
        self.done: list[str] = []
        self.fails = -1
        self.cordoned: set[str] = set()
        self.config: dict[str, Any] = dict(CONFIG)
        self.conflicts = 0
        self.reason = "Conflict"
        self.log_size = "9m"

    def request(self, verb: str, path: str, body: Json | None = None) -> Json:
        if not path.endswith("/configmaps/kubelet-config"):
            return super().request(verb, path, body)
        if body is None:
            version = {"resourceVersion": str(self.conflicts)}
            return {"metadata": version, "data": {"kubelet": yaml.safe_dump(self.config)}}
        if self.conflicts:
            self.conflicts -= 1
            raise refused(self.reason, "the object has been modified")
        assert body["metadata"] == {"resourceVersion": "0"}
        self.config = yaml.safe_load(body["data"]["kubelet"])
        return body

    def nodes(self) -> dict[str, ClusterNode]:
        return {
            name: ClusterNode(one.ready, name in self.cordoned, one.kubelet, name in ADDRESSES)
            for name, one in self.machines.items()
        }

    def cluster_version(self) -> str:
        return self.configured

    def cordon(self, name: str, wanted: bool = True) -> None:
        (self.cordoned.add if wanted else self.cordoned.discard)(name)

    def drain(self, name: str, seconds: int, ends_pods: bool = True) -> str:
        self.done.append(f"{name}: drain")
        return ""

    def answer(self, name: str, read: Read) -> Any:
        one, arguments = self.machines[name], dict(read.arguments)
        answers: dict[type, Any] = {
            Standing: self.standing(name),
            ApiVersions: {at: self.machines[n].api for n, at in ADDRESSES.items()},
            ControlPlane: ControlPlaneState(
                {"kube-apiserver": one.manifests} if name in ADDRESSES else {}, one.interrupted
            ),
            Packages: {
                package: PackageState(f"{version}-1.1", True, True)
                for package, version in (("kubeadm", one.kubeadm), ("kubelet", one.kubelet))
                if package in arguments.get("names", ())
            },
            CriDockerdVersion: "0.4.3",
            EtcdVersions: {},
            KubeletReplaced: False,
            KubeletConfiguration: one.config,
            KubernetesSources: (),
            RepositorySigners: (),
            Content: None,
            Files: {},
            Repairs: (),
            Traces: {},
            Units: {
                name: UnitState("loaded", "active", "running", "enabled", False, 1, "", "")
                for name, _ in arguments.get("units", ())
            },
        }
        return answers[read.fact]

    def standing(self, name: str) -> StandingState:
        one = self.machines[name]
        return StandingState(one.joined, name in self.cordoned, dict(one.problems))

    def act(self, name: str, script: str) -> str | None:
        """Do what a script does on a node. Return what it prints if it fails."""
        one = self.machines[name]
        installs = re.findall(r"(kubeadm|kubelet)=([\d.]+)-", script)
        apply = re.search(r"exec kubeadm upgrade apply v(\S+) -y", script)
        node = bool(re.search(r"exec kubeadm upgrade node(?! phase)", script))
        configure = f"exec {upgrade.CONFIGURE}" in script
        what = [
            *(["apply"] if apply else []),
            *(["node"] if node else []),
            *(["configure"] if configure else []),
            *(p for p, _ in installs),
        ]
        fails = len(self.done) == self.fails
        self.done.append(f"{name}: {' '.join(what)}{' fails' if fails else ''}")
        if noted := re.search(rf"printf '%s\\n' '(.*)' >{UPGRADING}", script):
            one.interrupted = noted[1]
        if fails:
            return "[preflight] Running\nkubeadm failed: no space left"
        if (apply or node) and name in ADDRESSES:
            one.api = one.manifests = apply[1] if apply else self.configured
            one.interrupted = ""
        if apply:
            self.configured = apply[1]
        if configure:
            one.config, one.interrupted, one.problems = dict(self.config), "", {}
            assert "systemctl restart kubelet.service\nrm -f" in script
            known = "featureGates" not in one.config or one.kubelet >= "1.36"
            assert known, "kubelet would not start"
        for package, version in installs:
            if package == "kubelet":
                assert all(self.machines[n].api == version for n in ADDRESSES), "kubelet is newer"
            setattr(one, package, version)
        return None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> World:
    world = World()
    caplog.set_level(logging.INFO, "pyinfra")

    def run_command(self: Connector, command: Any, *_: Any, **__: Any) -> Any:
        problem = world.act(self.host.name, str(command))
        return problem is None, CommandOutput([OutputLine("stderr", problem or "")])

    def run(host: Any, command: Any) -> Any:
        problem = world.act(host.name, str(command))
        lines = [OutputLine("stderr", line) for line in (problem or "").splitlines()]
        return problem is None, CommandOutput(lines)

    def ask_now(host: Any, fact: Any, command: Any) -> Any:
        if isinstance(fact, ApiServers):
            return dict.fromkeys(ADDRESSES.values(), "200")
        return world.answer(host.name, Read.of(type(fact)))

    monkeypatch.setattr(
        ask, "_read", lambda host, reads: {r: world.answer(host.name, r) for r in reads}
    )
    # apt's source and key are as wanted
    monkeypatch.setattr(install, "key_fault", lambda *_: "")
    monkeypatch.setattr(File, "matches", lambda *_: True)
    monkeypatch.setattr(install.files, "decide", lambda *_, **__: Plan())
    monkeypatch.setattr(Connector, "run_shell_command", run_command)
    monkeypatch.setattr(turns, "run", run)
    monkeypatch.setattr(cordon, "run_script", lambda host, script: None)
    monkeypatch.setattr(cordon, "ask_fact", ask_now)
    monkeypatch.setattr(upgrade, "ask_fact", ask_now)
    monkeypatch.setattr(upgrade, "run_script", lambda host, script: world.act(host.name, script))
    clock = [0.0]
    waits = SimpleNamespace(sleep=lambda seconds: clock.append(clock.pop() + seconds))
    for module in (cordon, upgrade, kubectl):
        monkeypatch.setattr(module, "gevent", waits)
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return world


def rolling(world: World, name: str) -> Rolling:
    others = {node: at for node, at in ADDRESSES.items() if node != name}
    lane: Lane = "controller" if name in ADDRESSES else ""
    kubectl: Any = world
    return Rolling(
        lane,
        kubectl=kubectl,
        node=name,
        controllers=others if lane else {},
        controller=bool(lane),
    )


def run(world: World, names: Iterable[str] = NODES, target: Target = TARGET) -> Nodes:
    """Prepare an upgrade, and execute it."""
    nodes = prepare(world, names, target)
    execute(nodes)
    return nodes


def execute(nodes: Nodes) -> None:
    """Execute what was prepared. pyinfra raises an error if no host is left."""
    with suppress(PyinfraError):
        nodes.execute()


def prepare(world: World, names: Iterable[str] = NODES, target: Target = TARGET) -> Nodes:
    """Prepare an upgrade, as a preview does."""
    nodes = Nodes(*names)
    kubelets: dict[str, Any] = {"target": target, "packages": ("kubelet",)}

    def deploy() -> None:
        name = turns.current()[1].name
        how = rolling(world, name)
        check_upgrade(name="Check", target=target, rolling=how)
        install_kubeadm(name="Kubeadm", target=target, rolling=how)
        upgrade_control_plane(name="First", target=target, rolling=how, first=True)
        upgrade_control_plane(name="Others", target=target, rolling=how, first=False)
        upgrade_kubelet(name="Kubelet", rolling=how, broken=True, **kubelets)
        upgrade_kubelet(name="Kubelet", rolling=how, broken=False, **kubelets)
        for broken in (True, False):
            configure_kubelet(
                name="Configure",
                target=target,
                rolling=how,
                gates=feature_gates(target.version),
                log_size=world.log_size,
                broken=broken,
            )

    nodes.prepare(deploy)
    return nodes


def state(world: World) -> list[str]:
    return [f"{name}: {vars(one)}" for name, one in world.machines.items()]


def test_the_cluster_goes_through_each_step_before_the_next(world: World) -> None:
    nodes = run(world)

    assert not nodes.failed
    assert {*world.done[:4]} == {f"{name}: kubeadm" for name in NODES}
    assert world.done[4] == "pi1: apply"
    assert {*world.done[5:7]} == {"pi4: node", "pi7: node"}
    kubelets = world.done[7:]
    assert {*kubelets[::2]} == {f"{name}: drain" for name in NODES}
    assert {*kubelets[1::2]} == {
        "pi1: kubelet", "pi4: kubelet", "pi7: kubelet", "pi5: node kubelet"
    }  # fmt: skip
    for drained, work in zip(kubelets[::2], kubelets[1::2], strict=True):
        assert drained[:4] == work[:4], "one node after the other"
    assert not world.cordoned
    assert {one.kubelet for one in world.machines.values()} == {NEW}


def test_a_preview_lists_the_plan_and_why(world: World, caplog: pytest.LogCaptureFixture) -> None:
    nodes = prepare(world)

    assert {name: nodes.planned(name) for name in NODES} == {
        "pi1": ["Kubeadm", "First", "Kubelet"],
        "pi4": ["Kubeadm", "Others", "Kubelet"],
        "pi5": ["Kubeadm", "Kubelet"],
        "pi7": ["Kubeadm", "Others", "Kubelet"],
    }
    assert not world.done
    for reason in (
        "Kubeadm: kubeadm 1.34.2 -> 1.35.1",
        "First: kubeadm upgrade apply v1.35.1 (the cluster is 1.34.2)",
        "Others: kubeadm upgrade node: kube-apiserver 1.34.2 -> 1.35.1",
        "Kubelet: kubeadm upgrade node",
        "Kubelet: kubelet 1.34.2 -> 1.35.1",
    ):
        assert reason in caplog.text


def test_a_second_run_changes_nothing(world: World) -> None:
    run(world)
    world.done.clear()

    nodes = run(world)

    assert {name: nodes.planned(name) for name in NODES} == {name: [] for name in NODES}
    assert not world.done
    assert not nodes.failed


@pytest.mark.parametrize("step", [0, 2, 4, 5, 6, 8, 10, 12, 14])
def test_a_failure_ends_the_upgrade_and_the_next_run_goes_on(world: World, step: int) -> None:
    undisturbed = World()
    for one in undisturbed.machines.values():
        one.kubeadm = one.kubelet = NEW
    for name in ADDRESSES:
        undisturbed.machines[name].api = undisturbed.machines[name].manifests = NEW
    world.fails = step

    nodes = run(world)

    assert nodes.failed
    failing = world.done[step]
    assert failing.endswith(" fails")
    # what ran beside the failing step may end, but nothing begins after it
    after = world.done[step + 1 :]
    assert all("kubeadm" in one for one in after)
    assert bool(after) <= (step < 4)
    world.fails = -1
    assert not run(world).failed
    assert state(world) == state(undisturbed)
    assert world.configured == NEW


def test_a_failure_is_told_on_the_other_nodes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.fails = 4

    run(world)

    assert "kubeadm failed: no space left" in caplog.text
    assert "[preflight] Running" in caplog.text, "the end of kubeadm's output is shown"
    why = "not upgraded, because of a problem on pi1: kubeadm failed: no space left"
    assert caplog.text.count(why) == 3


def test_a_node_that_is_not_reached_keeps_the_others_as_they_are(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = prepare(world)
    nodes.state.activated_hosts.discard(nodes["pi5"])
    nodes.state.active_hosts.discard(nodes["pi5"])

    execute(nodes)

    assert not world.done
    assert "because of a problem on pi5: it is not reached; leave it out with --exclude pi5" in (
        caplog.text
    )


def test_a_broken_node_is_refused_and_keeps_the_others_as_they_are(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.machines["pi5"].problems = {"docker": "Docker does not answer"}

    nodes = run(world)

    assert nodes.failed == {*NODES}
    assert not world.done
    assert "the node does not work: Docker does not answer; fix it first" in caplog.text


@pytest.mark.parametrize("cordoned", [False, True])
def test_a_node_that_is_about_to_work_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, cordoned: bool
) -> None:
    """Check it also for a node that a run was killed on, when kubelet had its version already."""
    world.machines["pi1"].problems = {"api_server": "kube-apiserver is not ready"}
    if cordoned:
        run(world)
        for name in ("pi4", "pi5", "pi7"):
            world.machines[name].kubelet = OLD
        world.cordoned.add("pi1")
        world.machines["pi1"].problems = {"api_server": "kube-apiserver is not ready"}

    def sleep(seconds: float) -> None:
        world.machines["pi1"].problems.clear()

    monkeypatch.setattr(upgrade, "gevent", SimpleNamespace(sleep=sleep))
    assert not run(world).failed


def test_a_node_that_an_interrupted_run_has_broken_is_the_first(world: World) -> None:
    run(world)
    for one in world.machines.values():
        one.kubelet = OLD
    world.machines["pi7"].problems = {"kubernetes": "kubelet does not answer"}
    world.cordoned = {"pi7"}
    world.done.clear()

    nodes = run(world)

    assert world.done[0] == "pi7: drain"
    # its check still says the same, so the others stay at work
    assert world.done[1:] == ["pi7: kubelet"]
    assert nodes.failed == {"pi1", "pi4", "pi5"}


def test_a_kubelet_is_never_newer_than_an_api_server(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = prepare(world)
    real = world.act

    def act(name: str, script: str) -> str | None:
        answer = real(name, script)
        if name == "pi7" and "upgrade node" in script:
            # another administrator restores an old manifest as soon as pi7 has had its turn
            world.machines["pi1"].api = OLD
        return answer

    world.act = act  # type: ignore[method-assign]
    execute(nodes)

    assert not [step for step in world.done if "kubelet" in step]
    assert "must not be newer than any API server, and these are not 1.35.1: pi1 (1.34.2)" in (
        caplog.text
    )


def test_a_node_that_has_not_joined_is_left_alone(world: World) -> None:
    world.machines["pi5"].joined = False

    nodes = run(world)

    assert nodes.planned("pi5") == []
    assert world.machines["pi5"].kubelet == OLD
    assert not nodes.failed


def test_a_cluster_that_does_not_answer_is_asked_once_for_all_nodes(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def nodes_of() -> dict[str, ClusterNode]:
        asked.append(1)
        raise ClusterError("kubectl get: connection refused")

    monkeypatch.setattr(world, "nodes", nodes_of)

    assert run(world).failed == {*NODES}
    assert len(asked) == 1
    assert caplog.text.count("kubectl get: connection refused") >= 4


def test_a_patch_release_takes_the_same_steps(world: World) -> None:
    nodes = run(world, target=Target("1.34.9", ADDRESSES, NODES))

    assert not nodes.failed
    assert world.done[4] == "pi1: apply"
    assert {*world.done[5:7]} == {"pi4: node", "pi7: node"}
    assert {one.kubelet for one in world.machines.values()} == {"1.34.9"}


def at_1_36(world: World) -> Target:
    """Return the target 1.36.2 for a cluster that is at 1.35.1."""
    run(world)
    world.done.clear()
    return Target("1.36.2", ADDRESSES, NODES)


def test_kubelet_gets_the_gate_once_all_kubelets_know_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.config["featureGates"] = {"Other": True}
    target = at_1_36(world)

    nodes = prepare(world, target=target)
    assert {name for name in NODES if "Configure" in nodes.planned(name)} == {*NODES}
    assert f"kubelet's featureGates.{GATE} false" in caplog.text
    world.conflicts = 2
    execute(nodes)

    assert not nodes.failed
    assert {*world.done[-4:]} == {f"{name}: configure" for name in NODES}
    wanted = {**CONFIG, "featureGates": {"Other": True, GATE: False}}
    assert [world.config, *(one.config for one in world.machines.values())] == [wanted] * 5
    assert run(world, target=target).planned("pi1") == []


def test_kubelets_log_size_is_set_where_docker_rotates_later(world: World) -> None:
    world.log_size = "100m"
    assert not run(world).failed
    assert world.machines["pi5"].config == {**CONFIG, "containerLogMaxSize": "1Ti"}


def test_a_kubelet_outside_of_the_run_that_does_not_know_the_gate_keeps_it_from_all(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    target = Target("1.36.2", ADDRESSES, tuple(ADDRESSES))
    at_1_36(world)

    assert not run(world, ADDRESSES, target).failed

    assert not [step for step in world.done if "configure" in step]
    assert world.config == CONFIG
    assert "the kubelets of these nodes do not know it: pi5; upgrade these nodes too" in caplog.text


@pytest.mark.parametrize("node", NODES)
def test_an_interrupted_configuration_is_done_first(world: World, node: str) -> None:
    """Check it for a node whose kubelet does not start before that, and others that lack it too."""
    target = at_1_36(world)
    run(world, target=target)
    world.done.clear()
    for one in world.machines.values():
        one.config = dict(CONFIG)
    world.machines[node].interrupted = upgrade.CONFIGURE
    world.machines[node].problems = {"kubernetes": "kubelet does not answer"}

    nodes = run(world, target=target)

    assert not nodes.failed
    assert world.done[0] == f"{node}: configure"
    assert {*world.done} == {f"{name}: configure" for name in NODES}
    assert not world.machines[node].interrupted


def test_a_gate_that_only_the_nodes_have_is_added_to_the_cluster(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    target = at_1_36(world)
    run(world, target=target)
    world.config = dict(CONFIG)
    world.done.clear()
    caplog.clear()

    nodes = run(world, target=target)

    assert not nodes.failed
    assert f"configmap kubelet-config: featureGates.{GATE} false" in caplog.text
    assert world.done == ["pi1: configure"]
    assert world.config["featureGates"] == {GATE: False}


def test_the_gate_is_taken_out_before_a_kubelet_for_which_it_may_be_locked(world: World) -> None:
    world.config["featureGates"] = {"Other": True}
    target = at_1_36(world)
    run(world, target=target)
    run(world, target=Target("1.37.0", ADDRESSES, NODES))
    assert world.config["featureGates"] == {"Other": True, GATE: False}
    world.done.clear()

    assert not run(world, target=Target("1.38.0", ADDRESSES, NODES)).failed

    assert world.config["featureGates"] == {"Other": True}
    assert not [step for step in world.done if "configure" in step]


def test_a_kubelet_that_is_not_at_the_version_is_not_configured(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Check it for a node that seems broken in one of the two steps only."""
    target = at_1_36(world)
    nodes = prepare(world, target=target)
    real = world.act

    def act(name: str, script: str) -> str | None:
        answer = real(name, script)
        if "kubelet=" in script:
            world.machines[name].kubelet = NEW
        return answer

    world.act = act  # type: ignore[method-assign]
    execute(nodes)

    assert nodes.failed
    assert not [step for step in world.done if "configure" in step]
    assert "kubelet is not configured, because it is not 1.36.2; run the upgrade again" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("Conflict", "the object has been modified"),
        ("Forbidden", "needs the rights get and update for the configmap kubelet-config"),
    ],
)
def test_a_change_that_never_gets_through_is_given_up(
    world: World, caplog: pytest.LogCaptureFixture, reason: str, says: str
) -> None:
    target = at_1_36(world)
    world.conflicts, world.reason = 10_000, reason
    nodes = run(world, target=target)
    assert nodes.failed
    assert says in caplog.text
    assert not [step for step in world.done if "configure" in step]


def test_kubelets_configuration_is_asked_for_again_if_the_api_is_silent(world: World) -> None:
    """Check that a refusal is an answer."""
    problems = [ClusterError("kubectl get: EOF"), ClusterError("kubectl get: EOF")]

    def request(verb: str, path: str) -> Json:
        if problems:
            raise problems.pop()
        return {"data": {"kubelet": "maxPods: 50"}}

    asks: Any = SimpleNamespace(request=request)
    assert cluster_configuration(asks) == {"maxPods": 50}
    problems[:] = [refused("Forbidden", "no")]
    assert cluster_configuration(asks) == {}


@pytest.mark.parametrize("data", [{}, {"kubelet": "- 1"}, {"kubelet": "a: ["}])
def test_a_cluster_without_kubelets_configuration_is_named(
    world: World, data: dict[str, str]
) -> None:
    asks: Any = SimpleNamespace(request=lambda *_: {"data": data})
    assert cluster_configuration(asks) == {}
    with pytest.raises(ClusterError, match="configmap kubelet-config has no configuration"):
        change_configuration(asks, lambda config: {})


def cluster(configured: str, **api: str) -> ClusterState:
    return ClusterState(
        configured, {**dict.fromkeys(ADDRESSES, OLD), **api}, dict.fromkeys(NODES, OLD)
    )


@pytest.mark.parametrize(
    ("node", "found", "own", "first", "command"),
    [
        ("pi1", cluster(OLD), {}, True, "kubeadm upgrade apply v1.35.1 (the cluster is 1.34.2)"),
        ("pi1", cluster(OLD), {}, False, ""),
        ("pi4", cluster(OLD), {}, True, ""),
        ("pi4", cluster(OLD), {}, False, "kubeadm upgrade node: kube-apiserver 1.34.2 -> 1.35.1"),
        (
            "pi1",
            cluster(NEW, pi1=NEW),
            {"interrupted": "kubeadm upgrade apply v1.35.1"},
            True,
            "kubeadm upgrade apply v1.35.1 again, because it was interrupted",
        ),
        (
            "pi1",
            cluster(OLD, pi1=""),
            {"interrupted": "kubeadm upgrade apply v1.35.1"},
            True,
            "kubeadm upgrade apply v1.35.1 (the cluster is 1.34.2) again, because it was "
            "interrupted",
        ),
        (
            "pi4",
            cluster(NEW, pi1=NEW),
            {"interrupted": "kubeadm upgrade node"},
            True,
            "kubeadm upgrade node again, because it was interrupted",
        ),
        ("pi4", cluster(NEW, pi1=NEW), {"interrupted": "kubeadm upgrade node"}, False, ""),
        ("pi4", cluster(NEW, pi1=NEW), {"interrupted": upgrade.CONFIGURE}, True, ""),
        # its API server has the version, but its scheduler does not
        (
            "pi4",
            cluster(NEW, pi1=NEW, pi4=NEW),
            {"versions": {"kube-apiserver": NEW, "kube-scheduler": OLD}},
            False,
            "kubeadm upgrade node: kube-scheduler 1.34.2 -> 1.35.1",
        ),
        ("pi4", cluster(NEW, pi1=NEW), {"versions": {"kube-apiserver": NEW}}, False, ""),
    ],
)
def test_what_a_controller_does_in_each_step(
    node: str, found: ClusterState, own: dict[str, Any], first: bool, command: str
) -> None:
    part = ControlPlaneState(**{"versions": {"kube-apiserver": OLD}, **own})
    done, why = control_plane_step(node, found, part, TARGET, first)
    assert why == command
    assert why.startswith(done)


READY = {name: ClusterNode(True, False, OLD, name in ADDRESSES) for name in NODES}
OWN = ControlPlaneState({"kube-apiserver": OLD})
WELL = StandingState(joined=True)
ILL = StandingState(joined=True, problems={"docker": "Docker does not answer"})


@pytest.mark.parametrize(
    ("standing", "own", "nodes", "problem"),
    [
        (WELL, OWN, READY, ""),
        (ILL, OWN, READY, "the node does not work: Docker does not answer; fix it first"),
        (
            WELL,
            OWN,
            {**READY, "pi1": ClusterNode(False, False)},
            "the node does not work: it is not Ready; look at: kubectl describe node pi1; fix it "
            "first",
        ),
        # an interrupted upgrade
        (ILL, ControlPlaneState(OWN.versions, "kubeadm upgrade node"), READY, ""),
        (StandingState(True, True, ILL.problems), OWN, READY, ""),
        (
            WELL,
            OWN,
            {"other": ClusterNode(True, False)},
            "the cluster of kubeconfig has no node pi1; its nodes: other. Is this the kubeconfig "
            "of another cluster?",
        ),
        (
            WELL,
            ControlPlaneState(),
            READY,
            "pi1 is in controllers, but the node runs no control plane; remove it there, or have "
            "it join as a controller",
        ),
    ],
)
def test_a_node_that_cannot_take_part_says_why(
    standing: StandingState, own: ControlPlaneState, nodes: dict[str, ClusterNode], problem: str
) -> None:
    found = node_problems(Rolling(node="pi1"), standing, own, nodes, TARGET)
    assert [str(NodeError(one)) for one in found] == ([problem] if problem else [])


def test_without_a_kubeconfig_the_node_is_refused(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes()
    nodes.prepare(lambda: check_upgrade(target=TARGET, rolling=Rolling(node="pi1")))
    execute(nodes)
    assert "an upgrade needs kubeconfig, to read the cluster's versions" in caplog.text


SITE: dict[str, Any] = {
    "nodes": {"pi1": "192.168.1.50", "pi5": "192.168.1.54"},
    "controllers": ["pi1"],
    "storage_servers": {"etcd1": "192.168.1.40"},
    "kubeconfig": "files/kubeconfig",
}


def test_the_target_is_made_of_the_settings() -> None:
    with Nodes("pi1", "pi5", "other").on():
        found = UpgradeSettings(**SITE, kubernetes_version=NEW).target
        assert found == Target(
            NEW, {"pi1": "192.168.1.50"}, ("pi1", "pi5"), ("192.168.1.40",), "/etc/kubernetes"
        )
        own = UpgradeSettings(**SITE, etcd_certificates_hosts="none").target
        assert own.etcd == (), "kubeadm's own etcd is upgraded by kubeadm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kubeconfig": ""}, "chaos_kubeconfig: an upgrade needs it"),
        ({"controllers": []}, "chaos_controllers: an upgrade needs it"),
        ({"kubernetes_packages": False}, "chaos_kubernetes_packages: it is False"),
    ],
)
def test_a_setting_that_an_upgrade_needs_is_asked_for(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        UpgradeSettings(**{**SITE, **change})


def test_the_control_plane_of_a_node_is_read_from_its_manifests(tmp_path: Path) -> None:
    assert ask_below(tmp_path, ControlPlane) == ControlPlaneState()
    folder = tmp_path / "etc/kubernetes/manifests"
    folder.mkdir(parents=True)
    for name in ("kube-apiserver", "kube-scheduler"):
        (folder / f"{name}.yaml").write_text(
            "spec:\n  containers:\n  - command:\n    - --token=secret\n"
            f"    image: registry.k8s.io/{name}:v1.34.2\n    imagePullPolicy: IfNotPresent\n"
        )
    (folder / "kube-vip.yaml").write_text("spec:\n  containers:\n  - image: ghcr.io/vip@sha256:0\n")
    (folder / "etcd.yaml").write_text("spec:\n  containers:\n  - image: etcd:v3.5.24\n")
    note = tmp_path / UPGRADING.lstrip("/")
    note.parent.mkdir(parents=True)
    note.write_text("kubeadm upgrade node\n")
    assert ask_below(tmp_path, ControlPlane) == ControlPlaneState(
        {"kube-apiserver": "1.34.2", "kube-scheduler": "1.34.2"}, "kubeadm upgrade node"
    )


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        (["cri-dockerd 0.4.3 (a1b2c3d)"], "0.4.3"),
        (["timeout: failed to run command '/usr/local/bin/cri-dockerd': No such file"], ""),
        ([], ""),
    ],
)
def test_cri_dockerd_says_its_version(lines: list[str], version: str) -> None:
    assert CriDockerdVersion().parse(lines) == version


def kubeadm(tmp_path: Path, says: str, status: int) -> tuple[Sandbox, Any]:
    """Run the script with a program in place of kubeadm."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kubeadm").write_text(
        f'#!/bin/sh\ncat {tmp_path}/var/upgrading >{tmp_path}/noted\necho "$*" >{tmp_path}/words\n'
        f"printf %b {shlex.quote(says)}\numask >{tmp_path}/mask\nexit {status}\n"
    )
    (programs / "kubeadm").chmod(0o755)
    box = Sandbox(tmp_path)
    text = kubeadm_script("kubeadm upgrade apply v1.35.1").replace(
        "/run/chaos-engine", f"{tmp_path}/run"
    )
    done = subprocess.run(
        ["sh", "-c", f"PATH={programs}:$PATH\n{box.localise(text)}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return box, done


def test_kubeadm_is_noted_while_it_is_at_work(tmp_path: Path) -> None:
    box, done = kubeadm(tmp_path, "[upgrade] SUCCESS\n", 0)
    assert done.returncode == 0, done.stderr
    assert "chaos-engine: kubeadm upgrade apply v1.35.1" in done.stdout
    assert box.path("words").read_text() == "upgrade apply v1.35.1 -y\n"
    assert box.path("noted").read_text() == "kubeadm upgrade apply v1.35.1\n"
    assert box.path("mask").read_text().strip() in ("0022", "022"), "kubelet reads its files"
    assert not box.path("var/upgrading").exists()
    assert not box.leftovers


def test_the_end_of_what_a_failing_kubeadm_prints_is_shown(tmp_path: Path) -> None:
    says = (
        "".join(f"[upgrade] line {n}\n" for n in range(40))
        + "error: error execution phase preflight: [preflight] Some fatal errors occurred:\n"
        + "\t[ERROR ExternalEtcdVersion]: this version of kubeadm only supports 3.5.24\n"
        + "To see the stack trace of this error execute with --v=5 or higher\n"
    )
    box, done = kubeadm(tmp_path, says, 1)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "[upgrade] line 39" in lines
    assert "[upgrade] line 3" not in lines
    assert lines[-1] == (
        "kubeadm upgrade apply v1.35.1 -y failed: error: error execution phase preflight: "
        "[preflight] Some fatal errors occurred: [ERROR ExternalEtcdVersion]: this version of "
        "kubeadm only supports 3.5.24; the end of its output is above"
    )
    assert box.path("var/upgrading").read_text() == "kubeadm upgrade apply v1.35.1\n"


def test_kubectl_tells_roles_and_versions_of_nodes() -> None:
    text = """{"items": [{
      "metadata": {"name": "pi1", "labels": {"node-role.kubernetes.io/control-plane": ""}},
      "spec": {}, "status": {"nodeInfo": {"kubeletVersion": "v1.34.2"}, "conditions": []}}]}"""
    assert parse_nodes(text) == {"pi1": ClusterNode(False, False, "1.34.2", True)}


def test_kubeadms_configuration_tells_the_version_of_the_cluster() -> None:
    text = '{"data": {"ClusterConfiguration": "kind: X\\nkubernetesVersion: v1.34.2\\n"}}'
    assert parse_cluster_version(text) == "1.34.2"
    assert parse_cluster_version("") == ""
    with pytest.raises(ValueError, match="no YAML"):
        parse_cluster_version('{"data": {"ClusterConfiguration": "{"}}')
