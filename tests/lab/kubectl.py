"""Stand-in for kubectl on the lab's computer: nodes, cordon, uncordon and drain.

It reads the server and its CA from a kubeconfig and asks there, over TLS, before it does anything,
so it fails as the original does while the API is away, with its words and exit status. What the
stand-in for kube-apiserver does not keep is in the folder LAB_KUBERNETES, which `lab run` sets:

nodes/NAME.json   a node of the cluster: `address`, `unschedulable`, and `pods`, a list of `name`,
                  `seconds` (how long it takes to end), `budget` (whether a PodDisruptionBudget
                  keeps it) and `bare` (whether it has no controller)
calls             a line of JSON for each call: `began`, `ended` (seconds since 1970; only `began`
                  until it ends), `words`, `status`

A node is Ready while its kubelet answers at its port.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import yaml

KUBELET = 10250
Json = dict[str, Any]


class Failed(Exception):
    """What the original would say, before it ends with status 1."""


class Api:
    """The cluster's API server, and what it would keep."""

    def __init__(self, kubeconfig: str, timeout: float) -> None:
        try:
            config = yaml.safe_load(Path(kubeconfig).read_text())
        except OSError as error:
            raise Failed(f"error: stat {kubeconfig}: {str(error.strerror).lower()}") from None
        except yaml.YAMLError as error:
            raise Failed(f'error: error loading config file "{kubeconfig}": {error}') from None
        clusters = {one["name"]: one["cluster"] for one in config["clusters"]}
        contexts = {one["name"]: one["context"] for one in config["contexts"]}
        cluster = clusters[contexts[config["current-context"]]["cluster"]]
        self._at = urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        self._timeout = timeout
        self._nodes = Path(os.environ["LAB_KUBERNETES"]) / "nodes"

    def ask(self, path: str = "/api/v1/nodes") -> None:
        """Have the server answer a request."""
        host, port = str(self._at.hostname), self._at.port or 443
        place = f"{host}:{port}"
        connection = http.client.HTTPSConnection(
            host, port, timeout=self._timeout, context=self._tls
        )
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
        except ConnectionRefusedError:
            raise Failed(
                f"The connection to the server {place} was refused - did you specify the right "
                "host or port?"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise Failed(
                "Unable to connect to the server: tls: failed to verify certificate: x509: "
                f"{error.verify_message}"
            ) from None
        except TimeoutError:
            raise Failed(
                f"Unable to connect to the server: context deadline exceeded ({place})"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or "EOF"
            raise Failed(
                f"Unable to connect to the server: dial tcp {place}: connect: {reason.lower()}"
            ) from None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise Failed(f"Error from server: status {answer.status}")

    def names(self) -> list[str]:
        """The nodes of the cluster."""
        return sorted(file.stem for file in self._nodes.glob("*.json"))

    def node(self, name: str) -> Json:
        """A node of the cluster; `Failed` if it has none of this name."""
        self.ask(f"/api/v1/nodes/{name}")
        return self._read(name)

    @contextmanager
    def change(self, name: str) -> Iterator[Json]:
        """Change what is kept of a node; nobody else does meanwhile."""
        with (self._nodes / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            node = self._read(name)
            yield node
            draft = self._nodes / f".{name}"
            draft.write_text(json.dumps(node))
            draft.rename(self._nodes / f"{name}.json")

    def _read(self, name: str) -> Json:
        try:
            node: Json = json.loads((self._nodes / f"{name}.json").read_text())
        except FileNotFoundError:
            raise Failed(f'Error from server (NotFound): nodes "{name}" not found') from None
        return node

    def shown(self, name: str) -> Json:
        """A node as the server shows it, as far as anybody here looks at it."""
        node = self._read(name)
        ready = answers(node["address"])
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "spec": {"unschedulable": True} if node["unschedulable"] else {},
            "status": {
                "addresses": [{"type": "InternalIP", "address": node["address"]}],
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True" if ready else "Unknown",
                        "reason": "KubeletReady" if ready else "NodeStatusUnknown",
                    }
                ],
            },
        }


def answers(address: str) -> bool:
    """Whether kubelet listens there."""
    try:
        socket.create_connection((address, KUBELET), timeout=1).close()
    except OSError:
        return False
    return True


def get(api: Api, options: argparse.Namespace) -> None:
    """kubectl get node [NAME] --output=json"""
    api.ask()
    if options.kind not in ("node", "nodes", "no") or options.output != "json":
        raise Failed("error: the lab's stand-in gets nodes only, as JSON only")
    if options.name:
        api.node(options.name)
        print(json.dumps(api.shown(options.name), indent=4))
    else:
        items = [api.shown(name) for name in api.names()]
        print(json.dumps({"apiVersion": "v1", "items": items, "kind": "List"}, indent=4))


