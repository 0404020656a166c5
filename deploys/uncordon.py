"""Uncordon nodes that an interrupted run has left cordoned."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.operations.rolling.turns import uncordon_node


class UncordonSettings(RollingSettings):
    """Settings of `uncordon`."""


@concern("Uncordon", UncordonSettings)
def uncordon(settings: UncordonSettings) -> None:
    """Uncordon the node if an interrupted run has left it cordoned and it works.

    A node that somebody else has cordoned stays cordoned.
    """
    uncordon_node(name="Uncordon node", rolling=settings.rolling())
