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
from chaos_engine.facts.share import CONFINED, FLAGS, NFS, PATTERN, TARGET, UNCONFINED, UPPERMOST
from chaos_engine.operations import apt
from chaos_engine.operations.engine.arguments import ExportPath, HostName, MemorySize, VolumeName
from chaos_engine.operations.files import File
from chaos_engine.operations.log_mount import CHECKED, HELPER, SERVICE, UNDO, mount_log_share
from chaos_engine.templates import render

Store = Literal["gluster", "nfs", "ram"]
PORTS = {"gluster": 24007, "nfs": 2049}
"""TCP port of the servers, by the kind of log share."""


class LogVolume(BaseModel):
    """A node's Gluster volume. The `servers` are in the order in which the node tries them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    volume: VolumeName
    servers: tuple[HostName, ...] = Field(min_length=1)


class LogMountSettings(NodesSettings, StorageSettings):
    """Settings of `log_mount`."""

    log_store: Store = Field(
        "gluster",
        description="what is mounted on /var/log: gluster for a volume of the storage servers, nfs "
        "for a folder of an NFS server, or ram, which loses all logs at each boot",
    )
    log_ram_size: MemorySize = Field(
        "16M",
        description="largest size of /var/log while it is in RAM, with a suffix K, M or G",
    )
    log_volumes: dict[HostName, LogVolume] = Field(
        {},
        description="Gluster volume of each node, with the volume's servers, such as "
        '{"pi1": {"volume": "pi1", "servers": ["etcd1", "etcd2"]}}; if empty, each node\'s volume '
        "has the node's name, and all chaos_storage_servers serve all volumes. In that case, "
        "different nodes try different servers first",
    )
    log_nfs_servers: dict[HostName, MachineAddress] = Field(
        {},
        description="address of each NFS server, by the server's name; different nodes try "
        "different servers first. A node finds the same logs on all servers only if the servers "
        "share their disks. Nothing is deployed to these servers",
    )
    log_nfs_folder: ExportPath = Field(
        "/srv/log",
        description="folder on each NFS server; each node has a subfolder with the node's name",
    )

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each mistake in the NFS servers and in the Gluster volumes."""
        yield from super().conflicts()
        if self.log_store == "nfs" and not self.log_nfs_servers:
            yield (
                'chaos_log_nfs_servers is empty, but chaos_log_store is "nfs"; add the names and '
                "addresses of the NFS servers"
            )
        if self.log_nfs_servers and "log_store" not in self.model_fields_set:
            yield (
                "chaos_log_nfs_servers is set, but chaos_log_store is not set and defaults to "
                '"gluster"; set chaos_log_store to the kind of share that you want, such as "nfs"'
            )
        owners: dict[str, str] = {}
        for node, entry in self.log_volumes.items():
            where = f"chaos_log_volumes[{node!r}]"
            if node not in self.nodes:
                yield f"{where}: {node} is not in chaos_nodes; add the node's address there"
            if entry.volume in owners:
                yield (
                    f"{where}: {entry.volume} is the volume of {owners[entry.volume]} too, so "
                    "their logs would mix; give each node its own volume"
                )
            owners[entry.volume] = node
            for server in entry.servers:
                if server not in self.storage_servers:
                    yield (
                        f"{where}: {server} is not in chaos_storage_servers; add the server's "
                        "address there"
                    )
                if entry.servers.count(server) > 1:
                    yield f"{where}: {server} is in the list twice; list each server once"


@concern("Log share", LogMountSettings, health=[LOG_SHARE_WRITABLE], undo=UNDO)
def log_mount(settings: LogMountSettings) -> None:
    """Mount a log share or RAM on ``/var/log``, so that logs are not written to the SD card.

    The log share is the node's Gluster volume or NFS export. While no server of the share can be
    reached, RAM is mounted instead. Other machines can write to the log share. So the share is
    mounted with ``nosuid,nodev,noexec``, and root follows no link on the share.

    A systemd service mounts the share. A mount unit or a line in ``/etc/fstab`` would make the
    early boot wait for the network, and would cause ordering cycles where NetworkManager runs.
    """
    store = settings.log_store
    volume, servers = "", tuple[str, ...]()
    if store == "gluster":
        share = volume_of(settings, settings.node_name())
        volume, servers = share.volume, share.servers
        if len(servers) == 1:
            warn(
                f"{servers[0]} is the only server of the Gluster volume {volume}: while that "
                "server is away, logs stay in RAM; add another server to "
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
    """Return the script that mounts a log share or RAM, and the systemd units that call the script.

    + store: the kind of log share, or "ram"
    + volume: name of the Gluster volume, path of the NFS export, or "" for RAM
    + servers: names or addresses of the share's servers; empty for RAM
    + ram_size: largest size of ``/var/log`` in RAM, such as "16M"
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
        uppermost=UPPERMOST,
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
    """Return the path of a node's NFS export, and the addresses of the NFS servers.

    The addresses are in the order in which the node tries them.

    + name: the node's name in the cluster
    """
    servers = tuple(map(str, settings.log_nfs_servers.values()))
    return f"{settings.log_nfs_folder}/{name}", _own_first(settings, name, servers)


def _own_first(settings: LogMountSettings, name: str, servers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the servers in the order in which a node tries them.

    Different nodes try different servers first.

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
            f"{name}: chaos_log_volumes has no Gluster volume for this node, only for {known}; add "
            f'"{name}": {{"volume": ..., "servers": [...]}}'
        )
    if name not in settings.nodes:
        raise SettingsError(
            f"{name}: this node is not in chaos_nodes, so it has no Gluster volume; add the node's "
            "name and address to chaos_nodes"
        )
    servers = tuple(settings.storage_servers)
    if not servers:
        raise SettingsError(
            f"{name}: chaos_storage_servers is empty, so no server has the Gluster volume {name}; "
            "add the names and addresses of the Gluster servers"
        )
    return LogVolume(volume=name, servers=_own_first(settings, name, servers))
