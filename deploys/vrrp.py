"""Choose by VRRP which one of several proxies owns the Kubernetes API's address."""

from __future__ import annotations

from collections.abc import Iterator

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.macvlan_network import MacvlanNetworkSettings
from chaos_engine.deploys.proxy_group import ProxyNode, check_proxy_group, proxies
from chaos_engine.facts.haproxy import RUN as HAPROXY_RUN
from chaos_engine.facts.haproxy import SEVERAL
from chaos_engine.facts.observe import LOCK, Read, observe
from chaos_engine.facts.vrrp import (
    CAN_TAKE_OVER,
    CONFIG,
    INDEX_SEEN,
    PERL,
    RUN,
    VRRP_RUNS,
    AddressOwner,
    Ownership,
)
from chaos_engine.operations import apt
from chaos_engine.operations.files import File
from chaos_engine.operations.macvlan_network import CONTAINER, SERVICE
from chaos_engine.operations.vrrp import PROGRAM, UNDO, UNIT_FILE, remove_vrrp, run_vrrp
from chaos_engine.templates import render


class VrrpSettings(MacvlanNetworkSettings):
    """Settings of `vrrp`."""


def _reads(settings: VrrpSettings) -> list[Read]:
    """Return what `verify` and `report` read to find the owner of the API's address.

    The list has one read of `AddressOwner`. It is empty if there is only one proxy.
    """
    members = proxies(settings.nodes, settings.lan_subnet)
    name = settings.node_name()
    return [
        Read.of(
            AddressOwner,
            interface=settings.parent_interface,
            address=str(one.address),
            vip=str(settings.vip),
            number=settings.vrrp_number,
            milliseconds=settings.vrrp_interval,
            marker=str(settings.marker),
        )
        for one in members
        if one.name == name
    ]


def ownership(settings: VrrpSettings) -> Ownership | None:
    """Return what the current proxy knows about the owner of the API's address.

    Returns ``None`` if there is only one proxy, or if the node does not start keepalived at boot.
    """
    for read in _reads(settings):
        found: Ownership | None = observe(AddressOwner, **dict(read.arguments))
        return found
    return None


def owner(settings: VrrpSettings) -> str:
    """Return the name of the proxy that owns the API's address.

    The name is the one that the proxy has in the cluster. Returns "" if the current proxy does not
    know the owner, or if there is only one proxy.
    """
    found = ownership(settings)
    if found is None:
        return ""
    if found.here:
        return settings.node_name()
    members = proxies(settings.nodes, settings.lan_subnet)
    names = [one.name for one in members if str(one.address) in found.senders]
    return names[0] if len(names) == 1 else ""


def _problems(settings: VrrpSettings) -> list[str]:
    found = ownership(settings)
    return [] if found is None else list(ownership_problems(found, str(settings.vip)))


def ownership_problems(found: Ownership, vip: str) -> Iterator[str]:
    """Yield a message if no machine or more than one machine has the API's address.

    Also yields a message if the proxy cannot tell which machines have the address. This is a pure
    function.

    + found: what a proxy knows about the owner of the address
    + vip: the API's address
    """
    if found.others is None:
        yield (
            f"this node cannot ask the LAN which machine has {vip}; look whether its network "
            "interface is up: ip -brief link"
        )
        return
    if found.here and found.others:
        yield (
            f"this proxy has {vip}, but ARP requests for {vip} are also answered by "
            f"{found.others} other machine{'s' * (found.others > 1)} on the LAN; look at: "
            "journalctl -u haproxy_vrrp on all proxies"
        )
    elif found.others > 1:
        yield (
            f"{found.others} machines on the LAN answer ARP requests for {vip}, but only one "
            "machine may have it; look at: journalctl -u haproxy_vrrp on all proxies"
        )
    elif not found.here and not found.others:
        yield (
            f"no machine on the LAN answers ARP requests for {vip}; look at: journalctl -u "
            "haproxy_vrrp -u docker_haproxy on all proxies"
        )


def _says(settings: VrrpSettings) -> str:
    name = owner(settings)
    if not name:
        return ""
    if name == settings.node_name():
        return f"this proxy has {settings.vip}"
    return f"{name} has {settings.vip}, and this proxy can take it over"


@concern(
    "VRRP",
    VrrpSettings,
    health=[VRRP_RUNS, CAN_TAKE_OVER],
    reads=_reads,
    problems=_problems,
    says=_says,
    undo=UNDO,
)
def vrrp(settings: VrrpSettings) -> None:
    """Choose which one of several proxies owns the Kubernetes API's address.

    keepalived runs on each proxy. The proxies choose the owner by VRRP. VRRP needs neither etcd nor
    the Kubernetes API. If the owner fails, another proxy becomes the owner. The start script
    of the concern `haproxy` gives the address to the owner's HAProxy container.

    If the inventory has only one proxy, this concern installs nothing. It removes files that an
    earlier run has written for several proxies. The package keepalived stays installed.
    """
    check_proxy_group()
    members = proxies(settings.nodes, settings.lan_subnet)
    if not members:
        remove_vrrp(name="Remove VRRP")
        return
    apt.install_packages(name="Install keepalived", present={"keepalived": None})
    name = settings.node_name()
    run_vrrp(
        name="Choose the owner of the API's address",
        wanted=vrrp_files(settings, members, name),
        interface=settings.parent_interface,
        number=settings.vrrp_number,
        peers=[str(one.address) for one in members if one.name != name],
    )


def vrrp_files(settings: VrrpSettings, members: tuple[ProxyNode, ...], name: str) -> list[File]:
    """Return keepalived's configuration, the script that runs keepalived, and the systemd unit.

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
        "script": SEVERAL,
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
        index_seen=INDEX_SEEN,
        haproxy=SERVICE,
        container=CONTAINER,
        lock=LOCK,
        perl=PERL,
    )
    unit = render("haproxy_vrrp.service.j2", vip=settings.vip, program=PROGRAM)
    return [File(CONFIG, config), File(PROGRAM, program, mode="755"), File(UNIT_FILE, unit)]
