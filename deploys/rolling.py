"""Define the settings for restarting cluster nodes one after the other."""

from __future__ import annotations

import shutil
import socket
from functools import cache
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import gevent  # type: ignore[import-untyped]
import yaml
from pydantic import Field
from pyinfra.api.state import State

from chaos_engine.deploys.proxy_group import disagreement, several_proxies
from chaos_engine.deploys.settings import SettingsError, local_path, read_setting
from chaos_engine.deploys.site import ControllersSettings, EndpointSettings
from chaos_engine.deploys.values import LocalFileOrNone, Number
from chaos_engine.facts.observe import current
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.gate import Lane
from chaos_engine.operations.rolling.kubectl import PROGRAM, Kubectl

RESOLVE_SECONDS = 5
"""Seconds to wait for this computer's name servers. After that, a name counts as unknown."""


class RollingSettings(ControllersSettings, EndpointSettings):
    """Settings of every concern that restarts cluster nodes or services on them."""

    rolling_batch: Number = Field(
        1,
        ge=1,
        le=100,
        description="how many nodes of a cluster may be down at the same time; all hosts of a run "
        "must have the same value. Runs with different values wait for each other. Controllers and "
        "proxies are always restarted one at a time",
    )
    kubeconfig: LocalFileOrNone = Field(
        "",
        description="path of a kubeconfig on this computer. The kubeconfig's user needs the right "
        "to cordon and drain nodes, and to get, list, create and update leases of "
        "coordination.k8s.io in the namespace kube-system. If the path is empty, nodes are not "
        "drained, and several runs at once do not wait for each other",
    )
    drain_timeout: Number = Field(
        300, ge=1, le=86400, description="seconds to wait for the pods to leave a drained node"
    )

    def rolling(self) -> Rolling:
        """Return how to drain the current host, and which nodes may be down at the same time.

        Raises `SettingsError` if kubectl or the kubeconfig is missing, if the kubeconfig is wrong,
        or if another host of the run has another ``chaos_rolling_batch``.
        """
        state, host = current()
        known = _batches.setdefault(state, {})
        known[host.name] = self.rolling_batch
        batches = {one.name: known[one.name] for one in host.inventory if one.name in known}
        why = "all nodes of a run share their turns"
        if problem := disagreement("chaos_rolling_batch", batches, why):
            raise SettingsError(problem)
        # node_name() raises an error for a host that is not in chaos_nodes. So it is called only if
        # the name is needed
        node = self.node_name() if self.controllers or self.kubeconfig else ""
        lane: Lane = ""
        if "proxy" in host.groups:
            lane = "proxy"
        elif node in self.controllers:
            lane = "controller"
        others = {name: str(self.nodes[name]) for name in self.controllers if name != node}
        return Rolling(
            lane=lane,
            batch=self.rolling_batch,
            kubectl=self._kubectl() if self.kubeconfig else None,
            node=node,
            controllers=others if lane else {},
            controller=node in self.controllers,
            drain_seconds=self.drain_timeout,
            one_of_several=lane == "proxy" and several_proxies(),
        )

    def _kubectl(self) -> Kubectl:
        """Return the program kubectl, set up for the kubeconfig's cluster.

        Raises `SettingsError` if kubectl is missing or the kubeconfig is unusable.
        """
        key, path = f"{current()[1].name}: chaos_kubeconfig", local_path(self.kubeconfig)
        admin = "/etc/kubernetes/admin.conf"
        fix = f"copy {admin} from a controller to this path, and run chmod 600 on the copy"
        try:
            name, port = kubeconfig_server(read_setting(key, path, fix))
        except ValueError as error:
            raise SettingsError(f"{key}: {path} is not a kubeconfig: {error}; {fix}") from None
        if shutil.which(PROGRAM) is None:
            raise SettingsError(
                f"{key} is set, but this computer has no {PROGRAM}; install it as described at "
                "kubernetes.io/docs/tasks/tools, or do not set chaos_kubeconfig"
            )
        if is_known(name):
            return Kubectl(str(path))
        if name == self.vip_name and self.vip is not None:
            # kubeadm writes this name into the kubeconfig. kubectl can use the address instead,
            # because the API's certificate has the address too
            return Kubectl(str(path), server=f"https://{self.vip}:{port}")
        raise SettingsError(
            f"{key}: {path} names the server {name}, but this computer cannot resolve that name; "
            "in that file, replace the server's name with the API's address, or add the name to "
            "/etc/hosts on this computer"
        )


_batches: WeakKeyDictionary[State, dict[str, int]] = WeakKeyDictionary()
"""The ``chaos_rolling_batch`` of each host of a run, by the host's name, as far as it is known."""


def kubeconfig_server(data: bytes) -> tuple[str, int]:
    """Return the host and port of the API server of a kubeconfig's current context.

    Raises ``ValueError`` with the reason if this server cannot be read from the kubeconfig.
    """
    try:
        config = yaml.safe_load(data)
        contexts = {one["name"]: one["context"]["cluster"] for one in config["contexts"]}
        clusters = {one["name"]: one["cluster"]["server"] for one in config["clusters"]}
        server = urlsplit(clusters[contexts[config["current-context"]]])
    except yaml.YAMLError:
        raise ValueError("it is not YAML") from None
    except (LookupError, TypeError, AttributeError, ValueError):
        raise ValueError(
            "its current-context is missing, or has no cluster with a server"
        ) from None
    try:
        host, port = server.hostname, server.port or 443
    except ValueError:
        host = None
    if not host:
        raise ValueError("its server is not an address")
    return host, port


@cache
def is_known(name: str) -> bool:
    """Tell whether this computer can resolve a host name. An IP address counts as resolved."""
    try:
        with gevent.Timeout(RESOLVE_SECONDS):
            socket.getaddrinfo(name, None)
    except (OSError, UnicodeError, gevent.Timeout):
        return False
    return True
