"""Have nodes join the cluster."""

from __future__ import annotations

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.kubernetes import KubernetesSettings
from chaos_engine.deploys.membership import MembershipSettings, api_endpoint, inventory_names
from chaos_engine.operations.membership.join import join_cluster


class JoinSettings(MembershipSettings, KubernetesSettings):
    """Settings of the deploy `join`."""

    join: bool = Field(
        False,
        description="whether `deploy.py` also joins the node to the cluster, after it has deployed "
        "it; `chaos_engine.deploys.join` joins it in any case",
    )


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
    _join(settings, after_deploy=False)


@concern("Join", JoinSettings)
def join_if_wanted(settings: JoinSettings) -> None:
    """Do what `join` does if ``chaos_join`` is set, after other deploys of the same run.

    **Example:** ``pyinfra inventory.py deploy.py --limit pi3 --data chaos_join=true``
    """
    if settings.join:
        _join(settings, after_deploy=True)


def _join(settings: JoinSettings, after_deploy: bool) -> None:
    """Call the operation.

    + after_deploy: as `join_cluster` takes it
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
        after_deploy=after_deploy,
    )
