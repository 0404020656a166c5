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

    The order matters, so that the address is never on two proxies, and not for long on none:

    - With several proxies, keepalived is set up first, but it only starts to take part once this
      node's HAProxy is ready for that. So while a cluster gets a second proxy, the first one
      loses the address only for the restart of its container, and keepalived is there at once.
    - With one proxy, its container first gets the address for itself, and then keepalived is
      removed. So a run that ends in between leaves the address where it is.
    """
    macvlan_network(settings)
    if several_proxies():
        vrrp(settings)
    haproxy(settings)
    if not several_proxies():
        vrrp(settings)
