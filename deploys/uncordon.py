"""Uncordon nodes that an interrupted run left cordoned."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.operations.rolling.turns import uncordon_node


class UncordonSettings(RollingSettings):
    """Settings of `uncordon`."""


@concern("Uncordon", UncordonSettings)
def uncordon(settings: UncordonSettings) -> None:
    """Uncordon the node if an interrupted run left it cordoned, and if it works.

    A node that somebody else cordoned stays cordoned.
    """
    uncordon_node(name="Uncordon node", rolling=settings.rolling())
