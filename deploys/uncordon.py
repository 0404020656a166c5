"""Nodes that a run which was cut short has left cordoned take pods again."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.rolling import RollingSettings
from chaos_engine.operations.rolling.turns import uncordon_node


class UncordonSettings(RollingSettings):
    """Settings of `uncordon`."""


@concern("Uncordon", UncordonSettings)
def uncordon(settings: UncordonSettings) -> None:
    """Uncordon the node if a run that was cut short has left it cordoned, and it does its work.

    What somebody else has cordoned stays so.
    """
    uncordon_node(name="Uncordon node", rolling=settings.rolling())
