"""Uncordon nodes that an interrupted run left cordoned."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.operations.rolling.turns import uncordon_node


class UncordonSettings(RollingSettings):
    """Settings of the deploy `uncordon`."""


@concern("Uncordon", UncordonSettings)
def uncordon(settings: UncordonSettings) -> None:
    """Uncordon the node if an interrupted run left it cordoned.

    The node stays cordoned if its services do not work, or if somebody else cordoned it.
    """
    uncordon_node(name="Uncordon node", rolling=settings.rolling())
