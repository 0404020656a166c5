"""Settings and functions that the deploys `init`, `join` and `forget` share."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

from typing_extensions import Self

from chaos_engine.deploys.kubernetes import KubernetesSettings
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.site import node_name
from chaos_engine.facts.observe import current


class MembershipSettings(RollingSettings):
    """Settings of every deploy that changes which nodes a cluster has."""

    def other_controllers(self, node: str) -> dict[str, str]:
        """Return the addresses of all controllers but one, by name."""
        return {name: str(self.nodes[name]) for name in self.controllers if name != node}

    def without_kubeconfig(self) -> Self:
        """Return these settings for a time when there is no cluster yet."""
        return self.model_copy(update={"kubeconfig": ""})


def api_endpoint(settings: KubernetesSettings) -> str:
    """Return host and port of the Kubernetes API, such as "k8s:6443".

    Raises `SettingsError` if the settings have neither a VIP nor a controller.
    """
    if settings.api_endpoint is None:
        raise SettingsError(
            f"{current()[1].name}: the Kubernetes API has no address, because neither chaos_vip "
            "nor chaos_controllers is set; set one of them in group_data/all.py"
        )
    return settings.api_endpoint


def hosts_of_run() -> list[str]:
    """Return the names of the hosts that the run is connected to, in the order of the inventory."""
    state = current()[0]
    return [one.name for one in state.inventory if one in state.activated_hosts]


def inventory_names(nodes: Mapping[str, IPv4Address]) -> dict[str, str]:
    """Return the name in the inventory of each node that the inventory has.

    + nodes: address of each node by its name in the cluster

    Hosts that are not in the run count too.
    """
    found: dict[str, str] = {}
    for host in current()[0].inventory:
        try:
            name = node_name(host.name, host.data.get("ssh_hostname"), nodes)
        except SettingsError:
            continue
        found.setdefault(name, host.name)
    return found
