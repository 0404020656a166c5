"""Make hosts work nodes: the role of every node, with all its concerns in a safe order."""

from __future__ import annotations

from collections.abc import Iterator

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

    def conflicts(self) -> Iterator[str]:
        """Say whether the log server has the API's address, besides the concerns' own conflicts."""
        yield from super().conflicts()
        if self.vip is not None and self.vip == self.log_server:
            yield (
                f"chaos_vip: {self.vip} is chaos_log_server; choose an address that no machine has"
            )


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

    - A node that an earlier run left cordoned is uncordoned before another node is drained.
    - The hosts file names the storage servers before their volume is mounted by name.
    - The journal is in RAM before the log share is mounted on ``/var/log``.
    - The log share works before most calls of apt, since apt fails if a mounted share is dead.
    - Docker is installed before packages are removed, so that apt keeps what Docker needs.
    - cri-dockerd needs Docker, and kubelet needs cri-dockerd.

    A new command line of the kernel takes effect at a reboot. For that, call the deploy
    `chaos_engine.deploys.reboot` after this one.
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
