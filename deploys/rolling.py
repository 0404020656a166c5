"""Settings of the concerns that restart nodes of a cluster, one after the other."""

from __future__ import annotations

import shutil
import socket
from functools import cache
from urllib.parse import urlsplit

import gevent  # type: ignore[import-untyped]
import yaml
from pydantic import Field

from chaos_engine.deploys.settings import SettingsError, local_path, read_setting
from chaos_engine.deploys.site import ControllersSettings, EndpointSettings
from chaos_engine.deploys.values import LocalFileOrNone, Number
from chaos_engine.facts.observe import current
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.gate import Lane
from chaos_engine.operations.rolling.kubectl import PROGRAM, Kubectl

RESOLVE_SECONDS = 5
"""How long this computer's name servers have to answer; after that a name counts as unknown."""


class RollingSettings(ControllersSettings, EndpointSettings):
    """Settings of every concern that restarts nodes of a cluster, or their services."""

    rolling_batch: Number = Field(
        1,
        ge=1,
        le=100,
        description="how many nodes that have joined a cluster may be down at the same time, the "
        "same for all hosts; controllers and the proxy always go one by one",
    )
    kubeconfig: LocalFileOrNone = Field(
        "",
        description="path on this computer of a kubeconfig that may cordon and drain nodes; if "
        "empty, nodes that have joined a cluster are not drained",
    )
    drain_timeout: Number = Field(
        300, ge=1, le=86400, description="seconds that the pods of a node may take to leave it"
    )

    def rolling(self) -> Rolling:
        """Return how the current host has to wait for its turn, and how it is drained.

        Raises `SettingsError` if the kubeconfig or kubectl is missing, or the kubeconfig is wrong.
        """
        host = current()[1]
        # node_name() refuses a host that chaos_nodes lacks. Without controllers and kubeconfig,
        # nothing needs the name
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
        )

    def _kubectl(self) -> Kubectl:
        """Return how to call kubectl. Raise `SettingsError` if it or the kubeconfig is unusable."""
        key, path = f"{current()[1].name}: chaos_kubeconfig", local_path(self.kubeconfig)
        admin = "/etc/kubernetes/admin.conf"
        fix = f"copy {admin} of a controller to there, for yourself only (chmod 600)"
        try:
            name, port = kubeconfig_server(read_setting(key, path, fix))
        except ValueError as error:
            raise SettingsError(f"{key}: {path} is no kubeconfig: {error}; {fix}") from None
        if shutil.which(PROGRAM) is None:
            raise SettingsError(
                f"{key} is set, and this computer has no {PROGRAM}: install it "
                "(kubernetes.io/docs/tasks/tools), or leave chaos_kubeconfig empty"
            )
        if is_known(name):
            return Kubectl(str(path))
        if name == self.vip_name and self.vip is not None:
            # kubeadm writes this name into the kubeconfig. The address serves as well: the API's
            # certificate has it too
            return Kubectl(str(path), server=f"https://{self.vip}:{port}")
        raise SettingsError(
            f"{key}: {path} names the server {name}, and this computer knows no address of that "
            f"name; put the address of the API into the file's line server:, or a line with {name} "
            "into this computer's /etc/hosts"
        )


def kubeconfig_server(data: bytes) -> tuple[str, int]:
    """Return the host and port of the API server of a kubeconfig's current context.

    Raises ``ValueError`` with the reason if the kubeconfig names no such server.
    """
    try:
        config = yaml.safe_load(data)
        contexts = {one["name"]: one["context"]["cluster"] for one in config["contexts"]}
        clusters = {one["name"]: one["cluster"]["server"] for one in config["clusters"]}
        server = urlsplit(clusters[contexts[config["current-context"]]])
    except yaml.YAMLError:
        raise ValueError("it is no YAML") from None
    except (LookupError, TypeError, AttributeError, ValueError):
        raise ValueError("it has no current-context with a cluster and its server") from None
    try:
        host, port = server.hostname, server.port or 443
    except ValueError:
        host = None
    if not host:
        raise ValueError("its server is no address")
    return host, port


@cache
def is_known(name: str) -> bool:
    """Tell whether this computer finds the address of a name. `name` may be an address itself."""
    try:
        with gevent.Timeout(RESOLVE_SECONDS):
            socket.getaddrinfo(name, None)
    except (OSError, UnicodeError, gevent.Timeout):
        return False
    return True