def cordon(api: Api, options: argparse.Namespace, wanted: bool = True) -> None:
    """kubectl cordon NAME. A change that fails is told, with exit status 0, as by the original."""
    name, verb = options.name, "cordon" if wanted else "uncordon"
    if api.node(name)["unschedulable"] == wanted:
        print(f"node/{name} already {verb}ed")
        return
    try:
        api.ask(f"/api/v1/nodes/{name}")
        with api.change(name) as node:
            node["unschedulable"] = wanted
    except Failed as error:
        print(f'error: unable to {verb} node "{name}": {error}', file=sys.stderr)
        return
    print(f"node/{name} {verb}ed")


def drain(api: Api, options: argparse.Namespace) -> None:
    """kubectl drain NAME: evict its pods, in the time that they have."""
    name = options.name
    deadline = time.monotonic() + options.timeout if options.timeout else float("inf")
    cordon(api, options)
    api.ask("/api/v1/pods")
    pods = api.node(name).get("pods", [])
    bare = [f"default/{pod['name']}" for pod in pods if pod.get("bare")]
    if bare and not options.force:
        why = (
            "cannot delete Pods that declare no controller (use --force to override): "
            f"{', '.join(bare)}"
        )
        unable(name, why)
    for pod in pods:
        # the original evicts all at once; here nobody looks at the order
        if not evicted(api, pod, deadline):
            why = (
                f'error when evicting pods/"{pod["name"]}" -n "default": global timeout reached: '
                f"{options.timeout:g}s"
            )
            print(f'There are pending pods in node "{name}" when an error occurred: {why}',
                  f"pod/{pod['name']}", sep="\n", file=sys.stderr)  # fmt: skip
            unable(name, why)
    print(f"node/{name} drained")


def evicted(api: Api, pod: Json, deadline: float) -> bool:
    """Evict a pod and wait until it is gone; whether that was in time."""
    while True:
        print(f"evicting pod default/{pod['name']}", flush=True)
        api.ask("/api/v1/namespaces/default/pods/eviction")
        if not pod.get("budget"):
            break
        print(
            f'error when evicting pods/"{pod["name"]}" -n "default" (will retry after 5s): Cannot '
            "evict pod as it would violate the pod's disruption budget.",
            file=sys.stderr,
        )
        left = deadline - time.monotonic()
        time.sleep(max(0, min(5, left)))
        if left <= 5:
            return False
    ends = time.monotonic() + pod.get("seconds", 0)
    time.sleep(max(0, min(ends, deadline) - time.monotonic()))
    if ends > deadline:
        return False
    print(f"pod/{pod['name']} evicted")
    return True


def unable(name: str, why: str) -> NoReturn:
    """End as a drain that failed does."""
    lines = (
        f'error: unable to drain node "{name}" due to error:{why}, continuing command...',
        "There are pending nodes to be drained:",
        f" {name}",
    )
    print(*lines, sep="\n", file=sys.stderr)
    raise Failed(why if why.startswith("error") else f"error: {why}")


def seconds(text: str) -> float:
    """Read a duration of Go's with one unit: 10s, 5m; "0" is none."""
    match = re.fullmatch(r"(\d+)(s|m|h)|0", text)
    if not match:
        raise argparse.ArgumentTypeError(f"invalid duration {text}")
    return int(match[1] or 0) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


class Parser(argparse.ArgumentParser):
    """Ends as the original does."""

    def error(self, message: str) -> NoReturn:
        raise Failed(f"error: {message}\nSee 'kubectl --help' for usage.")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = Parser(prog="kubectl", description=__doc__, allow_abbrev=False)
    top.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG", ""))
    top.add_argument("--request-timeout", type=seconds, default=0)
    commands = top.add_subparsers(required=True, parser_class=Parser)
    show = commands.add_parser("get", allow_abbrev=False)
    show.add_argument("kind")
    show.add_argument("name", nargs="?")
    show.add_argument("--output", "-o")
    show.set_defaults(does=get)
    for verb, does in (("cordon", cordon), ("uncordon", uncordon), ("drain", drain)):
        command = commands.add_parser(verb, allow_abbrev=False)
        command.add_argument("name")
        command.set_defaults(does=does)
        if verb == "drain":
            command.add_argument("--ignore-daemonsets", action="store_true")
            command.add_argument("--delete-emptydir-data", action="store_true")
            command.add_argument("--force", action="store_true")
            command.add_argument("--timeout", type=seconds, default=0)
    return top


def uncordon(api: Api, options: argparse.Namespace) -> None:
    """kubectl uncordon NAME"""
    cordon(api, options, wanted=False)


def main(words: Sequence[str]) -> int:
    """Do what the words say; record that it was asked for and how it ended."""
    began, status = time.time(), 1
    record(began=began, words=list(words))
    try:
        options = parser().parse_args(words)
        # without a limit the original waits for a connection for 30 seconds
        options.does(Api(options.kubeconfig, options.request_timeout or 30), options)
        status = 0
    except Failed as error:
        print(error, file=sys.stderr)
    finally:
        record(began=began, words=list(words), ended=time.time(), status=status)
    return status


def record(**call: Any) -> None:
    """Add a line to the calls; one write, so that no other's is in it."""
    with (Path(os.environ["LAB_KUBERNETES"]) / "calls").open("ab", buffering=0) as calls:
        calls.write(json.dumps(call).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
