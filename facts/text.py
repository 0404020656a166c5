"""Convert text between the forms that a node prints, facts return and messages show."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable


def as_tuple(names: tuple[str, ...] | str) -> tuple[str, ...]:
    """Return a fact's argument as a tuple of names: pyinfra's command line gives a single name as
    text."""
    return (names,) if isinstance(names, str) else names


def pairs(lines: Iterable[str]) -> dict[str, str]:
    """Return the rest of each line by its first word.

    Raises ``ValueError`` for a line of one word.

    **Example:** ``pairs(["192.168.1.50 200"]) == {"192.168.1.50": "200"}``
    """
    return dict(line.split(" ", 1) for line in lines)


def decoded(encoded: str) -> str:
    """Return the text in base64, with bytes that are not UTF-8 escaped as by ``os.fsdecode``.

    Raises ``ValueError`` if it is not base64.
    """
    return base64.b64decode(encoded, validate=True).decode("utf-8", "surrogateescape")


def unescaped(text: str) -> str:
    r"""Return a path without the kernel's escapes: white space, ``#`` and backslashes as ``\ooo``,
    octal (proc(5), ``/proc/pid/mountinfo``)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def printable(text: str) -> str:
    r"""Return a text that is safe to print, also if somebody else has chosen it.

    Control characters other than line feeds are shown escaped, ESC as ``\x1b``.
    """
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def setting(name: str) -> str:
    """Return the name of a setting with marks, for a message. `named` removes the marks.

    An operation knows the setting by this name, a deploy by a longer one. The marks are control
    characters, which messages do not have otherwise (`printable`).

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
    """Return the name that an operation has on a host: a pure function.

    + names: pyinfra's names of the operation, "DEPLOY | NAME". Hosts may differ in them
    + own: the name that the operation was called with on this host, ``None`` for none
    """
    matching = (n for n in sorted(names) if own is None or f" | {n}".endswith(f" | {own}"))
    return next(matching, str(own))
