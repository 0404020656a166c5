"""Make one node or several nodes proxies. One of them has the address of the Kubernetes API."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.haproxy import HaproxySettings, haproxy
from chaos_engine.deploys.macvlan_network import macvlan_network
from chaos_engine.deploys.proxy_group import several_proxies
from chaos_engine.deploys.vrrp import VrrpSettings, vrrp


class ProxySettings(HaproxySettings, VrrpSettings):
    """Settings of the role `proxy`, which are the settings of all concerns that the role calls."""


CONCERNS = (macvlan_network, vrrp, haproxy)
"""The concerns that `proxy` calls. With one proxy, `vrrp` is called last."""


@concern("Proxy", ProxySettings)
def proxy(settings: ProxySettings) -> None:
    """Make a work node a proxy too. Call the role `worker` first, because it installs Docker.

    Raises `SettingsError` if the host is not in the inventory's group ``proxy``.

    The order of the concerns matters. Two proxies must never have the API's address at the same
    time. A time in which no proxy has the address must be short.

    - With several proxies, keepalived is set up before HAProxy. keepalived waits until this node's
      HAProxy is ready, and then takes part in the choice of the address's owner. When a cluster
      gets a second proxy, the first proxy restarts its HAProxy container. The first proxy loses the
      address only during this restart, because keepalived is already set up.
    - With one proxy, HAProxy's container gets the address first, and keepalived is removed last.
      If the run is interrupted between these steps, the proxy still has the address.
    """
    macvlan_network(settings)
    if several_proxies():
        vrrp(settings)
    haproxy(settings)
    if not several_proxies():
        vrrp(settings)
