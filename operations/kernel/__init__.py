"""Put words on the kernel's command line for the next boot.

The module `words` has the operation. The module `cmdline` edits the text of a command line. The
deploy `chaos_engine.deploys.kernel` calls the operation. `chaos_engine.operations.reboot` calls
`pending`, which returns the words that the running kernel lacks. It also calls `next_boot_has`,
which tells whether a reboot adds them.
"""

from chaos_engine.operations.kernel.words import next_boot_has, pending, set_kernel_words

__all__ = ["next_boot_has", "pending", "set_kernel_words"]
