"""Read, cordon and drain the nodes of a cluster with kubectl on this computer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import gevent  # type: ignore[import-untyped]
import yaml
from gevent import subprocess
from typing_extensions import override

from chaos_engine.facts.observe.host import in_words

PROGRAM = "kubectl"

API_SECONDS = 90.0
"""Seconds during which a failed call is retried. While the proxy restarts, the API is unreachable
for some seconds."""

REQUEST_SECONDS = 10

CONTROLLER = "node-role.kubernetes.io/control-plane"
"""The label that kubeadm gives to a controller."""

PAUSE = 2.0
"""Seconds between two attempts."""

T = TypeVar("T")
Json = dict[str, Any]


class ClusterError(Exception):
    """The cluster does not answer, or does not do what kubectl asks.

    + reason: the API's name for the reason, such as ``Conflict`` or ``Forbidden``; "" if the API
      has given no reason
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason

    @override
    def __str__(self) -> str:
        return in_words(super().__str__())


@dataclass(frozen=True)
class ClusterNode:
    """The state of a node as the Kubernetes API reports it.

    + ready: whether the node's condition Ready is true
    + unschedulable: whether the node is cordoned
    + kubelet: version of the node's kubelet, such as ``1.36.2``; "" if kubelet has not reported it
    + controller: whether kubeadm has marked the node as a controller
    + why: what the condition Ready says, such as why the node is not Ready
    """

    ready: bool
    unschedulable: bool
    kubelet: str = ""
    controller: bool = False
    why: str = ""


