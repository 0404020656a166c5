"""Settings that several concerns share, such as addresses of machines and versions of programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Literal

from pydantic import Field, field_validator

from chaos_engine.deploys import values
from chaos_engine.deploys.settings import Settings, SettingsError
from chaos_engine.deploys.values import MachineAddress
from chaos_engine.facts.observe import current
from chaos_engine.operations.engine.arguments import HostName, LinkName, LogSize, Version

LOG_SERVER = (
    "address of the syslog server that receives the logs of all nodes; the word none if there is "
    "no such server. Without a server, a node keeps only its most recent logs, in RAM"
)


class NodesSettings(Settings):
    """Settings about the nodes of the cluster."""

    nodes: dict[HostName, MachineAddress] = Field(
        {}, description="name and address of each node; every node gets all of them in /etc/hosts"
    )

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each address that two nodes have."""
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
        """Return the current host's name in the cluster.

        The docstring of this module's function `node_name` has the rules.
        """
        host = current()[1]
        return node_name(host.name, host.data.get("ssh_hostname"), self.nodes)


def node_name(name: str, ssh_hostname: object, nodes: Mapping[str, IPv4Address]) -> str:
    """Return the name that a host of the inventory has in the cluster.

    + name: the host's name in the inventory
    + ssh_hostname: the host's address in the inventory, ``None`` if the inventory has none
    + nodes: address of each node by its name in the cluster

    The host's label is the part of `name` before the first dot, or "" if `name` is an IPv4
    address. The function returns the first of these that applies:

    - the label, if the label is a name in `nodes`
    - the name in `nodes` whose address is `ssh_hostname` or `name`
    - the label, if `nodes` is empty or `ssh_hostname` is an IPv4 address

    Raises `SettingsError` if none of these applies.
    """
    addresses = [a for a in (ipv4(name), ipv4(ssh_hostname)) if a]
    # If pyinfra uses another connector than ssh, the host's name is @connector/name
    label = "" if ipv4(name) else name.rpartition("/")[2].partition(".")[0]
    if label in nodes or (label and not nodes):
        return label
    for known, address in nodes.items():
        if address in addresses:
            return known
    if nodes and not ipv4(ssh_hostname):
        entry = f"{label!r} with its address" if label else f"a name with the address {name}"
        raise SettingsError(
            f"{name}: this host is not in chaos_nodes; add {entry} to chaos_nodes in "
            "group_data/all.py, or remove the host from inventory.py"
        )
    return label


def node_address(
    name: str, ssh_hostname: object, nodes: Mapping[str, IPv4Address]
) -> IPv4Address | None:
    """Return the address in the settings of a host of the inventory, ``None`` if there is none.

    + name, ssh_hostname, nodes: as `node_name` takes them
    """
    try:
        return nodes.get(node_name(name, ssh_hostname, nodes))
    except SettingsError:
        return None


def ipv4(text: object) -> IPv4Address | None:
    """Convert a value to an IPv4 address. Return ``None`` if the value is not one."""
    try:
        return IPv4Address(str(text))
    except AddressValueError:
        return None


class StorageSettings(Settings):
    """Settings about the Gluster servers that store the nodes' logs."""

    storage_servers: dict[HostName, MachineAddress] = Field(
        {}, description="name and address of each Gluster server; no deploy changes these servers"
    )


class LogServerSettings(Settings):
    """Settings about the syslog server."""

    log_server: values.MachineAddressOrNone = Field(description=LOG_SERVER)


class CloudInitSettings(Settings):
    """Settings about cloud-init, which may rewrite files of the system at each boot."""

    @property
    def removes_cloud_init(self) -> bool:
        """Tell whether the run removes cloud-init.

        The value is ``False`` here; `PackagesSettings` overrides the property.
        """
        return False


class ControllersSettings(NodesSettings):
    """Settings about the Kubernetes controllers."""

    controllers: tuple[HostName, ...] = Field(
        (), description="names of the Kubernetes controllers; each has to be a name in chaos_nodes"
    )

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each controller not in `nodes`, and one if any name is repeated."""
        yield from super().conflicts()
        for name in self.controllers:
            if name not in self.nodes:
                yield f"chaos_controllers: {name} is not in chaos_nodes; add its address there"
        if len(set(self.controllers)) < len(self.controllers):
            yield "chaos_controllers: a name is listed twice; list each controller once"


class EndpointSettings(Settings):
    """Settings about the Kubernetes API's address. The proxy has this address."""

    vip: MachineAddress | None = Field(
        None,
        description="address of the Kubernetes API; the proxy's HAProxy container has this address",
    )
    vip_name: HostName = Field("k8s", description="host name for the Kubernetes API's address")
    vip_port: values.Number = Field(
        6443, ge=1, le=65535, description="TCP port of the Kubernetes API"
    )


