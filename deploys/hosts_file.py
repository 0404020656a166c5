"""Write the names of the cluster's machines into ``/etc/hosts``."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from pydantic import model_validator
from typing_extensions import Self

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import (
    CloudInitSettings,
    EndpointSettings,
    NodesSettings,
    StorageSettings,
    ipv4,
)
from chaos_engine.facts.observe import current
from chaos_engine.operations.engine.arguments import DomainName, fits
from chaos_engine.operations.hosts_file import UNDO, write_hosts_block


class HostsFileSettings(NodesSettings, StorageSettings, EndpointSettings, CloudInitSettings):
    """Settings of `hosts_file`."""

    @model_validator(mode="after")
    def _names_have_one_address(self) -> Self:
        for name in self.nodes.keys() & self.storage_servers.keys():
            if self.nodes[name] != self.storage_servers[name]:
                raise ValueError(
                    f"chaos_storage_servers: {name} is {self.storage_servers[name]}, but "
                    f"{self.nodes[name]} in chaos_nodes; give it one address"
                )
        machines = {**self.storage_servers, **self.nodes}
        if self.vip is not None:
            if self.vip_name in machines:
                raise ValueError(
                    f"chaos_vip_name: {self.vip_name} is a machine's name already; choose another"
                )
            for name, address in machines.items():
                if address == self.vip:
                    raise ValueError(
                        f"chaos_vip: {address} is the address of {name}; choose one that no "
                        "machine has"
                    )
        return self


@concern("Hosts file", HostsFileSettings, undo=UNDO)
def hosts_file(settings: HostsFileSettings) -> None:
    """Let the nodes know each other, the storage servers and the Kubernetes API by name.

    ``/etc/hosts`` gets a marked block. The rest of the file stays as it is.
    """
    host = current()[1]
    others = ((other.name, other.data.get("ssh_hostname")) for other in host.inventory)
    write_hosts_block(
        name="Name the cluster's machines",
        addresses=addresses(settings, others),
        rewritten=not settings.removes_cloud_init,
    )


def addresses(
    settings: HostsFileSettings, others: Iterable[tuple[str, object]] = ()
) -> dict[str, str]:
    """Return the address of each name: a pure function.

    + others: name and ``ssh_hostname`` of each host of the inventory. A host that the settings do
      not have is added if its ``ssh_hostname`` is an IPv4 address
    """
    found: dict[str, IPv4Address] = {**settings.nodes, **settings.storage_servers}
    if settings.vip is not None:
        found[settings.vip_name] = settings.vip
    for name, ssh_hostname in others:
        address = ipv4(ssh_hostname)
        known = name in found or name.partition(".")[0] in found or address in found.values()
        if address and not known and ipv4(name) is None and fits(DomainName, name):
            found[name] = address
    return {name: str(address) for name, address in found.items()}
