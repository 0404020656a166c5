"""Run Docker, and limit the size of the containers' logs."""

from __future__ import annotations

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.deploys.site import ContainerLogSettings, DockerDataSettings
from chaos_engine.deploys.values import Number
from chaos_engine.facts.docker import DOCKER_ANSWERS
from chaos_engine.operations.docker import Options, install_docker
from chaos_engine.operations.docker.install import UNDO


class DockerSettings(RollingSettings, ContainerLogSettings, DockerDataSettings):
    """Settings of `docker`."""

    docker_log_max_file: Number = Field(
        2,
        ge=1,
        le=100,
        description="how many log files a container may have, 1 to 100. Choose it together "
        "with chaos_docker_log_max_size",
    )
    docker_live_restore: bool | None = Field(
        None,
        description="whether containers keep running while Docker restarts, True or False; if not "
        "set, the node's value is not changed",
    )


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
