"""Begin each script that changes a node."""

from __future__ import annotations

from chaos_engine.templates import shell_script

PRELUDE = shell_script("prelude")
"""The head of each such script, ``templates/shell/prelude.sh``.

It waits until no other script works on the node and holds the lock until the script ends. It makes
the folders that root works in, and sets umask 077. It sets the names of this package's places, such
as ``$STATE_DIR``, and defines functions that write files and wait until they are on the card."""
