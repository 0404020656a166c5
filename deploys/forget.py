"""Remove a node from the cluster, whether or not the node still works."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.membership import MembershipSettings, hosts_of_run, inventory_names
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.site import EtcdSettings
from chaos_engine.facts.observe import current
from chaos_engine.operations.engine.arguments import HostName
from chaos_engine.operations.membership.forget import forget_node


class ForgetSettings(MembershipSettings, EtcdSettings):
    """Settings of the deploy `forget`."""

    forget: HostName | None = Field(
        None, description="name of the node that the deploy forget removes from the cluster"
    )
    forget_host_key: bool = Field(
        False,
        description="whether the deploy forget also removes the node's host keys from known_hosts "
        "on your computer, because the node comes back with a new card",
    )


@concern("Forget", ForgetSettings)
def forget(settings: ForgetSettings) -> None:
    """Remove the node ``chaos_forget`` from the cluster.

    The node itself need not be in the run, nor work. One other host of the run does the work. If
    the node can be reached by ssh, it is drained, and ``kubeadm reset`` runs on it. Then it is
    deleted from the cluster. Its log share and its settings stay. A controller stays if without it
    too few API servers would be ready.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.forget --limit pi1 --data
    chaos_forget=pi3``
    """
    node = settings.forget
    if node is None:
        raise SettingsError(
            "chaos_forget is not set; name the node to remove from the cluster: "
            "--data chaos_forget=pi3"
        )
    if not settings.kubeconfig:
        raise SettingsError(
            "chaos_kubeconfig is not set, but the deploy forget needs it to remove a node; copy "
            "/etc/kubernetes/admin.conf from a controller, and set chaos_kubeconfig to its path"
        )
    names = inventory_names(settings.nodes)
    at = names.get(node, "")
    hosts = hosts_of_run()
    leader = next((name for name in hosts if name != at), at)
    if current()[1].name != leader:
        return
    address = settings.nodes.get(node)
    controller = node in settings.controllers
    others = settings.other_controllers(node)
    forget_node(
        name=f"Forget {node}",
        rolling=replace(
            settings.rolling(),
            node=node,
            lane="controller" if controller else "",
            controller=controller,
            controllers=others if controller else {},
            one_of_several=False,
        ),
        known_nodes=tuple(settings.nodes),
        at=at,
        address=str(address) if address else "",
        controllers=others,
        host_key=settings.forget_host_key,
        own_etcd=settings.etcd_certificates_hosts == "none",
    )
