"""The cluster's view of its nodes, through kubectl on the user's computer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import gevent  # type: ignore[import-untyped]
from gevent import subprocess
from typing_extensions import override

from chaos_engine.facts.observe.host import in_words

PROGRAM = "kubectl"

API_SECONDS = 90.0
"""How long the API may be away: its address is, for some seconds, while the proxy restarts."""

REQUEST_SECONDS = 10
PAUSE = 2.0
"""Seconds between two attempts."""

T = TypeVar("T")


class ClusterError(Exception):
    """The cluster cannot be asked, or does not do what it was told; the message says what."""

    @override
    def __str__(self) -> str:
        return in_words(super().__str__())


@dataclass(frozen=True)
class ClusterNode:
    """A node as its cluster sees it; `ready` is its condition of that name."""

    ready: bool
    unschedulable: bool


@dataclass(frozen=True)
class Kubectl:
    """kubectl, for one cluster.

    + kubeconfig: path of its kubeconfig on this computer
    + server: where the API is, if not where that says, as ``https://192.168.1.60:6443``
    """

    kubeconfig: str
    server: str = ""

    def nodes(self) -> dict[str, ClusterNode]:
        """All nodes of the cluster, by name; `ClusterError` if it cannot be asked."""
        return _until(self._nodes)

    def cordon(self, name: str, wanted: bool = True) -> None:
        """Have a node take no pods any more or, without `wanted`, take them again.

        Raises `ClusterError` if it does not come to that. kubectl's exit status does not say: it
        is 0 where the cluster refuses the change (``RunCordonOrUncordon`` in kubectl's
        pkg/cmd/drain/drain.go).
        """

        def attempt() -> None:
            said = self._run("cordon" if wanted else "uncordon", name)
            node = self._nodes().get(name)
            if node is None or node.unschedulable != wanted:
                raise ClusterError(error_lines(said) or f"{name} is not as it was told to be")

        _until(attempt)

    def drain(self, name: str, seconds: int, ends_pods: bool = True) -> str:
        """Evict a node's pods, but for those of DaemonSets and those that kubelet has by itself.

        + seconds: how long that may take
        + ends_pods: whether the node's kubelet is there to end them; if not, a pod whose time to
          end is over is not waited for, since it stays until kubelet is back

        Says what went wrong, or nothing.
        """
        options = ["--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s"]
        if not ends_pods:
            # counted from the end of the pod's grace period (waitForDelete in pkg/drain/drain.go)
            options.append("--skip-wait-for-delete-timeout=1")
        try:
            # kubectl gives up first, and knows which pods it was
            self._run("drain", name, *options, seconds=seconds + 3 * REQUEST_SECONDS)
        except ClusterError as error:
            return str(error)
        return ""

    def _nodes(self) -> dict[str, ClusterNode]:
        try:
            return parse_nodes(self._run("get", "nodes", "--output=json")[0])
        except (ValueError, LookupError, TypeError) as error:
            raise ClusterError(f"what kubectl says of the nodes makes no sense: {error}") from None

    def _run(self, *words: str, seconds: float = 0) -> tuple[str, str]:
        """What it printed; `ClusterError` if it fails or takes longer."""
        seconds = seconds or 6 * REQUEST_SECONDS  # it asks again by itself, and then says why
        command = [
            PROGRAM,
            f"--kubeconfig={self.kubeconfig}",
            *([f"--server={self.server}"] if self.server else []),
            f"--request-timeout={REQUEST_SECONDS}s",
            *words,
        ]
        try:
            # gevent's: the other hosts go on meanwhile
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
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
            said = error_lines((done.stdout, done.stderr)) or f"status {done.returncode}"
            raise ClusterError(f"kubectl {words[0]}: {said}")
        return done.stdout, done.stderr


def parse_nodes(text: str) -> dict[str, ClusterNode]:
    """Read ``kubectl get nodes --output=json``."""
    return {
        item["metadata"]["name"]: ClusterNode(
            ready=any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in item["status"].get("conditions", [])
            ),
            unschedulable=bool(item["spec"].get("unschedulable")),
        )
        for item in json.loads(text)["items"]
    }


def error_lines(said: Iterable[str]) -> str:
    """The last lines of kubectl's that tell of errors, each once: it repeats what it retries."""
    lines = [line.strip() for text in said for line in text.splitlines()]
    errors = [line for line in lines if line.lower().startswith(("error", "unable", "the "))]
    return "; ".join([*dict.fromkeys(errors or lines[-1:])][-3:])


def _until(attempt: Callable[[], T]) -> T:
    """What `attempt` returns, once it raises no `ClusterError` any more."""
    deadline = time.monotonic() + API_SECONDS
    while True:
        try:
            return attempt()
        except ClusterError:
            if time.monotonic() > deadline:
                raise
        gevent.sleep(PAUSE)
