"""One script at a time on a node: what an earlier run has left at work is waited for."""

from __future__ import annotations

import posixpath

from chaos_engine.facts.observe import LOCK, LOCK_SECONDS

ALONE = f"""\
(umask 022; mkdir -p {posixpath.dirname(LOCK)})
exec 9>>{LOCK}
flock -w {LOCK_SECONDS} 9 || {{
  echo 'an earlier run is still at work on this node, lslocks tells which process; wait for it,' \\
    'or end it, and run again' >&2
  exit 1
}}
"""
"""Head of every script that changes a node. Who ends a run ends pyinfra: its last command goes on
without it, and would undo the next run's work, or take its files. The lock is the shell's, open as
descriptor 9, and gone with it however it ends; what starts a daemon by itself has to close it."""
