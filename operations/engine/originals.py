"""Note on the node what a script will change, so that undo can restore it."""

from __future__ import annotations

from chaos_engine.facts.observe.host import concern_at_work
from chaos_engine.operations.engine.shell import quote
from chaos_engine.templates import shell_script

OTHERS = "other"
"""The concern under which the changes of an operation are noted that no concern has called."""

KEEP = shell_script("originals")
"""Shell functions that note what a script will change; a script with them needs `recorded`.

They note the state before the first change of a concern. Later changes do not touch that note."""


def recorded(script: str) -> str:
    """Return a script that knows under which concern the functions of `KEEP` note its changes.

    A concern is known by the name of its deploy (`chaos_engine.deploys.concern`).

    **Example:** ``recorded(f"{KEEP}keep /etc/hosts")``
    """
    return f"concern={quote(concern_at_work())}\n{script}"