MARKER = IPv4Address("127.60.0.60")
"""An address on ``lo`` that marks the proxy that keepalived has chosen as owner.

keepalived adds this address to the owner and removes it from other proxies. HAProxy's start script
looks for it. All addresses in 127.0.0.0/8 belong to the node itself, so this address has no other
effect. No setting changes this address. Otherwise, keepalived and the start script could use
different addresses in the middle of a run, and no proxy would have the API's address."""


class ProxiesSettings(EndpointSettings):
    """Settings about several proxies, one of which owns the Kubernetes API's address."""

    vrrp_interval: values.Number = Field(
        100,
        ge=50,
        le=1000,
        multiple_of=10,
        description="used with several proxies: milliseconds between two VRRP adverts, from 50 to "
        "1000, in steps of 10. The owner of the API's address sends these adverts to show that it "
        "is alive. If no advert arrives for about 3.6 intervals, another proxy takes the address",
    )
    vrrp_id: values.Number | None = Field(
        None,
        ge=1,
        le=255,
        description="used with several proxies: VRRP's virtual router ID for the API's address, "
        "from 1 to 255; no other VRRP router on the LAN may use this ID. If not set, the ID is the "
        "last part of chaos_vip, such as 60 for 192.168.1.60",
    )

    @property
    def marker(self) -> IPv4Address:
        """Return `MARKER`."""
        return MARKER

    @property
    def vrrp_number(self) -> int:
        """Return VRRP's virtual router ID for the API's address, from 1 to 255."""
        return self.vrrp_id or (self.vip.packed[3] if self.vip else 0) or 1


class LanSettings(Settings):
    """Settings about the nodes' local network."""

    lan_subnet: values.Network = Field(
        description="subnet of the nodes' LAN, such as 192.168.1.0/24"
    )
    lan_gateway: MachineAddress = Field(description="address of the LAN's router")
    parent_interface: LinkName = Field(
        "eth0",
        description="wired network interface of the proxy, on which the macvlan links are created; "
        "at most 15 characters",
    )


class EtcdSettings(Settings):
    """Settings about the external etcd of the Kubernetes API."""

    etcd_certificates_hosts: Literal["controllers", "all", "none"] = Field(
        "controllers",
        description="which nodes get etcd's client certificate and key: controllers, all or none. "
        "The API servers on the controllers need both files. With all, root of any node can read "
        "and change the whole cluster. The value none is for clusters without an external etcd, "
        "where kubeadm runs its own etcd",
    )
    etcd_certificates_dir: values.LastingFolder = Field(
        "/etc/kubernetes",
        description="folder on the node for etcd's client.crt, client.key and ca.crt",
    )

    @property
    def etcd_pod_dir(self) -> str:
        """Return the folder from which kubeadm takes etcd's certificates and key.

        kubeadm mounts this folder into the API server's pod (``getEtcdCertVolumes`` in kubeadm's
        phases/controlplane/volumes.go). The pod must not see /etc/kubernetes/admin.conf. So if
        ``chaos_etcd_certificates_dir`` is /etc/kubernetes, this function returns
        /etc/kubernetes/etcd, which has copies of the files. Otherwise it returns
        ``chaos_etcd_certificates_dir``.
        """
        folder = self.etcd_certificates_dir
        return f"{folder}/etcd" if folder == "/etc/kubernetes" else folder


class ContainerLogSettings(Settings):
    """Settings about the logs of containers. Docker rotates these logs; kubelet must not."""

    docker_log_max_size: LogSize = Field(
        "256k",
        description="size at which Docker rotates a container's log file, with a suffix k, m or g; "
        "kubectl logs shows no more than this size times chaos_docker_log_max_file. If files are "
        "small, less is written to the card, because Docker removes many files before the kernel "
        "writes them. Existing containers keep the old size",
    )


class DockerDataSettings(Settings):
    """Settings about the folder of Docker's data."""

    docker_data_root: values.LastingFolder | None = Field(
        None,
        description="absolute path of the folder for Docker's images, containers and their logs; "
        "if not set, Docker keeps its present folder on the node. A folder on a USB disk or SSD "
        "moves Docker's writes off the SD card. At boot, Docker waits for such a disk. Docker does "
        "not start without it",
    )

    @field_validator("docker_data_root")
    @classmethod
    def _not_with_the_logs(cls, folder: str | None) -> str | None:
        """Refuse a folder below ``/var/log``, where the log share is mounted."""
        if folder and f"{folder}/".startswith("/var/log/"):
            raise ValueError("/var/log is the log share; Docker cannot store its images there")
        return folder


class VersionsSettings(Settings):
    """Settings about the versions of programs that have to be compatible with each other."""

    kubernetes_version: Version = Field(
        "1.36.2", description="version of kubelet, kubeadm and kubectl, without a leading v"
    )
    cri_dockerd_version: Version = Field("0.4.3", description="version of cri-dockerd")
