"""Run HAProxy in front of the Kubernetes controllers, at its own IP address."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from pydantic import Field, field_validator

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.macvlan_network import MacvlanNetworkSettings
from chaos_engine.deploys.proxy_group import ProxyNode, check_proxy_group, proxies
from chaos_engine.deploys.site import ControllersSettings
from chaos_engine.deploys.values import PlainFolder
from chaos_engine.facts.haproxy import ADDRESS_ANSWERS, RUN, SCRIPT, SEVERAL
from chaos_engine.facts.share import CONFINED, TARGET, on_share
from chaos_engine.facts.vrrp import INDEX_SEEN, VRRP
from chaos_engine.operations.engine.arguments import ImageName, LinkName, MacAddress
from chaos_engine.operations.files import File
from chaos_engine.operations.haproxy import Proxy, publish_copy, pull_image, run_haproxy, sealed
from chaos_engine.operations.haproxy.container import CHECKSUM, CONFIG, OWN, PEERS, UNDO, UNIT_FILE
from chaos_engine.operations.macvlan_network import CONTAINER, add_hairpin_link
from chaos_engine.templates import render

API_PORT = 6443
"""TCP port of a controller's kube-apiserver (kubeadm's default)."""


class HaproxySettings(MacvlanNetworkSettings, ControllersSettings):
    """Settings of `haproxy`."""

    vip_mac: MacAddress | None = Field(
        None,
        description="unicast, locally administered MAC address of the proxy's HAProxy container, "
        "such as 02:42:ac:8f:4c:ff; if not set, it is derived from chaos_vip",
    )
    hairpin_link: LinkName = Field(
        "lb-hairpin",
        description="name of the network link through which the proxy's node reaches its own "
        "HAProxy container, at most 15 characters",
    )
    haproxy_image: ImageName = Field(
        "haproxy:3.0",
        description="image of HAProxy with a tag, a digest such as haproxy@sha256:..., or both; "
        "only a node that lacks the image pulls it. A digest takes precedence over the tag. The "
        "image must have HAProxy 2.6 or newer and the files of the official image",
    )
    haproxy_dir: PlainFolder = Field(
        "/var/log/haproxy",
        description="folder on the node for a copy of HAProxy's configuration, for people to read",
    )
    haproxy_run_dir: PlainFolder = Field(
        "/var/log/haproxy/run",
        description="path of a symbolic link on the node; the link leads to the folder with "
        "HAProxy's admin socket",
    )

    @field_validator("vip_mac", mode="before")
    @classmethod
    def _in_lower_case(cls, address: object) -> object:
        """Convert a text to lower case. Return a value of another type unchanged."""
        return address.lower() if isinstance(address, str) else address

    def conflicts(self) -> Iterator[str]:
        """Yield a line for each conflict between the proxy's settings."""
        yield from super().conflicts()
        first = int(self.mac[:2], 16)
        if first & 1 or not first & 2:
            yield (
                f"chaos_vip_mac: {self.mac} is not a unicast, locally administered address; its "
                f"second digit has to be 2, 6, a or e, as in {first & 0xFC | 2:02x}{self.mac[2:]}"
            )
        if self.hairpin_link == self.parent_interface:
            yield (
                f"chaos_hairpin_link: {self.hairpin_link} is the name of chaos_parent_interface "
                "too; choose another name"
            )
        if f"{self.haproxy_dir}/".startswith(f"{self.haproxy_run_dir}/"):
            yield (
                f"chaos_haproxy_run_dir: {self.haproxy_run_dir} becomes a symbolic link, so "
                f"chaos_haproxy_dir, {self.haproxy_dir}, cannot be in it; choose another folder"
            )
        if not self.controllers:
            yield (
                "chaos_controllers is empty, so HAProxy would have no API server to forward to; "
                "add the controllers' names"
            )

    @property
    def mac(self) -> str:
        """Return the MAC address of the proxy's container, in lower case."""
        if self.vip_mac:
            return self.vip_mac
        # Docker made MAC addresses in this way until version 28
        return "02:42:" + ":".join(f"{octet:02x}" for octet in self.vip.packed)

    def servers(self, proxy: str) -> dict[str, IPv4Address]:
        """Return the address at which a single proxy's container reaches each controller, by name.

        + proxy: the name of the node that runs the container

        macvlan does not connect a container with the parent interface of the container's own node.
        If the proxy's node is a controller too, the container reaches it at the address of the
        hairpin link.
        """
        return {
            name: self.hairpin_address if name == proxy else self.nodes[name]
            for name in self.controllers
        }

    def servers_of_several(self) -> dict[str, IPv4Address]:
        """Return each controller's address for the containers of several proxies, by node name.

        With several proxies, the containers are on Docker's default bridge. From this bridge, a
        container reaches all nodes, also its own node.
        """
        return {name: self.nodes[name] for name in self.controllers}


