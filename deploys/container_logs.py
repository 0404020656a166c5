"""Let the kernel write files later, so that container logs deleted by then never reach the card."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import DockerDataSettings
from chaos_engine.deploys.values import Number
from chaos_engine.facts.container_logs import NOT_AS_IN_FSTAB, LostOptions
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.operations import sysctl
from chaos_engine.operations.container_logs import UNDO, set_mount_options

INTERVAL_SECONDS = 60
"""The longest pause, in seconds, before the kernel looks for old data again."""


class ContainerLogsSettings(DockerDataSettings):
    """Settings of `container_logs`. They are independent of each other, and off by default."""

    container_logs_noatime: bool = Field(
        False,
        description="whether the file system with Docker's data is mounted with noatime, so that "
        "reading a file writes nothing; if False, this mount option is not changed. By default "
        "Docker's data are on the root file system",
    )
    container_logs_lazytime: bool = Field(
        False,
        description="whether the file system with Docker's data is mounted with lazytime. New "
        "timestamps of a file then wait in RAM until the file changes in another way, but at most "
        "a day. If False, this mount option is not changed",
    )
    container_logs_commit: Number | None = Field(
        None,
        ge=5,
        le=3600,
        description="seconds between two commits of the ext4 journal on the file system with "
        "Docker's data, from 5 to 3600, such as 600 (the kernel's default is 5); if not set, this "
        "mount option is not changed. A power cut undoes the changes of these seconds, such as a "
        "new file or a new name; changes that a program has synchronised remain",
    )
    container_logs_writeback: Number | None = Field(
        None,
        ge=30,
        le=3600,
        description="how many seconds the kernel may keep new data in RAM before it writes them, "
        "from 30 to 3600, such as 600. The kernel's default is 35. If not set, the node's value is "
        "not changed. The value applies to all disks of the node and to an NFS log share. A power "
        "cut loses the data of these seconds; data that a program has synchronised remain",
    )

    @property
    def mount_options(self) -> tuple[str, ...]:
        """Return the mount options that the settings ask for."""
        commit = self.container_logs_commit
        options = {
            "noatime": self.container_logs_noatime,
            "lazytime": self.container_logs_lazytime,
            f"commit={commit}": commit is not None,
        }
        return tuple(option for option, wanted in options.items() if wanted)


def sysctls(seconds: int) -> dict[str, str]:
    """Return kernel parameters that limit how long new data stay in RAM before they are written.

    + seconds: the limit, at least 30

    The kernel wakes up every ``dirty_writeback_centisecs``, and then writes the data that are older
    than ``dirty_expire_centisecs`` (Documentation/admin-guide/sysctl/vm.rst). So data wait for at
    most the sum of these two times.
    """
    interval = min(INTERVAL_SECONDS, seconds // 6)
    return {
        "vm.dirty_expire_centisecs": str((seconds - interval) * 100),
        "vm.dirty_writeback_centisecs": str(interval * 100),
    }


def _problems(settings: ContainerLogsSettings) -> Iterator[str]:
    """Yield a message if the current host lost mount options that a run has set."""
    try:
        if observe(LostOptions):
            yield NOT_AS_IN_FSTAB
    except NodeError as error:
        yield str(error)


@concern(
    "Container logs",
    ContainerLogsSettings,
    reads=lambda settings: [Read.of(LostOptions)],
    problems=_problems,
    undo=UNDO,
)
def container_logs(settings: ContainerLogsSettings) -> None:
    """Write container logs to the card later, so that most logs never reach the card.

    Docker rotates a container's log, and removes the oldest file. A file that is removed before the
    kernel writes it never reaches the card. So this concern makes the kernel write later. It sets
    kernel parameters, and it sets mount options of the file system with Docker's data. Programs
    that synchronise their files are not affected.

    The settings are independent of each other. If none is set, the concern neither reads nor
    changes the node.
    """
    if options := settings.mount_options:
        set_mount_options(
            name="Mount the disk of Docker's data with options that reduce writes",
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
