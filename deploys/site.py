"""Settings that several concerns share, such as addresses of machines and versions of programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Literal

from pydantic import Field

from chaos_engine.deploys import values
from chaos_engine.deploys.settings import Settings, SettingsError
from chaos_engine.deploys.values import MachineAddress
from chaos_engine.facts.observe import current
from chaos_engine.operations.engine.arguments import HostName, LinkName, LogSize, Version

LOG_SERVER = (
    "address of the syslog server that gets all logs of the nodes; the word none for no server: "
    "then only the journal in RAM has logs, the most recent ones"
)


class NodesSettings(Settings):
    """Settings about the nodes of the cluster."""

    nodes: dict[HostName, MachineAddress] = Field(
        {}, description="address of each node by its name, as the nodes shall know each other"
    )

    def conflicts(self) -> Iterator[str]:
        """Say which nodes have the same address."""
        yield from super().conflicts()
        seen: dict[IPv4Address, str] = {}
        for name, address in self.nodes.items():
            if address in seen:
                yield (
                    f"chaos_nodes: {name} and {seen[address]} have the same address {address}; "
                    "give each node its own"
                )
            seen[address] = name

    def node_name(self) -> str:
        """Return the current host's name in the cluster, see the function `node_name`."""
        host = current()[1]
        return node_name(host.name, host.data.get("ssh_hostname"), self.nodes)


def node_name(name: str, ssh_hostname: object, nodes: Mapping[str, IPv4Address]) -> str:
    """Return the name that a host of the inventory has in the cluster.

    + name: the host's name in the inventory
    + ssh_hostname: the host's address in the inventory, ``None`` for none
    + nodes: address of each node by its name in the cluster

    A host's label is the part of `name` before the first dot, "" if `name` is an address. The
    function returns the label if `nodes` has it. If not, it returns the name of the node with the
    host's address, and without such a node the label all the same. Raises `SettingsError` if
    `nodes` is not empty and has neither label nor address, and `ssh_hostname` is no IPv4 address.
    """
    addresses = [a for a in (ipv4(name), ipv4(ssh_hostname)) if a]
    # pyinfra names the hosts of connectors other than ssh @connector/name
    label = "" if ipv4(name) else name.rpartition("/")[2].partition(".")[0]
    if label in nodes or (label and not nodes):
        return label
    for known, address in nodes.items():
        if address in addresses:
            return known
    if nodes and not ipv4(ssh_hostname):
        raise SettingsError(
            f"{name}: chaos_nodes has no address for it; add "
            f"{f'{label!r}: its address' if label else f'a name for {name}'} to chaos_nodes in "
            "group_data/all.py, or take it out of inventory.py"
        )
    return label


def ipv4(text: object) -> IPv4Address | None:
    """Return a text as an IPv4 address, ``None`` for any other text."""
    try:
        return IPv4Address(str(text))
    except AddressValueError:
        return None


class StorageSettings(Settings):
    """Settings about the Gluster servers that keep the nodes' logs."""

    storage_servers: dict[HostName, MachineAddress] = Field(
        {}, description="address of each Gluster server by its name; nothing is deployed to them"
    )


class LogServerSettings(Settings):
    """Settings about the syslog server."""

    log_server: values.MachineAddressOrNone = Field(description=LOG_SERVER)


class CloudInitSettings(Settings):
    """Settings about cloud-init, which may rewrite files of the system at each boot."""

    @property
    def removes_cloud_init(self) -> bool:
        """Tell whether the same run removes cloud-init. `PackagesSettings` may."""
        return False


class ControllersSettings(NodesSettings):
    """Settings about the Kubernetes controllers."""

    controllers: tuple[HostName, ...] = Field(
        (), description="names of the nodes that are Kubernetes controllers, all in chaos_nodes"
    )

    def conflicts(self) -> Iterator[str]:
        """Say which controllers are no nodes, and whether one is named twice."""
        yield from super().conflicts()
        for name in self.controllers:
            if name not in self.nodes:
                yield f"chaos_controllers: {name} is not in chaos_nodes; add its address there"
        if len(set(self.controllers)) < len(self.controllers):
            yield "chaos_controllers: a name is there twice; name each controller once"


class EndpointSettings(Settings):
    """Settings about the address of the Kubernetes API, which the proxy owns."""

    vip: MachineAddress | None = Field(
        None, description="address of the Kubernetes API, owned by the proxy's HAProxy container"
    )
    vip_name: HostName = Field("k8s", description="name of the Kubernetes API's address")
    vip_port: values.Number = Field(
        6443, ge=1, le=65535, description="TCP port of the Kubernetes API"
    )


class LanSettings(Settings):
    """Settings about the network that the nodes are on."""

    lan_subnet: values.Network = Field(description="subnet of the nodes' LAN, as 192.168.1.0/24")
    lan_gateway: MachineAddress = Field(description="address of the LAN's router")
    parent_interface: LinkName = Field(
        "eth0",
        description="wired network interface of the proxy's node that the macvlan links are on, "
        "at most 15 characters",
    )


class EtcdSettings(Settings):
    """Settings about the external etcd of the Kubernetes API."""

    etcd_certificates_hosts: Literal["controllers", "all", "none"] = Field(
        "controllers",
        description="which nodes get etcd's client certificate and its key: controllers, whose API "
        "servers read them; all, although root of a node with the key can read and change the "
        "whole cluster; or none, if there is no external etcd and kubeadm runs its own",
    )
    etcd_certificates_dir: values.LastingFolder = Field(
        "/etc/kubernetes",
        description="folder on the node that gets client.crt, client.key and ca.crt of etcd",
    )

    @property
    def etcd_pod_dir(self) -> str:
        """Return the folder from which kubeadm takes etcd's certificates and key.

        kubeadm mounts this folder into the API server's pod (``getEtcdCertVolumes`` in kubeadm's
        phases/controlplane/volumes.go). With /etc/kubernetes, the pod would also see admin.conf. So
        if ``chaos_etcd_certificates_dir`` is /etc/kubernetes, kubeadm takes copies of the files
        from the folder etcd below it.
        """
        folder = self.etcd_certificates_dir
        return f"{folder}/etcd" if folder == "/etc/kubernetes" else folder


class ContainerLogSettings(Settings):
    """Settings about the logs of containers, which Docker rotates and kubelet must not."""

    docker_log_max_size: LogSize = Field(
        "10m",
        description="size at which the log file of a container is rotated, with a suffix k, m or "
        "g; for containers that are created from then on",
    )


class VersionsSettings(Settings):
    """Versions that have to be compatible with each other."""

    kubernetes_version: Version = Field(
        "1.36.2", description="version of kubelet, kubeadm and kubectl, without the leading v"
    )
    cri_dockerd_version: Version = Field("0.4.3", description="version of cri-dockerd")
