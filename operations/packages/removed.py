"""What a node remembers of the packages that were removed, so that it can be undone."""

from chaos_engine.templates import shell_script

REMEMBER = shell_script("removed_packages")
"""Shell function ``record NAME...``, for a script that begins with `apt.APT`."""
