"""The names that other people's projects import stay: a name goes only with a major version."""

from __future__ import annotations

from importlib import import_module

import pytest
from pyinfra.api.facts import FactBase

from chaos_engine.deploys.settings import Settings

FACTS = (
    "api_servers.ApiServers",
    "apt.Interrupted",
    "api_servers.ApiVersions",
    "apt.Packages",
    "cloud_init.CloudInit",
    "container_logs.DockerDisk",
    "container_logs.LostOptions",
    "containers.Container",
    "containers.Image",
    "cri_dockerd.CriDockerdVersion",
    "docker.DockerInfo",
    "docker.DockerNetworks",
    "docker_service.DockerService",
    "etcd.EtcdVersions",
    "files.Files",
    "files.Present",
    "files.Content",
    "haproxy.LoadedConfig",
    "haproxy.SharedCopy",
    "health.Health",
    "journald.DropIns",
    "clock.ClockSynchronised",
    "clock.ServerSettings",
    "clock.TimeServices",
    "kernel.KernelCmdline",
    "kubernetes.ControlPlane",
    "kubernetes.Joined",
    "kubernetes.KubeletConfiguration",
    "kubernetes.KubeletReplaced",
    "kubernetes.KubernetesSources",
    "kubernetes.RepositorySigners",
    "log_mount.LogShares",
    "macvlan.MacvlanLinks",
    "manifest.Manifest",
    "membership.ClusterApi",
    "membership.EtcdKeys",
    "membership.Membership",
    "mounts.Mounts",
    "mounts.Answers",
    "network.Interface",
    "network.AddressOwners",
    "node.AsRoot",
    "node.Node",
    "observe.NodeFact",
    "observe.YesOrNo",
    "observe.SeveralFact",
    "packages.RemovalPlan",
    "quiet.TimedWriters",
    "repairs.Repairs",
    "rsyslog.Canary",
    "rsyslog.Snippets",
    "standing.Standing",
    "suspects.Suspects",
    "swap.Swaps",
    "sysctl.KernelModules",
    "sysctl.Sysctls",
    "systemd.Units",
    "unit_traces.Traces",
    "updates.RebootNeed",
    "updates.SecurityUpdates",
    "watchdog.Watchdog",
    "watchdog.WatchdogDropIns",
)
MODELS = (
    "clock.ClockSettings",
    "cri_dockerd.CriDockerdSettings",
    "container_logs.ContainerLogsSettings",
    "docker.DockerSettings",
    "etcd_certificates.EtcdCertificatesSettings",
    "forget.ForgetSettings",
    "haproxy.HaproxySettings",
    "hosts_file.HostsFileSettings",
    "init.InitSettings",
    "join.JoinSettings",
    "journald.JournaldSettings",
    "kernel.KernelSettings",
    "kubernetes.KubernetesSettings",
    "log_mount.LogMountSettings",
    "macvlan_network.MacvlanNetworkSettings",
    "packages.PackagesSettings",
    "preflight.PreflightSettings",
    "proxy.ProxySettings",
    "quiet.QuietSettings",
    "reboot.RebootSettings",
    "rolling.RollingSettings",
    "rsyslog.RsyslogSettings",
    "settings.Settings",
    "site.NodesSettings",
    "site.StorageSettings",
    "site.LogServerSettings",
    "site.ControllersSettings",
    "site.EndpointSettings",
    "site.LanSettings",
    "site.EtcdSettings",
    "site.ContainerLogSettings",
    "site.VersionsSettings",
    "summary.SummarySettings",
    "swap.SwapSettings",
    "uncordon.UncordonSettings",
    "updates.UpdatesSettings",
    "undo.UndoSettings",
    "upgrade.UpgradeSettings",
    "metrics.MetricsSettings",
    "watchdog.WatchdogSettings",
    "worker.WorkerSettings",
)
OPERATIONS = ("files.install", "files.File", "files.Unit")


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_is_where_it_was(name: str) -> None:
    module, _, fact = name.partition(".")
    assert issubclass(getattr(import_module(f"chaos_engine.facts.{module}"), fact), FactBase)


@pytest.mark.parametrize("name", MODELS)
def test_a_settings_model_is_where_it_was(name: str) -> None:
    module, _, model = name.partition(".")
    assert issubclass(getattr(import_module(f"chaos_engine.deploys.{module}"), model), Settings)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operation_for_files_is_where_it_was(name: str) -> None:
    module, _, thing = name.partition(".")
    assert hasattr(import_module(f"chaos_engine.operations.{module}"), thing)
