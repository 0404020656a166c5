"""Have words on the kernel's command line from the next boot on.

`words` is the operation, `cmdline` edits the text of a command line. The deploy
`chaos_engine.deploys.kernel` calls it, and the reboot asks it what the next boot brings.
"""

from chaos_engine.operations.kernel.words import next_boot_has, pending, set_kernel_words

__all__ = ["next_boot_has", "pending", "set_kernel_words"]
