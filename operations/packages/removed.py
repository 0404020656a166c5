"""Note on the node which packages are removed, so that undo can install them again."""

from chaos_engine.templates import shell_script

REMEMBER = shell_script("removed_packages")
"""Shell function ``record NAME...``, for a script that begins with `apt.APT`."""
