"""The role of every node: all concerns of a work node, in the order that is safe."""

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
"""What `worker` composes, in its order."""


@concern("Worker", WorkerSettings)
def worker(settings: WorkerSettings) -> None:
    """Make the host a Kubernetes work node that spares its SD card.

    The order matters: a node that an earlier run has left cordoned takes pods again before another
    one is drained; storage servers are known by name before their volume is mounted; the journal is
    in RAM before the log share covers ``/var/log``, and that is in order before most that calls
    apt, which fails where a share is dead; Docker is there before packages are removed, so that
    nothing it needs goes; the shim follows Docker, kubelet follows the shim. A reboot that the
    kernel's command line needs is left to `chaos_engine.deploys.reboot`, called last.
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
