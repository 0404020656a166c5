"""Have words on the kernel's command line from the next boot on.

`words` has the operation, `cmdline` edits the text of a command line. The deploy
`chaos_engine.deploys.kernel` calls the operation. `chaos_engine.operations.reboot` asks which words
the running kernel lacks, and whether the next boot brings them.
"""

from chaos_engine.operations.kernel.words import next_boot_has, pending, set_kernel_words

__all__ = ["next_boot_has", "pending", "set_kernel_words"]
