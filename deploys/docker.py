"""Run Docker, with a limit on the logs of containers."""

from __future__ import annotations

from pydantic import Field, field_validator

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.deploys.site import ContainerLogSettings
from chaos_engine.deploys.values import LastingFolder, Number
from chaos_engine.facts.docker import DOCKER_ANSWERS
from chaos_engine.operations.docker import Options, install_docker
from chaos_engine.operations.docker.install import UNDO


class DockerSettings(RollingSettings, ContainerLogSettings):
    """Settings of `docker`."""

    docker_log_max_file: Number = Field(
        3, ge=1, le=100, description="how many log files a container may have, a number"
    )
    docker_data_root: LastingFolder | None = Field(
        None,
        description="absolute path of the folder for Docker's images, containers and their logs; "
        "if not set, the node's folder is not changed. A folder on a USB disk or SSD moves "
        "Docker's writes off the SD card. Docker then waits for that disk at boot, and does not "
        "start without that disk",
    )
    docker_live_restore: bool | None = Field(
        None,
        description="whether containers keep running while Docker restarts, True or False; if not "
        "set, the node's value is not changed",
    )

    @field_validator("docker_data_root")
    @classmethod
    def _not_with_the_logs(cls, folder: str | None) -> str | None:
        """Refuse a folder below ``/var/log``, where the log share is mounted."""
        if folder and f"{folder}/".startswith("/var/log/"):
            raise ValueError("/var/log is the log share; Docker cannot store its images there")
        return folder


@concern("Docker", DockerSettings, health=[DOCKER_ANSWERS], undo=UNDO)
def docker(settings: DockerSettings) -> None:
    """Install the distribution's Docker, hold its version, and configure it for Kubernetes.

    The deploy sets the cgroup driver systemd, json-file logs of limited size, and the storage
    driver overlay2 in ``/etc/docker/daemon.json``. Other keys of the file do not change. Docker has
    to limit the logs of pods, because with cri-dockerd Kubernetes does not rotate these logs
    (Mirantis/cri-dockerd#150).
    """
    install_docker(
        name="Run Docker",
        options=Options(
            settings.docker_log_max_size,
            settings.docker_log_max_file,
            settings.docker_data_root,
            settings.docker_live_restore,
        ),
        rolling=settings.rolling(),
    )
