"""Create the Docker network that gives the proxy's HAProxy container its own address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field
from typing_extensions import Self, override

from chaos_engine.deploys import site
from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.proxy_group import check_proxy_group, several_proxies
from chaos_engine.deploys.values import MachineAddress, MachineAddressOrNone
from chaos_engine.operations.engine.arguments import DockerName
from chaos_engine.operations.macvlan_network import Macvlan, create_network


class MacvlanNetworkSettings(
    site.NodesSettings, site.ProxiesSettings, site.StorageSettings, site.LanSettings
):
    """Settings of `macvlan_network`."""

    vip: MachineAddress = Field(
        description="address of the Kubernetes API; the proxy's HAProxy container has this address"
    )
    hairpin_address: MachineAddress = Field(
        description="unused address outside the router's DHCP range, for the network link through "
        "which the proxy's node reaches its own HAProxy container"
    )
    log_server: MachineAddressOrNone = Field(  # type: ignore[assignment]
        "none", description=site.LOG_SERVER
    )
    macvlan_network: DockerName = Field(
        "lb-network",
        description="name of the Docker network of the proxy's HAProxy container",
    )

    @classmethod
    @override
    def resolve(cls, given: Mapping[str, Any] | None = None, by: str = "") -> Self:
        """Return the current host's settings.

        Raises `SettingsError` if the host is not a proxy. The function checks the host's group
        before the settings. A host that is not a proxy usually lacks the settings of proxies, and
        an error about missing settings would mislead the user.
        """
        check_proxy_group()
        return super().resolve(given, by)

    @property
    def network(self) -> Macvlan:
        """Return the Docker network that these settings describe."""
        return Macvlan(
            name=self.macvlan_network,
            parent=self.parent_interface,
            subnet=self.lan_subnet,
            gateway=self.lan_gateway,
            vip=self.vip,
            hairpin=self.hairpin_address,
        )

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each address that is outside the LAN or already in use."""
        yield from super().conflicts()
        own = {"chaos_vip": self.vip, "chaos_hairpin_address": self.hairpin_address}
        for key, address in {**own, "chaos_lan_gateway": self.lan_gateway}.items():
            if address not in self.lan_subnet:
                yield (
                    f"{key}: {address} is not in chaos_lan_subnet {self.lan_subnet}; correct the "
                    "address or the subnet"
                )
        machines = [*self.nodes.items(), *self.storage_servers.items()]
        owners = [
            ("the subnet's own address", self.lan_subnet.network_address),
            ("the subnet's broadcast address", self.lan_subnet.broadcast_address),
            ("chaos_lan_gateway", self.lan_gateway),
            ("chaos_log_server", self.log_server),
            *((f"the address of {name}", address) for name, address in machines),
        ]
        for key, address in own.items():
            for owner, owned in owners:
                if address == owned:
                    yield f"{key}: {address} is {owner}; choose an unused address"
        if self.vip == self.hairpin_address:
            yield (
                f"chaos_vip: {self.vip} is the value of chaos_hairpin_address too; choose an "
                "unused address"
            )


@concern("Proxy network", MacvlanNetworkSettings)
def macvlan_network(settings: MacvlanNetworkSettings) -> None:
    """Create a macvlan network in Docker, so that the proxy's container has an address on the LAN.

    The parent interface must be wired and up, and must not be in a bridge.
    """
    check_proxy_group()
    create_network(
        name="Create the proxy's network",
        wanted=settings.network,
        # In the role `proxy`, an operation of the concern `haproxy` follows
        last=type(settings) is MacvlanNetworkSettings,
        several=several_proxies(),
    )