@concern("HAProxy", HaproxySettings, health=[ADDRESS_ANSWERS], undo=UNDO)
def haproxy(settings: HaproxySettings) -> None:
    """Run HAProxy on its own IP address, and spread requests over the controllers' API servers.

    HAProxy requests ``/readyz`` from each controller. If a controller fails, HAProxy closes all
    connections to that controller. All other connections stay open. A change of the configuration
    closes no connection.

    With several proxies, keepalived chooses the proxy that owns the address (concern `vrrp`). The
    container of each proxy is then on Docker's default bridge. The start script gives each
    container two macvlan links. The link ``api`` has the address, and is up only on the owner. The
    link ``drain`` serves connections that are still open after the address has moved to another
    proxy.

    HAProxy works without the log share, because its configuration is on the node's own disk. By
    default, the log share has a copy of the configuration, for people to read.
    """
    check_proxy_group()
    api = {"vip": settings.vip, "port": settings.vip_port}
    name = settings.node_name()
    members = proxies(settings.nodes, settings.lan_subnet)
    controllers = settings.servers_of_several() if members else settings.servers(name)
    config = sealed(render("haproxy.cfg.j2", **api, controllers=controllers, api_port=API_PORT))
    add_hairpin_link(
        name="Reach the proxy from its own node",
        link=settings.hairpin_link,
        parent=settings.parent_interface,
        address=settings.hairpin_address,
        vip=settings.vip,
        script=start_script(settings),
    )
    copy = File(f"{settings.haproxy_dir}/{CONFIG}", config)
    sockets = settings.haproxy_run_dir
    pull_image(name="Pull HAProxy's image", image=settings.haproxy_image)
    run_haproxy(
        name="Run HAProxy",
        proxy=Proxy(
            image=settings.haproxy_image,
            network=settings.macvlan_network,
            parent=settings.parent_interface,
            vip=settings.vip,
            mac=settings.mac,
            several=bool(members),
            sockets=None if on_share(sockets) else sockets,
        ),
        wanted=[
            *haproxy_files(settings, members, name, config),
            *([] if on_share(copy.path) else [copy]),
        ],
    )
    if on_share(copy.path) or on_share(sockets):
        publish_copy(
            name="Copy HAProxy's configuration to the log share",
            config=copy if on_share(copy.path) else None,
            link=sockets if on_share(sockets) else None,
        )


def haproxy_files(
    settings: HaproxySettings, members: tuple[ProxyNode, ...], name: str, config: str
) -> list[File]:
    """Return the files that HAProxy's container needs, in the order in which they are written.

    A run may be interrupted between two of them. Until the next run, the container has to start all
    the same, for example at a boot.

    + members: all proxies; empty if there is only one
    + name: the name of the current node in the cluster
    + config: HAProxy's configuration
    """
    unit = render(
        "docker_haproxy.service.j2",
        vip=settings.vip,
        port=settings.vip_port,
        container=CONTAINER,
        several=bool(members),
        vrrp=VRRP,
    )
    own = next((one for one in members if one.name == name), None)
    of_several: list[File] = []
    if own:
        of_several = [
            File(SEVERAL, start_script(settings, own), mode="755"),
            File(f"{OWN}/{PEERS}", peers(members, name)),
        ]
    return [
        # The scripts start HAProxy only with the configuration in this file
        File(f"{OWN}/{CONFIG}", config),
        File(SCRIPT, start_script(settings), mode="755"),
        *of_several,
        # The unit names one of the scripts
        File(UNIT_FILE, unit),
    ]


def start_script(settings: HaproxySettings, own: ProxyNode | None = None) -> str:
    """Return the script that runs HAProxy's container and creates the hairpin link.

    + own: the current node if there are several proxies, ``None`` if it is the only one
    """
    return render(
        "haproxy_start.sh.j2",
        path="/usr/sbin:/usr/bin:/sbin:/bin",
        container=CONTAINER,
        image=settings.haproxy_image,
        network=settings.macvlan_network,
        vip=settings.vip,
        port=settings.vip_port,
        mac=settings.mac,
        parent=settings.parent_interface,
        link=settings.hairpin_link,
        hairpin=settings.hairpin_address,
        log=TARGET,
        run_directory=settings.haproxy_run_dir,
        own=OWN,
        checksum=CHECKSUM,
        confined=CONFINED,
        run=RUN,
        conf="/proc/sys/net/ipv4/conf",
        several=own is not None,
        **(links(settings, own) if own else {}),
    )


def links(settings: HaproxySettings, own: ProxyNode) -> dict[str, object]:
    """Return the values of the start script's template that only several proxies need.

    + own: the current node
    """
    return {
        "node": own.address,
        "index_seen": INDEX_SEEN,
        "namespace": CONTAINER,
        "drain_mac": drain_mac(settings.hairpin_address),
        "drain_address": drain_address(settings.hairpin_address),
        "subnet": settings.lan_subnet,
        "prefix": settings.lan_subnet.prefixlen,
        "gateway": settings.lan_gateway,
        "marker": settings.marker,
        "vrrp": VRRP,
        # The owner waits this many times 50 ms for another proxy: 4 intervals and 3 s. Another
        # proxy takes over after 3 to 4 intervals, once it knows that its own HAProxy answers
        "tries": (4 * settings.vrrp_interval + 3000) // 50,
    }


def peers(members: tuple[ProxyNode, ...], name: str) -> str:
    """Return one line with the IP and MAC addresses of the other proxies' links ``drain``.

    + members: all proxies
    + name: the name of the current node in the cluster

    The start script reads this line from a file at each call. So the script stays the same, and
    HAProxy keeps running, when another proxy is added or removed.
    """
    others = [one.hairpin for one in members if one.name != name]
    return " ".join(f"{drain_address(one)}={drain_mac(one)}" for one in others) + "\n"


def drain_mac(hairpin: IPv4Address) -> str:
    """Return the MAC address of a proxy's link ``drain``.

    + hairpin: the proxy's hairpin address

    The result is 06:42, followed by the four bytes of the hairpin address. The first bytes differ
    from Docker's: MAC addresses that Docker makes from IP addresses begin with 02:42.
    """
    return "06:42:" + ":".join(f"{octet:02x}" for octet in hairpin.packed)


def drain_address(hairpin: IPv4Address) -> IPv4Address:
    """Return the IP address of a proxy's link ``drain``.

    + hairpin: the proxy's hairpin address

    The returned address is link-local (RFC 3927). No router forwards packets to such an address,
    and the user does not have to set it.
    """
    return IPv4Address(bytes((169, 254, *hairpin.packed[2:])))
