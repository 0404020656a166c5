"""Mount a Gluster volume, an NFS export or RAM on ``/var/log``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.site import NodesSettings, StorageSettings
from chaos_engine.deploys.values import MachineAddress
from chaos_engine.facts.log_mount import LOG_SHARE_WRITABLE
from chaos_engine.facts.observe import warn
from chaos_engine.facts.share import CONFINED, FLAGS, NFS, PATTERN, TARGET, UNCONFINED
from chaos_engine.operations import apt
from chaos_engine.operations.engine.arguments import ExportPath, HostName, MemorySize, VolumeName
from chaos_engine.operations.files import File
from chaos_engine.operations.log_mount import CHECKED, HELPER, SERVICE, UNDO, mount_log_share
from chaos_engine.templates import render

Store = Literal["gluster", "nfs", "ram"]
PORTS = {"gluster": 24007, "nfs": 2049}
"""TCP port of the servers of each kind of share."""


class LogVolume(BaseModel):
    """A node's Gluster volume, and its servers in the order in which the node asks them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    volume: VolumeName
    servers: tuple[HostName, ...] = Field(min_length=1)


class LogMountSettings(NodesSettings, StorageSettings):
    """Settings of `log_mount`."""

    log_store: Store = Field(
        "gluster",
        description="what /var/log is on: gluster (a volume of the storage servers), nfs (a folder "
        "of an NFS server) or ram (all logs are lost at each boot)",
    )
    log_ram_size: MemorySize = Field(
        "16M",
        description="most RAM that /var/log may take while it is in RAM, with a suffix K, M or G",
    )
    log_volumes: dict[HostName, LogVolume] = Field(
        {},
        description="Gluster volume and servers of each node by its name, as "
        '{"pi1": {"volume": "pi1", "servers": ["etcd1", "etcd2"]}}; if it is empty, a node\'s '
        "volume has the node's name, all chaos_storage_servers serve it, and each node asks a "
        "different one first",
    )
    log_nfs_servers: dict[HostName, MachineAddress] = Field(
        {},
        description="address of each NFS server by its name; each node asks a different one first, "
        "and finds the same logs on all of them only if they share their disks; nothing is "
        "deployed to them",
    )
    log_nfs_folder: ExportPath = Field(
        "/srv/log",
        description="folder on each NFS server; in it each node has a folder, with the node's name",
    )

    def conflicts(self) -> Iterator[str]:
        """Say which settings for NFS contradict ``log_store``, and which volumes are wrong."""
        yield from super().conflicts()
        if self.log_store == "nfs" and not self.log_nfs_servers:
            yield (
                "chaos_log_nfs_servers is empty, so nobody serves /var/log by NFS; name the "
                "servers there, with their addresses"
            )
        if self.log_nfs_servers and "log_store" not in self.model_fields_set:
            yield (
                "chaos_log_nfs_servers is set, but chaos_log_store is not, so it is gluster; "
                'set chaos_log_store to "nfs", or to what you want'
            )
        owners: dict[str, str] = {}
        for node, entry in self.log_volumes.items():
            where = f"chaos_log_volumes[{node!r}]"
            if node not in self.nodes:
                yield f"{where}: {node} is not in chaos_nodes; add its address there"
            if entry.volume in owners:
                yield (
                    f"{where}: {entry.volume} is the volume of {owners[entry.volume]} too; give "
                    "each node its own, their logs would mix"
                )
            owners[entry.volume] = node
            for server in entry.servers:
                if server not in self.storage_servers:
                    yield (
                        f"{where}: {server} is not in chaos_storage_servers; add its address there"
                    )
                if entry.servers.count(server) > 1:
                    yield f"{where}: {server} is there twice; name each server once"


