"""Turn swap off. Swap wears out the SD card, and kubelet does not start while swap is on."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.facts.swap import SWAP_STAYS_OFF, SWAP_UNUSED
from chaos_engine.operations.swap import UNDO, disable_swap


class SwapSettings(Settings):
    """An empty settings model: the concern `swap` has no settings."""


@concern("Swap", SwapSettings, health=[SWAP_UNUSED, SWAP_STAYS_OFF], undo=UNDO)
def swap(settings: SwapSettings) -> None:
    """Turn swap off, now and after every boot. Swap files and partitions are not deleted."""
    disable_swap(name="Turn swap off")
