"""The head of each script that changes a node: who may see it, one at a time, nothing half-done.

The folders that root works in are made here and nowhere else. Whatever a script writes is root's
alone (umask 077) unless it says otherwise.
"""

from __future__ import annotations

from chaos_engine.templates import shell_script

PRELUDE = shell_script("prelude")
"""It has the lock of its node until it ends, it knows the places of this package's files (such as
``$STATE_DIR``), and it has functions to write and to wait for the card: see the file."""
