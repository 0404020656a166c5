"""Read Docker's networks and their containers, from what `docker.DockerNetworks` prints."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from chaos_engine.facts.observe import Value


@dataclass(frozen=True)
class DockerNetwork(Value):
    """A Docker network.

    + driver: "macvlan", "bridge"
    + parent: its parent interface, "" for none
    + mode: of a macvlan network, "bridge" by default; "" of other networks
    + subnets, gateways, ip_ranges: IPv4 and IPv6. A range is the part of a subnet from which
      containers get their addresses
    + containers: IPv4 addresses of its containers, by name. A container that does not run has "":
      it belongs to the network, and cannot be started again once the network is recreated
    + macs: MAC addresses of its running containers, by name
    + auxiliary: addresses that Docker gives to no container, by the names that the user gave them
    + options: of the driver, with parent and mode
    + labels, internal, ipv6: as it was created
    + config_only: whether it is only a configuration for other networks, so that none of its
      addresses are in use (https://docs.docker.com/reference/cli/docker/network/create/)
    + pool: the address space that its addresses are from. Networks of the same pool must not
      overlap. A swarm's networks have a pool of their own, and so has each address driver
      (libnetwork's ``ipam``, its address spaces)
    """

    driver: str
    parent: str
    mode: str
    subnets: tuple[str, ...]
    gateways: tuple[str, ...] = ()
    ip_ranges: tuple[str, ...] = ()
    containers: dict[str, str] = field(default_factory=dict)
    macs: dict[str, str] = field(default_factory=dict)
    auxiliary: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    internal: bool = False
    ipv6: bool = False
    config_only: bool = False
    pool: str = "local default"


def parse_networks(lines: list[str]) -> dict[str, DockerNetwork] | None:
    """Read a JSON object for each network, then ``["CONTAINER","NETWORK,NETWORK"]`` for each
    container; or ``null`` if Docker does not answer."""
    found = [json.loads(line) for line in lines if line]
    if None in found:
        return None
    networks = {one["Name"]: _network(one) for one in found if isinstance(one, dict)}
    members: dict[str, dict[str, str]] = {name: {} for name in networks}
    for container, names in (one for one in found if isinstance(one, list)):
        for name in names.split(","):
            if name in members:
                members[name][container] = ""
    return {
        # inspect lists the running containers, with their addresses
        name: replace(network, containers={**members[name], **network.containers})
        for name, network in networks.items()
    }


def _network(found: dict[str, Any]) -> DockerNetwork:
    options: dict[str, str] = found.get("Options") or {}
    pools = (found.get("IPAM") or {}).get("Config") or []

    def each(key: str) -> tuple[str, ...]:
        return tuple(pool[key] for pool in pools if pool.get(key))

    return DockerNetwork(
        driver=found["Driver"],
        parent=options.get("parent", ""),
        # https://docs.docker.com/engine/network/drivers/macvlan/#options
        mode=options.get("macvlan_mode") or ("bridge" if found["Driver"] == "macvlan" else ""),
        subnets=each("Subnet"),
        gateways=each("Gateway"),
        ip_ranges=each("IPRange"),
        containers={
            container["Name"]: container.get("IPv4Address", "").partition("/")[0]
            for container in (found.get("Containers") or {}).values()
        },
        macs={
            container["Name"]: container.get("MacAddress", "")
            for container in (found.get("Containers") or {}).values()
        },
        auxiliary={
            name: address
            for pool in pools
            for name, address in (pool.get("AuxiliaryAddresses") or {}).items()
        },
        options=options,
        labels=found.get("Labels") or {},
        internal=found.get("Internal", False),
        ipv6=found.get("EnableIPv6", False),
        config_only=found.get("ConfigOnly", False),
        pool=f"{found.get('Scope', 'local')} {(found.get('IPAM') or {}).get('Driver', 'default')}",
    )
