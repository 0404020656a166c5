"""The one reboot at the end, where it is due."""

from __future__ import annotations

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.kernel import KernelSettings
from chaos_engine.deploys.site import ControllersSettings
from chaos_engine.deploys.values import Number
from chaos_engine.facts.observe import current
from chaos_engine.operations import reboot as operations
from chaos_engine.operations.gate import Lane


class RebootSettings(KernelSettings, ControllersSettings):
    """Settings of `reboot`."""

    reboot_batch: Number = Field(
        1,
        ge=1,
        le=100,
        description="how many nodes of a cluster may reboot at the same time, the same for all; "
        "controllers and the proxy go one by one whatever it is",
    )
    reboot_force: bool = Field(
        False,
        description="whether a node that has joined a cluster is rebooted too, with all its pods",
    )
    reboot_timeout: Number = Field(
        600, ge=10, le=86400, description="seconds that a node may take to come back from a reboot"
    )


@concern("Reboot", RebootSettings)
def reboot(settings: RebootSettings) -> None:
    """Reboot the node if it is due, once, and see that it brought what it was made for.

    To be called last: everything that a reboot shall make effective is in place then.
    """
    host = current()[1]
    lane: Lane = ""
    if "proxy" in host.groups:
        lane = "proxy"
    elif settings.node_name() in settings.controllers:
        lane = "controller"
    operations.reboot(
        name="Reboot node",
        wanted=settings.kernel_words,
        lane=lane,
        batch=settings.reboot_batch,
        force=settings.reboot_force,
        seconds=settings.reboot_timeout,
    )
