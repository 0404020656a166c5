"""Have one of several proxies own the Kubernetes API's address, by VRRP."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.macvlan_network import MacvlanNetworkSettings
from chaos_engine.deploys.proxy_group import ProxyNode, check_proxy_group, proxies
from chaos_engine.facts.haproxy import RUN as HAPROXY_RUN
from chaos_engine.facts.haproxy import SCRIPT
from chaos_engine.facts.vrrp import RUN, VRRP_RUNS
from chaos_engine.operations import apt
from chaos_engine.operations.files import File
from chaos_engine.operations.vrrp import CONFIG, PROGRAM, UNDO, UNIT_FILE, remove_vrrp, run_vrrp
from chaos_engine.templates import render


class VrrpSettings(MacvlanNetworkSettings):
    """Settings of `vrrp`."""


@concern("VRRP", VrrpSettings, health=[VRRP_RUNS], undo=UNDO)
def vrrp(settings: VrrpSettings) -> None:
    """Have one of several proxies own the Kubernetes API's address, and the others take over.

    keepalived runs on each of several proxies. They choose the owner by VRRP, without etcd and
    without the Kubernetes API. The owner's HAProxy container gets the address from the script of
    the concern `haproxy`.

    If the inventory has only one proxy, nothing is installed. What an earlier run has written for
    several proxies is then removed, but the package keepalived stays.
    """
    check_proxy_group()
    members = proxies(settings.nodes, settings.lan_subnet)
    if not members:
        remove_vrrp(name="Remove VRRP")
        return
    apt.install_packages(name="Install keepalived", present={"keepalived": None})
    run_vrrp(
        name="Choose the owner of the API's address",
        wanted=vrrp_files(settings, members, settings.node_name()),
        interface=settings.parent_interface,
        number=settings.vrrp_number,
    )


def vrrp_files(settings: VrrpSettings, members: tuple[ProxyNode, ...], name: str) -> list[File]:
    """Return keepalived's configuration, the script that runs it, and its unit.

    + members: all proxies
    + name: the name of the current node in the cluster
    """
    (own,) = (one for one in members if one.name == name)
    shared = {
        "vip": settings.vip,
        "parent": settings.parent_interface,
        "number": settings.vrrp_number,
        "address": own.address,
        "marker": settings.marker,
        "script": SCRIPT,
    }
    config = render(
        "keepalived.conf.j2",
        **shared,
        name=name,
        down=f"{HAPROXY_RUN}/down",
        interval=f"{settings.vrrp_interval / 1000:.2f}",
        peers=[one.address for one in members if one.name != name],
    )
    program = render(
        "haproxy_vrrp.sh.j2",
        **shared,
        path="/usr/sbin:/usr/bin:/sbin:/bin",
        config=CONFIG,
        run=RUN,
        pid=f"{HAPROXY_RUN}/pid",
    )
    unit = render("haproxy_vrrp.service.j2", vip=settings.vip, program=PROGRAM)
    return [File(CONFIG, config), File(PROGRAM, program, mode="755"), File(UNIT_FILE, unit)]
