"""Reboot a node once, at the end of a run, if it needs that."""

from __future__ import annotations

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.kernel import KernelSettings
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.deploys.values import Number
from chaos_engine.operations.reboot import reboot_node
from chaos_engine.operations.rolling.turns import uncordon_node


class RebootSettings(KernelSettings, RollingSettings):
    """Settings of `reboot`."""

    reboot_force: bool = Field(
        False,
        description="whether a node that has joined a cluster is rebooted while pods run on it, if "
        "chaos_kubeconfig is not set",
    )
    reboot_timeout: Number = Field(
        600, ge=10, le=86400, description="seconds that a node may take to come back from a reboot"
    )


@concern("Reboot", RebootSettings)
def reboot(settings: RebootSettings) -> None:
    """Reboot the node once if it needs that, and check that the reboot had its effect.

    Call this deploy last: a single reboot then makes all changes of the run effective. Afterwards a
    node that an earlier run left cordoned is uncordoned, if it works.
    """
    rolling = settings.rolling()
    reboot_node(
        name="Reboot node",
        wanted=settings.kernel_words,
        rolling=rolling,
        force=settings.reboot_force,
        seconds=settings.reboot_timeout,
    )
    uncordon_node(name="Uncordon fixed node", rolling=rolling, last=True)
