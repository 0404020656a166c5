"""What a node remembers of each change, so that it can be undone: originals and a manifest."""

from __future__ import annotations

from chaos_engine.facts.observe.host import concern_at_work
from chaos_engine.operations.engine.shell import quote
from chaos_engine.templates import shell_script

OTHERS = "other"
"""Whose changes are those of operations that are called outside of any concern."""

KEEP = shell_script("originals")
"""Shell functions for the scripts of operations, see `recorded`. What is noted of a concern is how
things were before its first change: later calls of the same leave that."""


def recorded(script: str) -> str:
    """A shell script that calls functions of `KEEP`, told for which concern it works.

    A concern is known by the name of its deploy (`chaos_engine.deploys.concern`).

    **Example:** ``recorded(f"{KEEP}keep /etc/hosts")``
    """
    return f"concern={quote(concern_at_work())}\n{script}"
