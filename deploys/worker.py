"""Make hosts work nodes: the role of every node, with all its concerns in a safe order."""

from __future__ import annotations

from pydantic import model_validator
from typing_extensions import Self

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.cri_dockerd import CriDockerdSettings, cri_dockerd
from chaos_engine.deploys.docker import DockerSettings, docker
from chaos_engine.deploys.etcd_certificates import EtcdCertificatesSettings, etcd_certificates
from chaos_engine.deploys.hosts_file import HostsFileSettings, hosts_file
from chaos_engine.deploys.journald import JournaldSettings, journald
from chaos_engine.deploys.kernel import KernelSettings, kernel
from chaos_engine.deploys.kubernetes import KubernetesSettings, kubernetes
from chaos_engine.deploys.log_mount import LogMountSettings, log_mount
from chaos_engine.deploys.packages import PackagesSettings, packages
from chaos_engine.deploys.preflight import PreflightSettings, preflight
from chaos_engine.deploys.rsyslog import RsyslogSettings, rsyslog
from chaos_engine.deploys.swap import SwapSettings, swap
from chaos_engine.deploys.uncordon import UncordonSettings, uncordon


class WorkerSettings(
    PreflightSettings,
    UncordonSettings,
    HostsFileSettings,
    DockerSettings,
    PackagesSettings,
    SwapSettings,
    JournaldSettings,
    RsyslogSettings,
    LogMountSettings,
    CriDockerdSettings,
    KubernetesSettings,
    EtcdCertificatesSettings,
    KernelSettings,
):
    """Settings of `worker`: those of all its concerns."""

    @model_validator(mode="after")
    def _the_log_server_is_not_the_api(self) -> Self:
        if self.vip is not None and self.vip == self.log_server:
            raise ValueError(
                f"chaos_vip: {self.vip} is chaos_log_server; choose an address that no machine has"
            )
        return self


CONCERNS = (
    preflight,
    uncordon,
    hosts_file,
    journald,
    rsyslog,
    log_mount,
    docker,
    packages,
    swap,
    cri_dockerd,
    kubernetes,
    etcd_certificates,
    kernel,
)
"""The concerns that `worker` calls, in order."""


@concern("Worker", WorkerSettings)
def worker(settings: WorkerSettings) -> None:
    """Make the host a Kubernetes work node that spares its SD card.

    The order matters:

    - A node that an earlier run has left cordoned is uncordoned before another one is drained.
    - The storage servers have names before their volume is mounted.
    - The journal is in RAM before the log share is mounted on ``/var/log``.
    - The log share works before most calls of apt, which fails where a share is dead.
    - Docker is installed before packages are removed, so that apt keeps what Docker needs.
    - Docker, cri-dockerd and kubelet need each other in this order.

    `chaos_engine.deploys.reboot`, called last, does the reboot that the kernel's command line
    needs.
    """
    # Not a loop: pyinfra orders operations by the lines that call them
    preflight(settings)
    uncordon(settings)
    hosts_file(settings)
    journald(settings)
    rsyslog(settings)
    log_mount(settings)
    docker(settings)
    packages(settings)
    swap(settings)
    cri_dockerd(settings)
    kubernetes(settings)
    etcd_certificates(settings)
    kernel(settings)
