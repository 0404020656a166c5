"""Write the names of the cluster's machines into ``/etc/hosts``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from weakref import WeakKeyDictionary

from pyinfra.api.inventory import Inventory

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import (
    CloudInitSettings,
    EndpointSettings,
    NodesSettings,
    StorageSettings,
    ipv4,
)
from chaos_engine.facts.observe import current
from chaos_engine.operations.engine.arguments import DomainName, is_valid
from chaos_engine.operations.hosts_file import UNDO, write_hosts_block


class HostsFileSettings(NodesSettings, EndpointSettings, StorageSettings, CloudInitSettings):
    """Settings of `hosts_file`."""

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each name with two addresses.

        Also yields a message for each machine that has the API's name or address.
        """
        yield from super().conflicts()
        for name, address in self.storage_servers.items():
            if self.nodes.get(name, address) != address:
                yield (
                    f"chaos_storage_servers: {name} has the address {address} here, but "
                    f"{self.nodes[name]} in chaos_nodes; set the same address in both"
                )
        machines = {**self.storage_servers, **self.nodes}
        if self.vip is not None and self.vip_name in machines:
            yield f"chaos_vip_name: {self.vip_name} is a machine's name; choose another name"
        for name, address in machines.items():
            if address == self.vip:
                yield (f"chaos_vip: {address} is the address of {name}; choose an unused address")


@concern("Hosts file", HostsFileSettings, undo=UNDO)
def hosts_file(settings: HostsFileSettings) -> None:
    """Write the addresses of the nodes, storage servers and Kubernetes API into ``/etc/hosts``.

    The lines are in a marked block. The rest of the file does not change.
    """
    write_hosts_block(
        name="Name the cluster's machines",
        addresses=addresses(settings, _inventory_addresses()),
        warn_of_cloud_init=not settings.removes_cloud_init,
    )


_known: WeakKeyDictionary[Inventory, tuple[tuple[str, object], ...]] = WeakKeyDictionary()
"""The cached result of `_inventory_addresses` for each inventory."""


def _inventory_addresses() -> tuple[tuple[str, object], ...]:
    """Return the name and the ``ssh_hostname`` of each host of the inventory."""
    inventory = current()[1].inventory
    if inventory not in _known:  # computed once: each host of the run needs the same addresses
        _known[inventory] = tuple((one.name, one.data.get("ssh_hostname")) for one in inventory)
    return _known[inventory]


def addresses(
    settings: HostsFileSettings, others: Iterable[tuple[str, object]] = ()
) -> dict[str, str]:
    """Return the addresses for ``/etc/hosts`` by name. This is a pure function.

    + settings: the nodes, the storage servers, and the name and address of the Kubernetes API
    + others: name and ``ssh_hostname`` of each host of the inventory. A host that the settings do
      not name is added if the ``ssh_hostname`` is an IPv4 address
    """
    found: dict[str, IPv4Address] = {**settings.nodes, **settings.storage_servers}
    if settings.vip is not None:
        found[settings.vip_name] = settings.vip
    for name, ssh_hostname in others:
        address = ipv4(ssh_hostname)
        known = name in found or name.partition(".")[0] in found or address in found.values()
        if address and not known and ipv4(name) is None and is_valid(DomainName, name):
            found[name] = address
    return {name: str(address) for name, address in found.items()}
