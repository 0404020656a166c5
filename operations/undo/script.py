"""Shell functions that undo changes on a node."""

from __future__ import annotations

from chaos_engine.facts.share import CONFINED, MOST_BYTES, SECONDS
from chaos_engine.operations.engine.shell import QUIETLY
from chaos_engine.templates import shell_script

BACK = (
    f"SHARE_SECONDS={SECONDS} SHARE_BLOCKS={MOST_BYTES // 512}\n"
    f"{CONFINED}{QUIETLY}\n{shell_script('undo')}"
)
"""Functions that restore files, units, packages and the like.

They need those of `chaos_engine.operations.engine.originals.KEEP`. Those for packages also need
those of `chaos_engine.operations.apt.APT`."""

REINSTALL = shell_script("reinstall")
"""Shell function ``reinstall``, for a script that begins with `BACK`; ``pin`` is the file that
keeps the packages out."""
