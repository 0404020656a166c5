"""Create the cluster on its first controller."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.kubernetes import KubernetesSettings
from chaos_engine.deploys.membership import MembershipSettings, api_endpoint, hosts_of_run
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.facts.observe import current
from chaos_engine.operations.membership.init import create_cluster


class InitSettings(MembershipSettings, KubernetesSettings):
    """Settings of the deploy `init`."""


@concern("Init", InitSettings)
def init(settings: InitSettings) -> None:
    """Create the cluster on one controller, with ``kubeadm init``.

    The node has to be deployed, and so has the proxy. The deploy refuses the node if there is a
    cluster already: if another controller answers, or if the external etcd has a cluster's data. On
    a node that has joined a cluster, nothing is done. Then install a pod network, and run the
    deploy `join` for all other nodes.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.init --limit pi1``
    """
    host, hosts = current()[1], hosts_of_run()
    node = settings.node_name()
    if node not in settings.controllers:
        raise SettingsError(
            f"{host.name}: init creates the cluster on a controller, and this host is not in "
            f"chaos_controllers ({', '.join(settings.controllers) or 'which is empty'}); run it "
            "with --limit and the name of one controller"
        )
    if len(hosts) > 1:
        raise SettingsError(
            f"init creates the cluster on one controller, but this run has {len(hosts)} hosts; run "
            f"it with --limit {host.name}"
        )
    create_cluster(
        name="Create the cluster",
        rolling=settings.without_kubeconfig().rolling(),
        address=str(settings.nodes[node]),
        endpoint=api_endpoint(settings),
        controllers=settings.other_controllers(node),
        etcd=()
        if settings.etcd_certificates_hosts == "none"
        else tuple(map(str, settings.storage_servers.values())),
        folder=settings.etcd_pod_dir,
    )
