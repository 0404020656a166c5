"""Forms that text takes between a node and a fact."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable


def several(names: tuple[str, ...] | str) -> tuple[str, ...]:
    """A fact's argument that is a tuple of names; the command line gives a single one as text."""
    return (names,) if isinstance(names, str) else names


def pairs(lines: Iterable[str]) -> dict[str, str]:
    """Read lines of a word and what is said of it: ``192.168.1.50 200``.

    Raises ``ValueError`` for a line that is none.
    """
    return dict(line.split(" ", 1) for line in lines)


def decoded(encoded: str) -> str:
    """The exact text behind base64, also where it is not UTF-8.

    Raises ``ValueError`` if it is no base64.
    """
    return base64.b64decode(encoded, validate=True).decode("utf-8", "surrogateescape")


def unescaped(text: str) -> str:
    """A path as the kernel prints it: white space, ``#`` and backslashes as three octal digits
    (proc(5), ``/proc/pid/mountinfo``)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def printable(text: str) -> str:
    """A text that somebody else may have chosen, fit for a terminal: each control character but for
    the end of a line is shown as ``\\x1b``."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def setting(name: str) -> str:
    """Return the name of a setting, marked for a message: `named` unmarks it.

    An operation alone knows it by this name, a deploy by a longer one. The marks are control
    characters, which no message has otherwise (`printable`).

    **Example:** ``f"{address} is taken; choose another {setting('vip')}"``
    """
    return f"\N{SHIFT OUT}{name}\N{SHIFT IN}"


def named(message: str, prefix: str = "") -> str:
    """Return a message with each `setting` by its name behind `prefix`.

    **Example:** ``named(f"choose another {setting('vip')}", "chaos_")`` is
    ``"choose another chaos_vip"``
    """
    return re.sub("\N{SHIFT OUT}([a-z_]+)\N{SHIFT IN}", rf"{prefix}\1", message)


def title_of(names: Iterable[str], own: str | None) -> str:
    """The name by which a host has an operation: a pure function.

    + names: all that the operation in this place has, for other hosts may have another one there
    + own: what the host's own was called with
    """
    fitting = (n for n in sorted(names) if own is None or f" | {n}".endswith(f" | {own}"))
    return next(fitting, str(own))
