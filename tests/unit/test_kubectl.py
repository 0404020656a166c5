"""Test how kubectl is called, how its answers are read, and the settings that it needs."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos_engine.deploys.concern import DECLARED
from chaos_engine.deploys.rolling import RollingSettings, is_known
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.facts import standing
from chaos_engine.facts.health import Check
from chaos_engine.facts.standing import NOTE, Standing, StandingState
from chaos_engine.operations.rolling import kubectl
from chaos_engine.operations.rolling.cordon import note
from chaos_engine.operations.rolling.kubectl import (
    ClusterError,
    ClusterNode,
    Kubectl,
    error_lines,
    parse_nodes,
)
from tests.unit.kubeconfig import admin_conf
from tests.unit.nodes import Nodes


def answer(**nodes: tuple[str, bool]) -> str:
    """Return what ``kubectl get nodes`` prints, shortened; "" is a node that never reported."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "kind": "Node",
                    "metadata": {"name": name},
                    "spec": {"unschedulable": True} if unschedulable else {},
                    "status": {
                        "conditions": [
                            {"type": "DiskPressure", "status": "False"},
                            {"type": "Ready", "status": ready},
                        ]
                    }
                    if ready
                    else {},
                }
                for name, (ready, unschedulable) in nodes.items()
            ],
        }
    )


def test_nodes_are_ready_when_their_condition_is_true() -> None:
    text = answer(pi1=("True", False), pi4=("Unknown", True), pi5=("False", False), pi7=("", False))

    assert parse_nodes(text) == {
        "pi1": ClusterNode(ready=True, unschedulable=False),
        "pi4": ClusterNode(ready=False, unschedulable=True),
        "pi5": ClusterNode(ready=False, unschedulable=False),
        "pi7": ClusterNode(ready=False, unschedulable=False),
    }


def test_what_keeps_pods_from_leaving_is_told_once() -> None:
    # kubectl 1.36.4, with a PodDisruptionBudget that allows no disruption
    retried = (
        'error when evicting pods/"web-0" -n "default" (will retry after 5s): Cannot evict pod as '
        "it would violate the pod's disruption budget."
    )
    gone = 'error when evicting pods/"web-0" -n "default": global timeout reached: 12s'
    err = "\n".join(
        [
            "Warning: ignoring DaemonSet-managed Pods: kube-system/kube-proxy-x7k2p",
            *([retried] * 3),
            f'There are pending pods in node "pi4" when an error occurred: {gone}',
            "pod/web-0",
            f'error: unable to drain node "pi4" due to error: {gone}, continuing command...',
            "There are pending nodes to be drained:",
            " pi4",
            gone,
        ]
    )

    told = error_lines(("node/pi4 cordoned\nevicting pod default/web-0\n" * 3, err))

    assert told.count("disruption budget") == 1
    assert told.endswith("global timeout reached: 12s")


def test_a_pod_that_takes_too_long_to_end_is_named() -> None:
    # kubectl 1.36.4 drain --timeout=2s
    why = (
        'error when waiting for pod "web-kfp9t" in namespace "default" to terminate: context '
        "deadline exceeded"
    )
    err = "\n".join(
        [
            "Warning: ignoring DaemonSet-managed Pods: kube-system/kube-proxy-fmp5g",
            f'There are pending pods in node "pi4" when an error occurred: {why}',
            "pod/web-kfp9t",
            f'error: unable to drain node "pi4" due to error: {why}, continuing command...',
            "There are pending nodes to be drained:",
            " pi4",
            why,
        ]
    )

    assert error_lines(("node/pi4 cordoned\nevicting pod default/web-kfp9t\n", err)).endswith(why)


def test_the_lines_that_kubectl_logs_of_an_api_that_is_away_are_left_out() -> None:
    # kubectl 1.36.4 get nodes, where it does not know yet what the API serves
    logged = (
        'E1128 08:26:58.872051   12126 memcache.go:265] "Unhandled Error" err="couldn\'t get '
        'current server API group list: Get \\"https://192.168.1.60:6443/api?timeout=10s\\": dial '
        'tcp 192.168.1.60:6443: connect: connection refused"'
    )
    told = (
        "The connection to the server 192.168.1.60:6443 was refused - did you specify the right "
        "host or port?"
    )

    assert error_lines(("", "\n".join([*([logged] * 5), told]))) == told


