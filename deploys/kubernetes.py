"""Install Kubernetes at one version, prepare the kernel for it, and configure kubeadm."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pydantic import Field

from chaos_engine.deploys import site
from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.deploys.settings import SettingsError, local_path, read_setting
from chaos_engine.deploys.values import LocalFileOrNone, Network
from chaos_engine.facts import api_servers
from chaos_engine.facts.certificates import DAY, Certificates, CertificateState
from chaos_engine.facts.kubernetes import KUBELET_ANSWERS
from chaos_engine.facts.membership import INIT, JOIN
from chaos_engine.facts.membership import KUBEADM as FOLDER
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.openpgp import dearmor, parse_keys
from chaos_engine.operations import files, sysctl
from chaos_engine.operations.compatibility import exec_fault, feature_gates
from chaos_engine.operations.files import File
from chaos_engine.operations.kubernetes import kubelet
from chaos_engine.operations.kubernetes.install import UNDO, install_kubernetes
from chaos_engine.operations.membership.kubeadm import SOCKET
from chaos_engine.templates import render

OLDEST_SUPPORTED = 35
"""Oldest minor version with security fixes: the support of 1.34 ended on 2026-10-27
(kubernetes.io/releases/patch-releases)."""

OLDEST_PUBLISHED = 24
"""Oldest minor version on pkgs.k8s.io (kubernetes.io/blog/2023/08/15/pkgs-k8s-io-introduction)."""

TOOLS = ("cri-tools",)
"""Packages of Kubernetes' repository whose version does not matter."""

_MODULES = ("overlay", "br_netfilter")
_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
}


class KubernetesSettings(
    RollingSettings,
    site.StorageSettings,
    site.EtcdSettings,
    site.ContainerLogSettings,
    site.VersionsSettings,
):
    """Settings of `kubernetes`."""

    kubernetes_kubectl: bool = Field(
        True,
        description="whether kubectl is installed too; before Kubernetes 1.30, kubectl is always "
        "installed, because kubeadm needs it",
    )
    kubernetes_packages: bool = Field(
        True,
        description="whether kubelet, kubeadm and kubectl are installed from pkgs.k8s.io; if "
        "False, Kubernetes' packages and apt sources are not changed",
    )
    kubernetes_key: LocalFileOrNone = Field(
        "",
        description="path on this computer of the public key of Kubernetes' apt repository; if "
        "empty, each node downloads the key from the repository by https",
    )
    kubernetes_pod_network: Network | None = Field(
        None,
        description="network that kubeadm init uses for the pods' addresses, such as 10.244.0.0/16 "
        "(Flannel's default)",
    )

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each mistake in the version and in the pod network."""
        yield from super().conflicts()
        if not self.kubernetes_version.startswith("1.") or self._minor < OLDEST_PUBLISHED:
            yield (
                f"chaos_kubernetes_version: pkgs.k8s.io has no {self.kubernetes_version}; choose "
                f"1.{OLDEST_SUPPORTED} or newer"
            )
        pods = self.kubernetes_pod_network
        if pods is None:
            return
        if pods.prefixlen > 24:  # kubeadm refuses such a network
            yield (
                f"chaos_kubernetes_pod_network: {pods} is too small, because each node needs a "
                "/24 network; choose a larger network, such as 10.244.0.0/16"
            )
        machines = {**self.storage_servers, **self.nodes, "chaos_vip": self.vip}
        for name, address in machines.items():
            if address is not None and address in pods:
                yield (
                    f"chaos_kubernetes_pod_network: {pods} contains {address}, the address of "
                    f"{name}, so pods could not reach {name}; choose an unused network, such as "
                    "10.244.0.0/16"
                )

    @property
    def _minor(self) -> int:
        """Return the minor version of Kubernetes: 36 for 1.36.2."""
        return int(self.kubernetes_version.split(".")[1])

    @property
    def held_packages(self) -> tuple[str, ...]:
        """Return the names of the packages to install and to hold at the version."""
        kubectl = self.kubernetes_kubectl or self._minor < 30
        return ("kubelet", "kubeadm", *(["kubectl"] if kubectl else []))

    @property
    def api_endpoint(self) -> str | None:
        """Return host and port of the Kubernetes API, such as "k8s:6443".

        Without a VIP, the host is the first controller's address. Returns ``None`` if there is
        neither a VIP nor a controller.
        """
        if self.vip is not None:
            return f"{self.vip_name}:{self.vip_port}"
        return f"{self.nodes[self.controllers[0]]}:6443" if self.controllers else None


def reads(settings: KubernetesSettings) -> list[Read]:
    """Return the facts that `problems` and `says` read: the expiry dates of certificates."""
    return [Read.of(Certificates, folder=settings.etcd_certificates_dir)]


def _certificates(settings: KubernetesSettings) -> tuple[CertificateState, ...]:
    """Return the certificates of Kubernetes and of etcd's client on the current host."""
    return observe(Certificates, folder=settings.etcd_certificates_dir)


def problems(settings: KubernetesSettings) -> Iterator[str]:
    """Yield a message for each certificate that expires soon, or that is not valid."""
    now = round(time.time())
    try:
        found = _certificates(settings)
    except NodeError as error:
        yield str(error)
        return
    yield from filter(None, (one.problem(now) for one in found))


def says(settings: KubernetesSettings) -> str:
    """Return how many days the certificates of kubeadm and kubelet are valid, "" if there are none.

    The date that comes first counts.
    """
    found = [one for one in _certificates(settings) if one.of_cluster and one.expires is not None]
    first = min((one.expires or 0 for one in found), default=None)
    days = None if first is None else (first - round(time.time())) // DAY
    return "" if days is None else f"certificates are valid for {days} days"


