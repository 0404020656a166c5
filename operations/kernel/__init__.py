"""Put words on the kernel's command line for the next boot.

The module `words` has the operation `set_kernel_words`, which `chaos_engine.deploys.kernel` calls.
The module `cmdline` edits the text of a command line. `chaos_engine.operations.reboot` calls two
other functions of the module `words`:

- `pending` returns the wanted words that the running kernel lacks.
- `next_boot_has` tells whether the next boot will add the wanted words.
"""

from chaos_engine.operations.kernel.words import next_boot_has, pending, set_kernel_words

__all__ = ["next_boot_has", "pending", "set_kernel_words"]
