"""Compose the shell scripts that change a node."""

from __future__ import annotations

from typing import Any

from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.facts.observe.host import concern_at_work
from chaos_engine.templates import shell_script

PRELUDE = shell_script("prelude")
"""The head of each script that changes a node, ``templates/shell/prelude.sh``.

It waits until no other script works on the node and holds the lock until the script ends. It makes
the folders that root works in, and sets umask 077. It sets the names of this package's places, such
as ``$STATE_DIR``, and defines functions that write files and wait until they are on the card."""

NOTES = shell_script("originals")
"""Shell functions that note what a script will change, so that undo can restore it.

They follow the `PRELUDE`. `for_concern` tells the script under which concern they note. They note
the state of a thing before the concern's first change of it, and later changes keep that note."""

QUIETLY = shell_script("quietly")
"""Shell function ``quietly``, for commands with long output, as ``docker pull``."""

NEEDS_DOCKER = """\
command -v docker >/dev/null || {
  echo 'Docker is not installed; deploy chaos_engine.deploys.docker first' >&2; exit 1
}
"""
"""Shell commands that end a script on a node without Docker."""

OTHERS = "other"
"""The name under which changes are noted if no concern has called the operation."""


def quote(*words: str) -> str:
    """Return words quoted for a shell, with spaces between them.

    **Example:** ``quote("rm", "a b")`` gives ``rm 'a b'``.
    """
    return StringCommand(*(QuoteString(word) for word in words)).get_raw_value()


def for_concern(script: str, concern: str = "") -> str:
    """Return a script that is told under which concern the functions of `NOTES` note its changes.

    + concern: the concern's name; by default, the concern that runs on the current host

    **Example:** ``for_concern(f"{PRELUDE}{NOTES}keep /etc/hosts; settle")``
    """
    return f"concern={quote(concern or concern_at_work())}\n{script}"


def shell_command(script: str, *arguments: str, stdin: str = "") -> StringCommand:
    """Return the command that runs a shell script.

    + arguments: the script's positional parameters
    + stdin: text for the script's standard input
    """
    words = [QuoteString(word) for word in (script, *(("sh", *arguments) if arguments else ()))]
    given: dict[str, Any] = {"_stdin": stdin} if stdin else {}
    return StringCommand("sh", "-c", *words, **given)
