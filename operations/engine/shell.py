"""Compose the shell scripts that change a node."""

from __future__ import annotations

from typing import Any

from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.facts.observe.host import concern_at_work
from chaos_engine.templates import shell_script

PRELUDE = shell_script("prelude")
"""The beginning of each script that changes a node, from ``templates/shell/prelude.sh``.

The prelude waits for a lock, so that only one script at a time works on the node. It creates the
folders that root works in, and sets umask 077. It defines variables with this package's paths, such
as ``$STATE_DIR``. It also defines functions that write files and wait until the files are on the
card."""

NOTES = f"{shell_script('among')}{shell_script('originals')}"
"""Shell functions that note the state of a thing before a script changes it. Undo needs the notes.

These functions need the `PRELUDE` before them. They write notes for one concern, which is one
subject of a deploy, such as ``docker``. `for_concern` sets the concern's name. A concern notes a
thing only once, before its first change of the thing. Later calls keep this note."""

QUIETLY = shell_script("quietly")
"""The shell function ``quietly``, which runs a command and hides most of the command's output."""

NEEDS_DOCKER = """\
command -v docker >/dev/null || {
  echo 'Docker is not installed; deploy chaos_engine.deploys.docker first' >&2; exit 1
}
"""
"""Shell commands that end a script with an error if Docker is not installed."""

OTHERS = "other"
"""A word in place of a concern's name. The word is for operations that no concern calls."""


def quote(*words: str) -> str:
    """Return words quoted for a shell, with spaces between them.

    **Example:** ``quote("rm", "a b")`` gives ``rm 'a b'``.
    """
    return StringCommand(*(QuoteString(word) for word in words)).get_raw_value()


def for_concern(script: str, concern: str = "") -> str:
    """Return a script with an additional first line. The line sets the variable ``concern``.

    + concern: the concern's name. By default, the name of the concern that runs on the current host

    The functions of `NOTES` record the script's changes under the concern's name.

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
