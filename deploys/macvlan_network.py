"""Create the network on which the proxy's container has an address of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field
from typing_extensions import Self, override

from chaos_engine.deploys import site
from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.proxy_group import check_proxy_group
from chaos_engine.deploys.values import MachineAddress, MachineAddressOrNone
from chaos_engine.operations.engine.arguments import DockerName
from chaos_engine.operations.macvlan_network import Macvlan, create_network


class MacvlanNetworkSettings(
    site.NodesSettings, site.EndpointSettings, site.StorageSettings, site.LanSettings
):
    """Settings of `macvlan_network`."""

    vip: MachineAddress = Field(
        description="address of the Kubernetes API, owned by the proxy's HAProxy container"
    )
    hairpin_address: MachineAddress = Field(
        description="free address, outside of the router's DHCP range, for the link by which the "
        "proxy's node reaches its own container"
    )
    log_server: MachineAddressOrNone = Field(  # type: ignore[assignment]
        "none", description=site.LOG_SERVER
    )
    macvlan_network: DockerName = Field(
        "lb-network",
        description="name of the Docker network that the proxy's container is on",
    )

    @classmethod
    @override
    def resolve(cls, given: Mapping[str, Any] | None = None, by: str = "") -> Self:
        """Return the current host's settings.

        Raises `SettingsError` for a host that is not the proxy, before the settings are checked:
        such a host usually lacks the proxy's settings, and an error about these would mislead.
        """
        check_proxy_group()
        return super().resolve(given, by)

    @property
    def network(self) -> Macvlan:
        """Return the Docker network that these settings want."""
        return Macvlan(
            name=self.macvlan_network,
            parent=self.parent_interface,
            subnet=self.lan_subnet,
            gateway=self.lan_gateway,
            vip=self.vip,
            hairpin=self.hairpin_address,
        )

    def conflicts(self) -> Iterator[str]:
        """Say which addresses are outside of the LAN, and which are not free for the proxy."""
        yield from super().conflicts()
        own = {"chaos_vip": self.vip, "chaos_hairpin_address": self.hairpin_address}
        for key, address in {**own, "chaos_lan_gateway": self.lan_gateway}.items():
            if address not in self.lan_subnet:
                yield (
                    f"{key}: {address} is not in chaos_lan_subnet {self.lan_subnet}; correct the "
                    "one that is wrong"
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
                    yield f"{key}: {address} is {owner}; choose a free address"
        if self.vip == self.hairpin_address:
            yield f"chaos_vip: {self.vip} is chaos_hairpin_address; choose a free address"


@concern("Proxy network", MacvlanNetworkSettings)
def macvlan_network(settings: MacvlanNetworkSettings) -> None:
    """Create the Docker network that makes the proxy's container a machine of its own on the LAN.

    The parent interface has to be wired, up, and in no bridge.
    """
    check_proxy_group()
    create_network(
        name="Create the proxy's network",
        wanted=settings.network,
        # Not the last one in the role proxy, where `haproxy` comes after it
        last=type(settings) is MacvlanNetworkSettings,
    )