@pytest.mark.parametrize(
    ("out", "err", "expected"),
    [
        ("", "The connection to the server k8s:6443 was refused", "The connection to the server"),
        ("", "Unable to connect to the server: dial tcp: i/o timeout", "Unable to connect to"),
        ("", "something\nelse\n", "else"),
        ("", "", ""),
    ],
)
def test_errors_of_the_connection_are_told(out: str, err: str, expected: str) -> None:
    assert error_lines((out, err)).startswith(expected)


class Program:
    """A stand-in for kubectl, and how it was called."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.path = root / "kubectl"
        monkeypatch.setenv("PATH", str(root), prepend=":")
        monkeypatch.setenv("KUBECONFIG", "/another/clusters")
        monkeypatch.setattr(kubectl, "PAUSE", 0.01)
        monkeypatch.setattr(kubectl, "API_SECONDS", 0.3)
        monkeypatch.setattr(kubectl, "subprocess", subprocess)  # gevent's forks

    def does(self, script: str) -> Kubectl:
        log = self.root / "calls"
        self.path.write_text(f"#!/bin/sh\nn=$(cat {log} 2>/dev/null | wc -l)\n"
                             f'echo "$*" >> {log}\n{script}\n')  # fmt: skip
        self.path.chmod(0o755)
        return Kubectl("/home/me/my config")

    @property
    def calls(self) -> list[str]:
        common = "--kubeconfig=/home/me/my config --request-timeout=10s "
        lines = (self.root / "calls").read_text().splitlines()
        assert all(line.startswith(common) for line in lines), lines
        return [line.removeprefix(common) for line in lines]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(tmp_path, monkeypatch)


def test_it_is_asked_for_the_nodes_of_its_own_kubeconfig(program: Program) -> None:
    found = program.does(f"echo '{answer(pi1=('True', False))}'").nodes()

    assert list(found) == ["pi1"]
    assert program.calls == ["get nodes --output=json"]


def test_an_api_that_is_away_for_a_moment_is_asked_again(program: Program) -> None:
    away = "Unable to connect to the server: dial tcp 192.168.1.60:6443: no route to host"
    script = f"[ $n -ge 2 ] || {{ echo '{away}' >&2; exit 1; }}\necho '{answer()}'"

    assert program.does(script).nodes() == {}
    assert len(program.calls) == 3


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo 'error: You must be logged in' >&2; exit 1", "get: error: You must be logged in"),
        ("exit 3", "kubectl get: status 3"),
        ("echo '{}'", "cannot be parsed: 'items'"),
        ("echo '<html>'", "cannot be parsed: Expecting value"),
    ],
)
def test_an_api_that_cannot_be_asked_is_an_error(
    program: Program, script: str, problem: str
) -> None:
    with pytest.raises(ClusterError, match=problem):
        program.does(script).nodes()
    assert len(program.calls) > 1


def test_a_program_that_hangs_is_given_up(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubectl, "REQUEST_SECONDS", 0.05)
    monkeypatch.setattr(kubectl, "API_SECONDS", 0)

    with pytest.raises(ClusterError, match=r"kubectl get did not end within 0.3"):
        program.does("exec sleep 60").nodes()


def test_a_change_that_the_cluster_refuses_is_seen_although_kubectl_does_not_fail(
    program: Program,
) -> None:
    refused = 'error: unable to cordon node "pi1": admission webhook denied the request'
    script = f"case $* in *' cordon '*) echo '{refused}' >&2 ;; *) echo '{{}}' ;; esac".replace(
        "{}", answer(pi1=("True", False))
    )

    with pytest.raises(ClusterError, match="admission webhook denied the request"):
        program.does(script).cordon("pi1")
    assert program.calls[:2] == ["cordon pi1", "get nodes --output=json"]


def test_a_node_is_uncordoned_once_the_cluster_says_so(program: Program) -> None:
    nodes = answer(pi1=("False", False))
    program.does(f"case $* in *' uncordon '*) [ $n -ge 1 ] ;; *) echo '{nodes}' ;; esac").cordon(
        "pi1", wanted=False
    )

    assert program.calls == ["uncordon pi1", "uncordon pi1", "get nodes --output=json"]


def test_a_node_is_deleted_once_the_cluster_does_not_have_it(program: Program) -> None:
    script = f"case $*/$n in *get*/[01]) echo '{answer(pi1=('False', False))}' ;; *get*) echo "
    program.does(f"{script}'{answer()}' ;; esac").delete("pi1")

    delete = "delete node pi1 --ignore-not-found --wait=false"
    assert program.calls == [delete, "get nodes --output=json"] * 2


def test_it_is_told_why_a_node_is_not_ready() -> None:
    found = json.loads(answer(pi1=("False", False)))
    for condition in found["items"][0]["status"]["conditions"]:
        condition["message"] = f"says {condition['type']}"

    assert parse_nodes(json.dumps(found))["pi1"].why == "says Ready"


def test_pods_are_given_the_time_that_is_set(program: Program) -> None:
    assert program.does("exit 0").drain("pi1", 12) == ""
    assert program.calls == ["drain pi1 --ignore-daemonsets --delete-emptydir-data --timeout=12s"]
    assert program.does("echo 'error: a budget' >&2; exit 1").drain("pi1", 12) == (
        "kubectl drain: error: a budget"
    )
    assert len(program.calls) == 2, "what could not be drained is not tried again"
    program.does("exit 0").drain("pi1", 12, ends_pods=False)
    assert program.calls[-1].endswith(" --timeout=12s --skip-wait-for-delete-timeout=1")


def test_an_object_goes_to_the_api_by_kubectls_standard_input(program: Program) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    cluster = program.does("cat")

    assert cluster.request("create", path, {"spec": {"x": 1}}) == {"spec": {"x": 1}}
    assert program.calls == [f"create --raw {path} --filename=-"]
    assert program.does("echo '{}'; cat >&2").request("get", path) == {}
    assert program.calls[-1] == f"get --raw {path}"


@pytest.mark.parametrize(
    ("script", "problem", "reason"),
    [
        (
            "echo 'Error from server (Conflict): it was modified' >&2; exit 1",
            "modified",
            "Conflict",
        ),
        ("echo 'Unable to connect to the server: EOF' >&2; exit 1", "Unable to connect", ""),
        ("echo '<html>'", "cannot be parsed", ""),
        ("echo '[]'", "is not an object", ""),
    ],
)
def test_a_request_that_fails_is_not_sent_again(
    program: Program, script: str, problem: str, reason: str
) -> None:
    with pytest.raises(ClusterError, match=problem) as error:
        program.does(script).request("get", "/version")
    assert error.value.reason == reason
    assert len(program.calls) == 1


def test_the_note_is_on_disk_before_it_counts(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "var"
    script = note("pi1").replace("/var/lib/chaos-engine", str(folder))
    script = script.replace("/run/chaos-engine", str(tmp_path / "run"))
    tools = f'sync() {{ [ "$1" = --version ] || echo "sync $*" >> {log}; }}\n'
    tools += f'mv() {{ echo "mv $*" >> {log}; command mv "$@"; }}\n'

    subprocess.run(["sh", "-c", tools + script], check=True)

    name = f"{folder}/cordoned"
    assert Path(name).read_text() == "pi1\n"
    assert log.read_text().splitlines() == [
        f"sync {name}.chaos-new",
        f"mv -f {name}.chaos-new {name}",
        f"sync {folder}",
    ]


@pytest.mark.parametrize(
    ("joined", "cordoned", "works", "expected"),
    [
        (False, True, False, StandingState()),
        (True, False, True, StandingState(joined=True)),
        (True, True, True, StandingState(joined=True, cordoned=True)),
        (True, False, False, StandingState(joined=True, problems={"docker": "it's down"})),
    ],
)
def test_how_a_node_stands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    joined: bool,
    cordoned: bool,
    works: bool,
    expected: StandingState,
) -> None:
    docker = Check("docker", "true" if works else "false", "it's down")
    optional = {str(tmp_path): docker, "/nowhere": Check("swap", "false", "never asked")}
    monkeypatch.setattr(standing, "_OPTIONAL", optional)
    kubelet = Check("kubernetes", "true", "kubelet does not answer")
    monkeypatch.setattr(standing, "_ALWAYS", (kubelet,))
    text = Standing().command().get_raw_value()
    for there, path in ((joined, "/etc/kubernetes/kubelet.conf"), (cordoned, NOTE)):
        text = text.replace(path, str(tmp_path) if there else "/nowhere")

    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)

    assert done.stderr == ""
    assert Standing().process(done.stdout.splitlines()) == expected


def test_a_node_is_looked_at_by_what_its_pods_need() -> None:
    text = Standing().command().get_raw_value()

    declared = {check for one in DECLARED.values() for check in one.health}
    assert {*standing._OPTIONAL.values(), *standing._ALWAYS} < declared
    assert "logger" not in text, "a look says nothing to the log server"
    assert subprocess.run(["sh", "-n", "-c", text], check=False).returncode == 0


def resolved(tmp_path: Path, name: str = "pi1", **data: Any) -> Any:
    groups: Any = {"proxy": (["pi5"], {})}
    nodes = Nodes(
        "pi1",
        "pi4",
        "pi5",
        data={
            "chaos_nodes": {"pi1": "192.168.1.50", "pi4": "192.168.1.53", "pi5": "192.168.1.54"},
            "chaos_controllers": ["pi1", "pi4"],
            **{f"chaos_{key}": value for key, value in data.items()},
        },
        groups=groups,
    )
    nodes.state.cwd = str(tmp_path)
    with nodes.on(name):
        return RollingSettings.resolve().rolling()


def test_controllers_know_of_each_other_and_the_proxy_goes_alone(tmp_path: Path) -> None:
    one, proxy = resolved(tmp_path), resolved(tmp_path, "pi5", rolling_batch=3)

    assert (one.lane, one.node, one.batch) == ("controller", "pi1", 1)
    assert (one.controller, one.controllers) == (True, {"pi4": "192.168.1.53"})
    assert (proxy.lane, proxy.batch, proxy.kubectl) == ("proxy", 3, None)
    assert (proxy.controller, [*proxy.controllers]) == (False, ["pi1", "pi4"])
    both = resolved(tmp_path, "pi5", controllers=["pi5", "pi4"])
    assert (both.lane, both.controller, [*both.controllers]) == ("proxy", True, ["pi4"])
    worker = resolved(tmp_path, "pi1", controllers=["pi4"])
    assert (worker.lane, worker.controller, worker.controllers) == ("", False, {})


def test_a_host_that_is_in_no_cluster_needs_no_name_in_one() -> None:
    nodes = Nodes("10.0.0.7", data={"chaos_nodes": {"pi1": "192.168.1.50"}})
    with nodes.on("10.0.0.7"):
        assert RollingSettings.resolve().rolling().node == ""


def test_hosts_of_a_run_agree_on_how_many_may_be_down() -> None:
    nodes = Nodes("pi1", "pi4", hosts={"pi1": {"chaos_rolling_batch": 3}})
    with nodes.on("pi1"):
        assert RollingSettings.resolve().rolling().batch == 3
    with nodes.on("pi4"), pytest.raises(SettingsError, match="3 for pi1, 1 for pi4"):
        RollingSettings.resolve().rolling()
    # the call of a deploy may give the same value
    with nodes.on("pi4"):
        assert RollingSettings.resolve({"rolling_batch": 3}).rolling().batch == 3


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let this computer resolve only these names of machines; it knows all addresses."""
    known: list[str] = []

    def ask(name: str, port: None) -> list[str]:
        if name not in known and not name[0].isdigit():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ["an address"]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    is_known.cache_clear()
    yield known
    is_known.cache_clear()


