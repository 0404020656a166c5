"""Upgrade a cluster to the version of Kubernetes in the settings."""

from __future__ import annotations

from collections.abc import Iterator

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.cri_dockerd import CriDockerdSettings
from chaos_engine.deploys.kubernetes import TOOLS, KubernetesSettings, read_key
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.site import node_name
from chaos_engine.facts.observe import current
from chaos_engine.operations.compatibility import feature_gates
from chaos_engine.operations.kubernetes.upgrade import (
    Target,
    check_upgrade,
    configure_kubelet,
    install_kubeadm,
    upgrade_control_plane,
    upgrade_kubelet,
)
from chaos_engine.operations.rolling.turns import uncordon_node


class UpgradeSettings(KubernetesSettings, CriDockerdSettings):
    """Settings of `upgrade`."""

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each setting that an upgrade needs and that is not set."""
        yield from super().conflicts()
        if not self.kubeconfig:
            yield (
                "chaos_kubeconfig: an upgrade needs it, to read the cluster's versions and to "
                "drain nodes; set it to the path of a kubeconfig on this computer"
            )
        if not self.controllers:
            yield "chaos_controllers: an upgrade needs it; name the cluster's controllers there"
        if not self.kubernetes_packages:
            yield (
                "chaos_kubernetes_packages: it is False, but an upgrade installs the packages of "
                "pkgs.k8s.io; set it to True, or upgrade the cluster yourself"
            )

    @property
    def target(self) -> Target:
        """Return what the run brings the cluster to."""
        return Target(
            version=self.kubernetes_version,
            controllers={name: str(self.nodes[name]) for name in self.controllers},
            nodes=tuple(self.nodes_of_run()),
            etcd=()
            if self.etcd_certificates_hosts == "none"
            else tuple(map(str, self.storage_servers.values())),
            etcd_folder=self.etcd_certificates_dir,
        )

    def nodes_of_run(self) -> Iterator[str]:
        """Yield the name in the cluster of each host of the run."""
        state = current()[0]
        for host in state.inventory:
            if not state.is_host_in_limit(host):
                continue
            try:
                yield node_name(host.name, host.data.get("ssh_hostname"), self.nodes)
            except SettingsError:  # the host itself raises it too
                continue


@concern("Upgrade", UpgradeSettings)
def upgrade(settings: UpgradeSettings) -> None:
    """Bring a cluster to the version of Kubernetes in the settings, patch or minor release.

    All nodes have to be in the run: the whole cluster goes through each step before the next step
    begins. The steps are:

    1. Refuse the upgrade if it breaks a rule of Kubernetes or kubeadm, or if a node does not work.
    2. Install kubeadm on all nodes, from the repository of the new minor version.
    3. Run ``kubeadm upgrade apply`` on the first controller.
    4. Run ``kubeadm upgrade node`` on one other controller after the other. Each API server has the
       new version and is ready before the next controller goes.
    5. Drain one node after the other, and install kubelet and kubectl. On workers,
       ``kubeadm upgrade node`` runs first.
    6. Set what kubelet needs to work with cri-dockerd, on one node after the other.

    The first problem ends the upgrade. A run that was interrupted is continued by the next run.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.upgrade --dry``
    """
    rolling, target = settings.rolling(), settings.target
    packages = tuple(name for name in settings.held_packages if name != "kubeadm")
    key = read_key(settings.kubernetes_key) if settings.kubernetes_key else None
    check_upgrade(name="Check cluster", target=target, rolling=rolling)
    uncordon_node(name="Uncordon node", rolling=rolling)
    install_kubeadm(
        name="Install kubeadm",
        target=target,
        rolling=rolling,
        key=key,
        tools=TOOLS,
    )
    upgrade_control_plane(
        name="Upgrade first controller",
        target=target,
        rolling=rolling,
        first=True,
    )
    upgrade_control_plane(
        name="Upgrade other controllers",
        target=target,
        rolling=rolling,
        first=False,
    )
    # Nodes that do not work go first. The second call is for all other nodes
    for broken in (True, False):
        upgrade_kubelet(
            name="Upgrade kubelet",
            target=target,
            rolling=rolling,
            packages=packages,
            broken=broken,
        )
    gates = feature_gates(settings.kubernetes_version)
    for broken in (True, False):
        configure_kubelet(
            name="Configure kubelet",
            target=target,
            rolling=rolling,
            gates=gates,
            log_size=settings.docker_log_max_size,
            broken=broken,
        )
    uncordon_node(name="Uncordon fixed node", rolling=rolling, last=True)