@concern("Log share", LogMountSettings, health=[LOG_SHARE_WRITABLE], undo=UNDO)
def log_mount(settings: LogMountSettings) -> None:
    """Mount the node's Gluster volume or NFS export, or RAM, on ``/var/log``, to spare the card.

    While no storage server can be reached, RAM is mounted instead. Other machines can write to the
    log share. So it is mounted with ``nosuid,nodev,noexec``, and root follows no link on it.

    A service does the mounting. A mount unit or a line in ``/etc/fstab`` would make the early boot
    wait for the network, and would cause ordering cycles where NetworkManager runs.
    """
    store = settings.log_store
    volume, servers = "", tuple[str, ...]()
    if store == "gluster":
        share = volume_of(settings, settings.node_name())
        volume, servers = share.volume, share.servers
        if len(servers) == 1:
            warn(
                f"only {servers[0]} serves the Gluster volume {volume}: while it is away, "
                "logs stay in RAM; name another server in "
                f"chaos_{'log_volumes' if settings.log_volumes else 'storage_servers'}"
            )
        apt.install_packages(name="Install the Gluster client", present={"glusterfs-client": None})
    elif store == "nfs":
        volume, servers = export_of(settings, settings.node_name())
    mount_log_share(
        name="Put /var/log into RAM" if store == "ram" else "Mount the log share",
        volume=volume,
        ram_size=settings.log_ram_size,
        wanted=files_of(store, volume, servers, settings.log_ram_size),
    )


def files_of(store: Store, volume: str, servers: Iterable[str], ram_size: str) -> list[File]:
    """Return the script that mounts a share or RAM, and the units that call it.

    + store: what is mounted
    + volume: name of the Gluster volume, path of the NFS export, or "" for RAM
    + servers: names or addresses of the share's servers, none for RAM
    + ram_size: most RAM for ``/var/log``, as "16M"
    """
    words = {"gluster": f"Gluster volume {volume}", "nfs": f"NFS export {volume}", "ram": ""}[store]
    script = render(
        "var-log-mount.j2",
        store=store,
        words=words,
        share=f"/{volume}" if store == "gluster" else volume,
        servers=list(servers),
        share_port=PORTS.get(store, 0),
        ram_size=ram_size,
        target=TARGET,
        run="/run/chaos-engine",
        mounts="/proc/self/mountinfo",
        path="/usr/sbin:/usr/bin:/sbin:/bin",
        flags=",".join(FLAGS),
        confined=CONFINED,
        checked=CHECKED,
        nfs=NFS,
        shares=PATTERN,
        unconfined=UNCONFINED,
    )
    return [
        File(HELPER, script, mode="755"),
        File(SERVICE, render("var-log.service.j2", store=store, words=words)),
        File(
            "/etc/systemd/system/var-log.mount.d/50-chaos-engine.conf",
            render("var-log.mount.conf.j2"),
        ),
        *(
            File(f"/etc/systemd/system/{name}", render(f"{name}.j2"))
            for name in ("var-log-check.service", "var-log-check.timer")
        ),
    ]


def export_of(settings: LogMountSettings, name: str) -> tuple[str, tuple[str, ...]]:
    """Return the path of a node's NFS export, and the addresses of its servers.

    + name: the node's name in the cluster
    """
    servers = tuple(map(str, settings.log_nfs_servers.values()))
    return f"{settings.log_nfs_folder}/{name}", _own_first(settings, name, servers)


def _own_first(settings: LogMountSettings, name: str, servers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the servers in the order in which a node asks them. Nodes begin with different ones.

    + name: the node's name in the cluster
    """
    first = list(settings.nodes).index(name) % len(servers) if name in settings.nodes else 0
    return servers[first:] + servers[:first]


def volume_of(settings: LogMountSettings, name: str) -> LogVolume:
    """Return a node's Gluster volume.

    + name: the node's name in the cluster

    Raises `SettingsError` if the node has no volume.
    """
    if name in settings.log_volumes:
        return settings.log_volumes[name]
    if settings.log_volumes:
        known = ", ".join(settings.log_volumes)
        raise SettingsError(
            f"{name}: chaos_log_volumes has no Gluster volume for it, only for {known}; add "
            f'"{name}": {{"volume": ..., "servers": [...]}}'
        )
    if name not in settings.nodes:
        raise SettingsError(
            f"{name}: chaos_nodes does not have it, so it has no Gluster volume; add its name and "
            "address there, or its volume to chaos_log_volumes"
        )
    servers = tuple(settings.storage_servers)
    if not servers:
        raise SettingsError(
            f"{name}: chaos_storage_servers is empty, so nobody serves the Gluster volume {name}; "
            "name the Gluster servers there, with their addresses"
        )
    return LogVolume(volume=name, servers=_own_first(settings, name, servers))
