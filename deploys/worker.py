"""Prepare hosts as work nodes. The role `worker` calls all concerns of a node in a safe order."""

from __future__ import annotations

from collections.abc import Iterator

from chaos_engine.deploys.clock import ClockSettings, clock
from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.container_logs import ContainerLogsSettings, container_logs
from chaos_engine.deploys.cri_dockerd import CriDockerdSettings, cri_dockerd
from chaos_engine.deploys.docker import DockerSettings, docker
from chaos_engine.deploys.etcd_certificates import EtcdCertificatesSettings, etcd_certificates
from chaos_engine.deploys.hosts_file import HostsFileSettings, hosts_file
from chaos_engine.deploys.journald import JournaldSettings, journald
from chaos_engine.deploys.kernel import KernelSettings, kernel
from chaos_engine.deploys.kubernetes import KubernetesSettings, kubernetes
from chaos_engine.deploys.log_mount import LogMountSettings, log_mount
from chaos_engine.deploys.metrics import MetricsSettings, metrics
from chaos_engine.deploys.packages import PackagesSettings, packages
from chaos_engine.deploys.preflight import PreflightSettings, preflight
from chaos_engine.deploys.quiet import QuietSettings, quiet
from chaos_engine.deploys.rsyslog import RsyslogSettings, rsyslog
from chaos_engine.deploys.swap import SwapSettings, swap
from chaos_engine.deploys.uncordon import UncordonSettings, uncordon
from chaos_engine.deploys.watchdog import WatchdogSettings, watchdog


class WorkerSettings(
    PreflightSettings,
    UncordonSettings,
    HostsFileSettings,
    DockerSettings,
    ContainerLogsSettings,
    PackagesSettings,
    SwapSettings,
    QuietSettings,
    ClockSettings,
    JournaldSettings,
    RsyslogSettings,
    LogMountSettings,
    CriDockerdSettings,
    KubernetesSettings,
    EtcdCertificatesSettings,
    KernelSettings,
    WatchdogSettings,
    MetricsSettings,
):
    """Settings of the role `worker`: the settings of all its concerns."""

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each conflict that a concern finds in its settings.

        Also yields a message if the log server has the address of the Kubernetes API.
        """
        yield from super().conflicts()
        if self.vip is not None and self.vip == self.log_server:
            yield (
                f"chaos_vip: chaos_log_server has the same address {self.vip}; choose an address "
                "that no machine has"
            )


CONCERNS = (
    preflight,
    uncordon,
    hosts_file,
    journald,
    rsyslog,
    log_mount,
    docker,
    container_logs,
    packages,
    swap,
    quiet,
    clock,
    cri_dockerd,
    kubernetes,
    etcd_certificates,
    kernel,
    watchdog,
    metrics,
)
"""The concerns that `worker` calls, in order."""


@concern("Worker", WorkerSettings)
def worker(settings: WorkerSettings) -> None:
    """Make the host a Kubernetes work node that seldom writes to its SD card.

    The order matters:

    - If an earlier run left the node cordoned, the node is uncordoned before another node is
      drained.
    - The storage servers' names are written to /etc/hosts before the log share is mounted from
      one of these servers.
    - The journal moves to RAM before the log share is mounted on ``/var/log``.
    - The log share is repaired before most calls of apt, because apt fails if a share hangs.
    - Docker is configured before the mount options of its data folder are set.
    - Docker is installed before packages are removed, so that apt keeps the packages that Docker
      needs.
    - cri-dockerd needs Docker, and kubelet needs cri-dockerd.

    A new command line of the kernel takes effect at the next boot. To reboot the node, call the
    deploy `chaos_engine.deploys.reboot` after this one.
    """
    # Each call has its own line, because pyinfra orders operations by the lines that call them
    preflight(settings)
    uncordon(settings)
    hosts_file(settings)
    journald(settings)
    rsyslog(settings)
    log_mount(settings)
    docker(settings)
    container_logs(settings)
    packages(settings)
    swap(settings)
    quiet(settings)
    clock(settings)
    cri_dockerd(settings)
    kubernetes(settings)
    etcd_certificates(settings)
    kernel(settings)
    watchdog(settings)
    metrics(settings)
