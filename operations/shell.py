"""Values in the shell scripts that operations compose."""

from __future__ import annotations

from pyinfra.api.command import QuoteString, StringCommand


def quote(*words: str) -> str:
    """The words quoted for a shell, with spaces between them.

    **Example:** ``quote("rm", "a b")`` gives ``rm 'a b'``.
    """
    return StringCommand(*(QuoteString(word) for word in words)).get_raw_value()
