"""Turn on the memory controller, which kubelet needs, on the kernel's command line."""

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
        description="words that the kernel's command line shall have, a list; each without spaces",
    )

    @field_validator("kernel_words")
    @classmethod
    def _once(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a word that is there twice."""
        if len(set(words)) < len(words):
            raise ValueError("a word is there twice; name each once")
        return words


@concern("Kernel", KernelSettings, health=[MEMORY_CONTROLLED], undo=UNDO)
def kernel(settings: KernelSettings) -> None:
    """Put the words on the kernel's command line. They take effect at the next boot.

    Raspberry Pis boot with the memory controller off, and kubelet does not start without it. The
    deploy `chaos_engine.deploys.reboot` reboots a node whose kernel runs without the words.
    """
    set_kernel_words(name="Edit the kernel's command line", wanted=settings.kernel_words)