@pytest.mark.parametrize(
    ("server", "vip", "override"),
    [
        ("192.168.1.60", None, ""),
        ("api.home.example", None, ""),
        ("k8s", "192.168.1.60", "https://192.168.1.60:6443"),  # as kubeadm writes it
    ],
)
def test_a_kubeconfig_is_looked_for_beside_the_inventory(
    tmp_path: Path,
    program: Program,
    names: list[str],
    server: str,
    vip: str | None,
    override: str,
) -> None:
    program.does("exit 0")
    names.append("api.home.example")
    (tmp_path / "kubeconfig").write_bytes(admin_conf(server))

    found = resolved(tmp_path, kubeconfig="kubeconfig", **({"vip": vip} if vip else {}))

    assert found.kubectl == Kubectl(f"{tmp_path}/kubeconfig", override)


@pytest.mark.parametrize("more", [{}, {"vip": "192.168.1.60", "vip_name": "api"}])
def test_a_server_that_this_computer_does_not_know_is_told_at_once(
    tmp_path: Path, program: Program, names: list[str], more: dict[str, str]
) -> None:
    program.does("exit 0")
    (tmp_path / "kubeconfig").write_bytes(admin_conf("k8s"))

    with pytest.raises(
        SettingsError, match="names the server k8s, but this computer cannot resolve that name"
    ):
        resolved(tmp_path, kubeconfig="kubeconfig", **more)


def test_kubectl_is_told_of_another_server(program: Program) -> None:
    program.does("echo '{\"items\": []}'")

    assert Kubectl("config", "https://192.168.1.60:6443").nodes() == {}
    said = (program.root / "calls").read_text()
    assert said.startswith("--kubeconfig=config --server=https://192.168.1.60:6443 ")
