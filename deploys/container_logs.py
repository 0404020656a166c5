"""Delay writes of container logs and other unsynchronised data; some never reach the card."""

from __future__ import annotations

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import DockerDataSettings
from chaos_engine.deploys.values import Number
from chaos_engine.facts.container_logs import MOUNTED_AS_IN_FSTAB
from chaos_engine.operations import sysctl
from chaos_engine.operations.container_logs import UNDO, set_mount_options

INTERVAL_SECONDS = 60
"""The longest pause, in seconds, before the kernel looks for old data again."""


class ContainerLogsSettings(DockerDataSettings):
    """Settings of `container_logs`. Each is a switch of its own, and off by default."""

    container_logs_noatime: bool = Field(
        False,
        description="whether the file system of Docker's data, / by default, is mounted with "
        "noatime: reading a file then writes nothing. If False, the present option stays",
    )
    container_logs_lazytime: bool = Field(
        False,
        description="whether the file system of Docker's data is mounted with lazytime: the times "
        "of files are written with their other changes, or once a day. If False, the present "
        "option stays",
    )
    container_logs_commit: Number | None = Field(
        None,
        ge=5,
        le=3600,
        description="seconds between two commits of the journal of Docker's file system, 5 to 3600 "
        "(the kernel's default is 5), such as 600; if not set, nothing is changed. A power cut "
        "loses files that were made, renamed or removed in these seconds, unless a program has "
        "synchronised them",
    )
    container_logs_writeback: Number | None = Field(
        None,
        ge=30,
        le=3600,
        description="seconds that written data may stay in RAM before the kernel writes them to "
        "any disk of the node, or to an NFS log share, 30 to 3600 (the kernel's default is 35), "
        "such as 600; if not set, nothing is changed. A power cut loses what was written in these "
        "seconds, unless a program has synchronised it",
    )

    @property
    def mount_options(self) -> tuple[str, ...]:
        """Return the wanted options of the mount."""
        commit = self.container_logs_commit
        options = {
            "noatime": self.container_logs_noatime,
            "lazytime": self.container_logs_lazytime,
            f"commit={commit}": commit is not None,
        }
        return tuple(option for option, wanted in options.items() if wanted)


def sysctls(seconds: int) -> dict[str, str]:
    """Return the kernel parameters with which written data stay in RAM for at most some seconds.

    + seconds: at least 30

    The kernel wakes up every ``dirty_writeback_centisecs``, and then writes the data that are older
    than ``dirty_expire_centisecs`` (Documentation/admin-guide/sysctl/vm.rst). Data wait for at most
    the sum of both.
    """
    interval = min(INTERVAL_SECONDS, seconds // 6)
    return {
        "vm.dirty_expire_centisecs": str((seconds - interval) * 100),
        "vm.dirty_writeback_centisecs": str(interval * 100),
    }


@concern("Container logs", ContainerLogsSettings, health=[MOUNTED_AS_IN_FSTAB], undo=UNDO)
def container_logs(settings: ContainerLogsSettings) -> None:
    """Write container logs to the card later, so that most of them never reach it.

    Docker rotates a container's log, and removes the oldest file. If a file is removed before the
    kernel writes it, it costs the card nothing. So this concern lets the kernel write later: it
    sets mount options of the file system with Docker's data, and kernel parameters. Programs that
    synchronise their files are not affected.

    Each of its settings is a switch of its own. Without them the concern neither reads nor changes
    the node.
    """
    if options := settings.mount_options:
        set_mount_options(
            name="Mount the disk of Docker's data with options that spare it",
            options=options,
            data_root=settings.docker_data_root,
        )
    if settings.container_logs_writeback is not None:
        sysctl.set_kernel_parameters(
            name="Write data later",
            stem="container-logs",
            modules=(),
            sysctls=sysctls(settings.container_logs_writeback),
        )
