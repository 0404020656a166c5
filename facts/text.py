"""Read the text that a node prints, and make text that is safe in messages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable


def as_tuple(names: tuple[str, ...] | str) -> tuple[str, ...]:
    """Return a fact's names as a tuple. On pyinfra's command line a user gives one name as text."""
    return (names,) if isinstance(names, str) else names


def pairs(lines: Iterable[str]) -> dict[str, str]:
    """Return the rest of each line, with the line's first word as the key.

    Raises ``ValueError`` for a line of one word.

    **Example:** ``pairs(["192.168.1.50 200"]) == {"192.168.1.50": "200"}``
    """
    return dict(line.split(" ", 1) for line in lines)


def grouped(lines: Iterable[str], words: str) -> dict[str, list[str]]:
    """Group lines by their first word. Return the rests of each group's lines.

    + words: the first words that lines may have

    Raises ``LookupError`` for a line with another first word.

    **Example:** ``grouped(["a 1", "a 2"], "a b") == {"a": ["1", "2"], "b": []}``
    """
    found: dict[str, list[str]] = {word: [] for word in words.split()}
    for line in lines:
        word, _, rest = line.partition(" ")
        found[word].append(rest)
    return found


def decoded(encoded: str) -> str:
    """Decode a text from base64. Escape bytes that are not UTF-8 as ``os.fsdecode`` does.

    Raises ``ValueError`` if it is not base64.
    """
    return base64.b64decode(encoded, validate=True).decode("utf-8", "surrogateescape")


def unescaped(text: str) -> str:
    r"""Return a path in which the characters themselves replace the kernel's escapes.

    The kernel writes white space, ``#`` and backslashes as ``\ooo``, in octal digits (proc(5),
    ``/proc/pid/mountinfo``).
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def printable(text: str) -> str:
    r"""Return a text with its control characters escaped, except line feeds: ESC as ``\x1b``.

    A terminal obeys control characters, and a message may quote text that somebody else has chosen.
    """
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def setting(name: str) -> str:
    """Return the name of a setting with marks, for a message. `named` removes the marks.

    An operation's argument has this name. A deploy's setting has a prefix before it. The marks are
    control characters, which messages do not have otherwise (`printable`).

    **Example:** ``f"{address} is taken; choose another {setting('vip')}"``
    """
    return f"\N{SHIFT OUT}{name}\N{SHIFT IN}"


def named(message: str, prefix: str = "") -> str:
    """Return a message without marks, with a prefix before the name of each `setting`.

    **Example:** ``named(f"choose another {setting('vip')}", "chaos_")`` is
    ``"choose another chaos_vip"``
    """
    return re.sub("\N{SHIFT OUT}([a-z_]+)\N{SHIFT IN}", rf"{prefix}\1", message)


def title_of(names: Iterable[str], own: str | None) -> str:
    """Return the name that an operation has on a host.

    + names: the names that pyinfra has for the operation, as "DEPLOY | NAME": one or more, because
      hosts may call it by different names
    + own: the NAME that the operation was called with on this host, ``None`` if it got no name
    """
    matching = (n for n in sorted(names) if own is None or f" | {n}".endswith(f" | {own}"))
    return next(matching, str(own))
