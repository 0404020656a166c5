"""Turn swap off: it wears the card out, and kubelet does not start with it."""

from __future__ import annotations

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.facts.swap import SWAP_STAYS_OFF, SWAP_UNUSED
from chaos_engine.operations.swap import UNDO, disable_swap


class SwapSettings(Settings):
    """Settings of `swap`: it has none."""


@concern("Swap", SwapSettings, health=[SWAP_UNUSED, SWAP_STAYS_OFF], undo=UNDO)
def swap(settings: SwapSettings) -> None:
    """Turn swap off, now and after every boot. Swap files and partitions stay on the disk."""
    disable_swap(name="Turn swap off")
