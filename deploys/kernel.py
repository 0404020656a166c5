"""Turn the memory cgroup controller on: add words to the kernel's command line."""

from __future__ import annotations

from pydantic import Field, field_validator

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.facts.kernel import MEMORY_CONTROLLED
from chaos_engine.operations.engine.arguments import KernelWord
from chaos_engine.operations.kernel import set_kernel_words
from chaos_engine.operations.kernel.words import UNDO


class KernelSettings(Settings):
    """Settings of `kernel`."""

    kernel_words: tuple[KernelWord, ...] = Field(
        ("cgroup_enable=cpuset", "cgroup_memory=1", "cgroup_enable=memory"),
        description="list of words for the kernel's command line; no word may have a space",
    )

    @field_validator("kernel_words")
    @classmethod
    def _once(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a list that has a word twice."""
        if len(set(words)) < len(words):
            raise ValueError("a word is in the list twice; list each word once")
        return words


@concern("Kernel", KernelSettings, health=[MEMORY_CONTROLLED], undo=UNDO)
def kernel(settings: KernelSettings) -> None:
    """Add the words of the settings to the kernel's command line, for the next boot.

    Raspberry Pis boot with the memory cgroup controller off, and kubelet does not start without
    this controller. If the running kernel lacks one of the words, the deploy
    `chaos_engine.deploys.reboot` reboots the node.
    """
    set_kernel_words(name="Edit the kernel's command line", wanted=settings.kernel_words)