@dataclass(frozen=True)
class Kubectl:
    """The program kubectl, for one cluster.

    + kubeconfig: path of the cluster's kubeconfig on this computer
    + server: URL of the API, such as ``https://192.168.1.60:6443``; "" for the kubeconfig's URL
    """

    kubeconfig: str
    server: str = ""

    def nodes(self) -> dict[str, ClusterNode]:
        """Return all nodes of the cluster, by name.

        Raises `ClusterError` if the cluster does not answer.
        """
        return _until(self._nodes)

    def cluster_version(self) -> str:
        """Return the version to which kubeadm has last brought the cluster, such as ``1.36.2``.

        Returns "" if kubeadm has not made the cluster. Raises `ClusterError` if the cluster does
        not answer.
        """
        words = ("get", "configmap", "kubeadm-config", "--namespace=kube-system")
        output = _until(lambda: self._run(*words, "--ignore-not-found", "--output=json")[0])
        try:
            return parse_cluster_version(output)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ClusterError(f"the configmap kubeadm-config cannot be parsed: {error}") from None

    def cordon(self, name: str, wanted: bool = True) -> None:
        """Cordon a node, or uncordon it.

        + wanted: whether the node shall be cordoned

        Raises `ClusterError` if the cluster does not show the change afterwards. kubectl's exit
        status is 0 even if the cluster refuses the change (``RunCordonOrUncordon`` in kubectl's
        pkg/cmd/drain/drain.go).
        """
        verb = "cordon" if wanted else "uncordon"

        def attempt() -> None:
            output = self._run(verb, name)
            node = self._nodes().get(name)
            if node is None or node.unschedulable != wanted:
                raise ClusterError(error_lines(output) or f"the cluster does not {verb} {name}")

        _until(attempt)

    def delete(self, name: str) -> None:
        """Delete a node from the cluster, if the cluster has it.

        Raises `ClusterError` if the cluster still has the node afterwards.
        """

        def attempt() -> None:
            self._run("delete", "node", name, "--ignore-not-found", "--wait=false")
            if name in self._nodes():
                raise ClusterError(f"the cluster does not delete the node {name}")

        _until(attempt)

    def drain(self, name: str, seconds: int, ends_pods: bool = True) -> str:
        """Evict a node's pods, except those of DaemonSets and kubelet's static pods.

        + seconds: how long the eviction may take
        + ends_pods: whether kubelet on the node works, so that it can end pods. If not, evicted
          pods stay until kubelet works again, and kubectl waits only for the pods' grace periods

        Returns the problem, "" if there is none.
        """
        options = ["--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s"]
        if not ends_pods:
            # kubectl then stops waiting for a pod 1 s after the end of the pod's grace period
            # (waitForDelete in pkg/drain/drain.go)
            options.append("--skip-wait-for-delete-timeout=1")
        try:
            # kubectl's own limit has to end first, because its message names the pods that did not
            # end
            self._run("drain", name, *options, seconds=seconds + 3 * REQUEST_SECONDS)
        except ClusterError as error:
            return str(error)
        return ""

    def request(
        self, verb: Literal["get", "create", "replace"], path: str, body: Json | None = None
    ) -> Json:
        """Send one request to the API, without retries, and return the object in the answer.

        + verb: kubectl's command. kubectl sends a GET, POST or PUT
        + path: the path of the URL, such as ``/api/v1/nodes``
        + body: the object to create or to replace

        ``kubectl VERB --raw`` sends exactly this request. Without ``--raw``, kubectl would first
        ask for the API's resources and their schema (pkg/cmd/create and pkg/cmd/replace), and would
        not print the object with its new ``resourceVersion``. Raises `ClusterError` if the API
        refuses the request or does not answer.
        """
        words = [verb, "--raw", path, *(["--filename=-"] if body is not None else [])]
        text = "" if body is None else json.dumps(body)
        output = self._run(*words, seconds=2 * REQUEST_SECONDS, standard_input=text)[0]
        try:
            answer = json.loads(output)
        except ValueError as error:
            raise ClusterError(f"kubectl's answer cannot be parsed: {error}") from None
        if not isinstance(answer, dict):
            raise ClusterError(f"kubectl's answer for {path} is not an object")
        return answer

    def _nodes(self) -> dict[str, ClusterNode]:
        """Return all nodes of the cluster by name, without retries."""
        try:
            return parse_nodes(self._run("get", "nodes", "--output=json")[0])
        except (ValueError, LookupError, TypeError) as error:
            raise ClusterError(f"kubectl's list of nodes cannot be parsed: {error}") from None

    def _run(self, *words: str, seconds: float = 0, standard_input: str = "") -> tuple[str, str]:
        """Run kubectl; return its standard output and standard error.

        + seconds: how long kubectl may take; 0 for the default, 60 s
        + standard_input: the text that kubectl reads

        Raises `ClusterError` if kubectl fails or takes longer.
        """
        seconds = seconds or 6 * REQUEST_SECONDS  # kubectl itself retries before it fails
        command = [
            PROGRAM,
            f"--kubeconfig={self.kubeconfig}",
            *([f"--server={self.server}"] if self.server else []),
            f"--request-timeout={REQUEST_SECONDS}s",
            *words,
        ]
        try:
            # gevent's subprocess does not block the other hosts
            done = subprocess.run(
                command,
                input=standard_input,
                capture_output=True,
                timeout=seconds,
                encoding="utf-8",
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            raise ClusterError(f"kubectl {words[0]} did not end within {seconds} s") from None
        except OSError as error:
            raise ClusterError(f"{PROGRAM}: {error.strerror}") from None
        if done.returncode:
            problem = error_lines((done.stdout, done.stderr)) or f"status {done.returncode}"
            raise ClusterError(f"kubectl {words[0]}: {problem}", reason_of(done.stderr))
        return done.stdout, done.stderr


def find(kubectl: Kubectl, path: str) -> Json | None:
    """Return an object of the API, ``None`` if there is none or the user may not read it.

    + path: the path of the object's URL

    If the API does not answer, the function asks again. After `API_SECONDS` it raises
    `ClusterError`.
    """

    def attempt() -> Json | None:
        try:
            return kubectl.request("get", path)
        except ClusterError as error:
            if error.reason in ("NotFound", "Forbidden"):
                return None
            raise

    return _until(attempt)


def update(kubectl: Kubectl, path: str, change: Callable[[Json], bool]) -> None:
    """Change an object of the API: read it, change it, and write it.

    + path: the path of the object's URL
    + change: function that changes the object it gets, and returns whether it did

    If somebody else changes the object meanwhile, or if the API does not answer, the function
    begins again. After `API_SECONDS` it raises `ClusterError`.
    """

    def attempt() -> None:
        item = kubectl.request("get", path)
        if change(item):
            kubectl.request("replace", path, item)

    _until(attempt)


def reason_of(error: str) -> str:
    """Return the API's name for the reason of an error, "" if the API has given none.

    + error: kubectl's standard error

    **Example:** ``reason_of("Error from server (Forbidden): leases is forbidden") == "Forbidden"``
    """
    found = re.search(r"^Error from server \((\w+)\):", error, re.MULTILINE)
    return found[1] if found else ""


def parse_nodes(text: str) -> dict[str, ClusterNode]:
    """Return the nodes in the output of ``kubectl get nodes --output=json``, by name."""
    return {
        item["metadata"]["name"]: ClusterNode(
            ready=any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in item["status"].get("conditions", [])
            ),
            unschedulable=bool(item["spec"].get("unschedulable")),
            kubelet=str(item["status"].get("nodeInfo", {}).get("kubeletVersion", "")).lstrip("v"),
            controller=CONTROLLER in (item["metadata"].get("labels") or {}),
            why="; ".join(
                condition.get("message", "")
                for condition in item["status"].get("conditions", [])
                if condition["type"] == "Ready"
            ),
        )
        for item in json.loads(text)["items"]
    }


def parse_cluster_version(text: str) -> str:
    """Return the ``kubernetesVersion`` in the configmap ``kubeadm-config``, without a leading v.

    + text: the configmap as JSON, or "" if there is none. Then the result is "" too
    """
    if not text.strip():
        return ""
    try:
        cluster = yaml.safe_load(json.loads(text)["data"]["ClusterConfiguration"])
    except yaml.YAMLError:
        raise ValueError("its ClusterConfiguration is no YAML") from None
    return str(cluster["kubernetesVersion"]).lstrip("v")


def error_lines(output: Iterable[str]) -> str:
    """Return the last three error lines of kubectl's output.

    + output: kubectl's standard output and standard error

    If the output has no error line, the output's last line is returned.

    A repeated line counts once, because kubectl prints an error again at each retry.
    """
    lines = [line.strip() for text in output for line in text.splitlines()]
    errors = [line for line in lines if line.lower().startswith(("error", "unable", "the "))]
    return "; ".join([*dict.fromkeys(errors or lines[-1:])][-3:])


def _until(attempt: Callable[[], T]) -> T:
    """Call a function until it raises no `ClusterError`, and return its result.

    If it still fails after `API_SECONDS`, its error is raised.
    """
    deadline = time.monotonic() + API_SECONDS
    while True:
        try:
            return attempt()
        except ClusterError:
            if time.monotonic() > deadline:
                raise
        gevent.sleep(PAUSE)
