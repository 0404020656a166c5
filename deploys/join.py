"""Have nodes join the cluster."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.kubernetes import KubernetesSettings
from chaos_engine.deploys.membership import MembershipSettings, api_endpoint, inventory_names
from chaos_engine.operations.membership.join import join_cluster


class JoinSettings(MembershipSettings, KubernetesSettings):
    """Settings of the deploy `join`."""


@concern("Join", JoinSettings)
def join(settings: JoinSettings) -> None:
    """Have the node join the cluster with ``kubeadm join``, unless it has joined one.

    A controller of the inventory, which need not be in the run, makes a bootstrap token for the
    node, and for a new controller the key of the cluster's certificates. Both are deleted after the
    join. They are in no command line, no output and no log, and on the node only in RAM while
    kubeadm runs.

    Controllers join one after the other. The deploy waits until the node works, and with
    ``chaos_kubeconfig`` until it is Ready.

    **Example:** ``pyinfra inventory.py chaos_engine.deploys.join --limit pi3``
    """
    node = settings.node_name()
    controllers = settings.other_controllers(node)
    hosts = inventory_names(settings.nodes)
    join_cluster(
        name="Join the cluster",
        rolling=settings.rolling(),
        endpoint=api_endpoint(settings),
        controllers=controllers,
        hosts={name: hosts[name] for name in controllers if name in hosts},
    )
