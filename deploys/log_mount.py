"""``/var/log`` on a Gluster volume of the node's own."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.site import NodesSettings, StorageSettings
from chaos_engine.facts.observe import warn
from chaos_engine.facts.share import CONFINED, FLAGS, TARGET, UNCONFINED
from chaos_engine.operations import apt
from chaos_engine.operations.arguments import HostName, MemorySize, VolumeName
from chaos_engine.operations.files import File
from chaos_engine.operations.log_mount import CHECKED, HELPER, SERVICE, mount
from chaos_engine.templates import render


class LogVolume(BaseModel):
    """A node's Gluster volume, and who serves it: the first is asked first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    volume: VolumeName
    servers: tuple[HostName, ...] = Field(min_length=1)


class LogMountSettings(NodesSettings, StorageSettings):
    """Settings of `log_mount`."""

    log_store: Literal["gluster", "ram"] = Field(
        "gluster",
        description="what /var/log is on: gluster, a volume of the storage servers, or ram, where "
        "it is lost at each boot",
    )
    log_ram_size: MemorySize = Field(
        "16M",
        description="most RAM that /var/log may take, while it is there, with a suffix K, M or G",
    )
    log_volumes: dict[HostName, LogVolume] = Field(
        {},
        description="Gluster volume and servers of each node by its name, as "
        '{"pi1": {"volume": "pi1", "servers": ["etcd1", "etcd2"]}}; if it is empty, a node\'s '
        "volume has the node's name, and all chaos_storage_servers serve it, another one first "
        "for each node",
    )

    @model_validator(mode="after")
    def _volumes_fit(self) -> Self:
        owners: dict[str, str] = {}
        for node, entry in self.log_volumes.items():
            where = f"chaos_log_volumes[{node!r}]"
            if node not in self.nodes:
                raise ValueError(f"{where}: {node} is not in chaos_nodes; add its address there")
            if entry.volume in owners:
                raise ValueError(
                    f"{where}: {entry.volume} is the volume of {owners[entry.volume]} too; give "
                    "each node its own, their logs would mix"
                )
            owners[entry.volume] = node
            for server in entry.servers:
                if server not in self.storage_servers:
                    raise ValueError(
                        f"{where}: {server} is not in chaos_storage_servers; add its address there"
                    )
                if entry.servers.count(server) > 1:
                    raise ValueError(f"{where}: {server} is there twice; name each server once")
        return self


@concern("Log share", LogMountSettings)
def log_mount(settings: LogMountSettings) -> None:
    """Mount the node's Gluster volume on ``/var/log``, so that logs spare the card, or RAM.

    While storage is away, RAM stands in, too. Others write the volume too: no program on it is one
    (``nosuid,nodev,noexec``), and what root does there follows no link. It is a service, since a
    mount unit or a line in ``/etc/fstab`` would make the early boot wait for the network, and make
    ordering cycles where NetworkManager runs.
    """
    share = None if settings.log_store == "ram" else volume_of(settings, settings.node_name())
    if share is not None and len(share.servers) == 1:
        warn(
            f"only {share.servers[0]} serves the Gluster volume {share.volume}: while it is away, "
            "logs stay in RAM; name another server in "
            f"chaos_{'log_volumes' if settings.log_volumes else 'storage_servers'}"
        )
    if share is not None:
        apt.packages(name="Install the Gluster client", present={"glusterfs-client": None})
    mount(
        name="Mount the log share" if share else "Put /var/log into RAM",
        volume=share.volume if share else "",
        ram_size=settings.log_ram_size,
        wanted=[
            File(
                HELPER,
                render(
                    "var-log-mount.j2",
                    volume=share.volume if share else "",
                    servers=share.servers if share else (),
                    ram_size=settings.log_ram_size,
                    target=TARGET,
                    run="/run/chaos-engine",
                    mounts="/proc/self/mountinfo",
                    path="/usr/sbin:/usr/bin:/sbin:/bin",
                    flags=",".join(FLAGS),
                    confined=CONFINED,
                    checked=CHECKED,
                    management_port=24007,
                    unconfined=UNCONFINED,
                ),
                mode="755",
            ),
            File(SERVICE, render("var-log.service.j2", volume=share.volume if share else "")),
            File(
                "/etc/systemd/system/var-log.mount.d/50-chaos-engine.conf",
                render("var-log.mount.conf.j2"),
            ),
            *(
                File(f"/etc/systemd/system/{name}", render(f"{name}.j2"))
                for name in ("var-log-check.service", "var-log-check.timer")
            ),
        ],
    )


def volume_of(settings: LogMountSettings, name: str) -> LogVolume:
    """The volume of the node that the cluster knows by `name`.

    Raises `SettingsError` if it has none.
    """
    if settings.log_volumes:
        if name in settings.log_volumes:
            return settings.log_volumes[name]
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
    first = list(settings.nodes).index(name) % len(servers)
    return LogVolume(volume=name, servers=servers[first:] + servers[:first])
