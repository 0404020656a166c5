"""Make one node the proxy, which has the address of the Kubernetes API."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.haproxy import HaproxySettings, haproxy
from chaos_engine.deploys.macvlan_network import macvlan_network


class ProxySettings(HaproxySettings):
    """Settings of the role `proxy`, which are the settings of all concerns that the role calls."""


CONCERNS = (macvlan_network, haproxy)
"""The concerns that `proxy` calls, in order."""


@concern("Proxy", ProxySettings)
def proxy(settings: ProxySettings) -> None:
    """Make a work node the proxy too. Call the role `worker` first, because it installs Docker.

    Raises `SettingsError` if the host is not the only host in the inventory's group ``proxy``.
    """
    macvlan_network(settings)
    haproxy(settings)
