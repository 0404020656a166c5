"""Reboot a node at the end of a run if a change needs a reboot."""

from __future__ import annotations

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.kernel import KernelSettings
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.deploys.values import Number
from chaos_engine.operations.reboot import reboot_node
from chaos_engine.operations.rolling.turns import uncordon_node


class RebootingSettings(RollingSettings):
    """Settings of each concern that reboots nodes."""

    reboot_force: bool = Field(
        False,
        description="whether a node of a cluster reboots without a drain if chaos_kubeconfig "
        "is not set; if False, the node does not reboot",
    )
    reboot_timeout: Number = Field(
        600, ge=10, le=86400, description="seconds to wait for a node to come back from a reboot"
    )


class RebootSettings(KernelSettings, RebootingSettings):
    """Settings of `reboot`."""


@concern("Reboot", RebootSettings)
def reboot(settings: RebootSettings) -> None:
    """Reboot the node if a change needs a reboot, and check that the change has taken effect.

    Call this deploy last, so that one reboot is enough for all changes of the run. Finally, the
    deploy uncordons a node that an earlier run has left cordoned, if the node works.
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