@concern(
    "Kubernetes",
    KubernetesSettings,
    health=[KUBELET_ANSWERS, api_servers.API_SERVER_ANSWERS],
    reads=reads,
    problems=problems,
    says=says,
    undo=UNDO,
)
def kubernetes(settings: KubernetesSettings) -> None:
    """Install kubelet, kubeadm and kubectl, hold them at one version, and write kubeadm's files.

    The deploy does not join the node to a cluster. To do that, the user runs ``kubeadm init`` with
    the file at `INIT`, or ``kubeadm join`` with the file at `JOIN`. Until then kubelet does not
    start.
    """
    if settings._minor < OLDEST_SUPPORTED:
        warn(
            f"Kubernetes {settings.kubernetes_version} gets no more security fixes; "
            f"1.{OLDEST_SUPPORTED} is the oldest version with security fixes",
            of_node=False,
        )
    if fault := exec_fault(settings.cri_dockerd_version, settings.kubernetes_version):
        warn(fault, of_node=False)
    sysctl.set_kernel_parameters(
        name="Prepare the kernel for Kubernetes",
        stem="kubernetes",
        modules=_MODULES,
        sysctls=_SYSCTLS,
    )
    kubelet.quiet_kubelet(name="Keep kubelet quiet until the node joins")
    if settings.kubernetes_packages:
        install_kubernetes(
            name="Install Kubernetes",
            version=settings.kubernetes_version,
            packages=settings.held_packages,
            tools=TOOLS,
            key=read_key(settings.kubernetes_key) if settings.kubernetes_key else None,
            rolling=settings.rolling(),
        )
    gates = feature_gates(settings.kubernetes_version)
    kubelet.report_configuration(
        name="Look at kubelet's configuration",
        gates=gates,
        log_size=settings.docker_log_max_size,
    )
    written, absent = configuration(settings, settings.node_name())
    files.install(
        name="Configure kubeadm, crictl and kubelet's logs",
        files=written,
        absent=absent,
        check=check(settings, [file.path for file in written]),
    )


def read_key(path: str) -> bytes:
    """Return the apt repository's public key in binary form.

    + path: path of the key on this computer; the file may be binary or ASCII-armoured

    Raises `SettingsError` if the file cannot be read, is not an OpenPGP public key, or has only
    expired keys.
    """
    key = f"{current()[1].name}: chaos_kubernetes_key"
    file, wanted = local_path(path), "save the apt repository's Release.key at this path"
    data = read_setting(key, file, wanted)
    try:
        data = dearmor(data) if data.lstrip().startswith(b"-----BEGIN") else data
        keys = parse_keys(data)
    except ValueError as error:
        raise SettingsError(
            f"{key}: {file} is not an OpenPGP public key: {error}; {wanted}"
        ) from None
    if all(one.expired(time.time()) for one in keys):
        raise SettingsError(f"{key}: {file} expired on {keys[0].expiry_date}; {wanted}")
    return data


def configuration(settings: KubernetesSettings, node: str) -> tuple[list[File], list[str]]:
    """Return the configuration files to write, and the paths of files to remove.

    The files are for kubeadm, crictl and kubelet's logs.

    + node: the node's name in the cluster
    """
    crictl = File(
        "/etc/crictl.yaml",
        f"# Written by chaos-engine\nruntime-endpoint: {SOCKET}\nimage-endpoint: {SOCKET}\n",
    )
    # kubelet creates this folder only when kubelet starts. So the folder would be missing once
    # something else is mounted on /var/log, such as RAM while no storage server can be reached
    logs = File(
        "/etc/tmpfiles.d/chaos-engine-kubelet.conf",
        "# For kubelet's links to the logs of containers; written by chaos-engine\n"
        "d /var/log/containers 0755 root root -\n",
    )
    if settings.api_endpoint is None:
        return [crictl, logs], [INIT, JOIN]
    controller = node in settings.controllers
    values = {
        # kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4: since 1.31
        "api": "v1beta4" if settings._minor >= 31 else "v1beta3",
        "path": INIT,
        "init": INIT,
        "gates": feature_gates(settings.kubernetes_version),
        "version": settings.kubernetes_version,
        "node": node if node in settings.nodes else None,
        "address": settings.nodes.get(node),
        "controller": controller,
        "endpoint": settings.api_endpoint,
        "names": [settings.vip] if settings.vip is not None else [],
        "socket": SOCKET,
        "etcd": []
        if settings.etcd_certificates_hosts == "none"
        else list(settings.storage_servers.values()),
        "certificates": settings.etcd_pod_dir,
        "pod_network": settings.kubernetes_pod_network,
    }
    join = File(JOIN, render("kubeadm-join.yaml.j2", **values), mode="600")
    init = File(INIT, render("kubeadm-init.yaml.j2", **values), mode="600")
    if controller:
        return [crictl, join, init, logs], []
    return [crictl, join, logs], [INIT]


def check(settings: KubernetesSettings, paths: list[str]) -> str:
    """Return shell commands that run ``kubeadm config validate`` on kubeadm's configuration files.

    + paths: the paths of all files to write; some of them are not kubeadm's

    Returns "" if no path is kubeadm's, or if Kubernetes is older than 1.26. Older versions do not
    have ``kubeadm config validate``.
    """
    ours = [path for path in paths if path.startswith(FOLDER)]
    if settings._minor < 26 or not ours:
        return ""
    lines = [
        f'[ ! -e "$stage"{path} ] || kubeadm config validate --config "$stage"{path}'
        for path in ours
    ]
    return "\n".join(["command -v kubeadm >/dev/null || exit 0", *lines])
