"""Read text that a node has printed, and make text safe for messages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable


def as_tuple(names: tuple[str, ...] | str) -> tuple[str, ...]:
    """Return a fact's argument as a tuple of names.

    On pyinfra's command line, the argument may be a single name as text.
    """
    return (names,) if isinstance(names, str) else names


def pairs(lines: Iterable[str]) -> dict[str, str]:
    """Return a dictionary of the lines. A line's first word is the key, the rest is the value.

    Raises ``ValueError`` for a line of one word.

    **Example:** ``pairs(["192.168.1.50 200"]) == {"192.168.1.50": "200"}``
    """
    return dict(line.split(" ", 1) for line in lines)


def grouped(lines: Iterable[str], words: str) -> dict[str, list[str]]:
    """Group lines by their first word, and remove this word from the lines.

    + words: the allowed first words, with blanks between them

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

    Raises ``ValueError`` for a text that is not base64.
    """
    return base64.b64decode(encoded, validate=True).decode("utf-8", "surrogateescape")


def unescaped(text: str) -> str:
    r"""Return a path with the kernel's escapes decoded.

    The kernel writes white space, ``#`` and backslashes as ``\ooo`` with three octal digits
    (proc(5), ``/proc/pid/mountinfo``).
    """
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def printable(text: str) -> str:
    r"""Return a text with control characters escaped, such as ESC as ``\x1b``. Line feeds stay.

    A terminal obeys control characters, and a message may quote text that somebody else has chosen.
    """
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def setting(name: str) -> str:
    """Return a setting's name between two marks, so that `named` finds the name in a message.

    + name: the name of an operation's argument

    The deploy's setting for this argument has the same name with a prefix. `named` removes the
    marks. If a deploy has called the operation, `named` also adds the prefix. The marks are control
    characters. A message has no other control characters, because `printable` escapes them.

    **Example:** ``f"{address} is taken; choose another {setting('vip')}"``
    """
    return f"\N{SHIFT OUT}{name}\N{SHIFT IN}"


def named(message: str, prefix: str = "") -> str:
    """Return a message without the marks of `setting`, and with a prefix before each marked name.

    **Example:** ``named(f"choose another {setting('vip')}", "chaos_")`` is
    ``"choose another chaos_vip"``
    """
    return re.sub("\N{SHIFT OUT}([a-z_]+)\N{SHIFT IN}", rf"{prefix}\1", message)


def title_of(names: Iterable[str], own: str | None) -> str:
    """Return the full name that an operation has on one host, such as "DEPLOY | NAME".

    + names: the operation's full names on all hosts. The name may differ between hosts
    + own: the NAME of the operation on this host, ``None`` if the operation was called without a
      name

    Returns `own` if no full name ends with `own`.
    """
    matching = (n for n in sorted(names) if own is None or f" | {n}".endswith(f" | {own}"))
    return next(matching, str(own))
