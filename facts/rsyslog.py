"""rsyslog's configuration as it is on the node."""

from __future__ import annotations

import re

from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact

FOLDER = "/etc/rsyslog.d"
MAIN = "/etc/rsyslog.conf"


class Snippets(NodeFact[tuple[str, ...]]):
    """Paths of all files that rsyslog's main configuration takes in from ``/etc/rsyslog.d``.

    **Example:** ``host.get_fact(Snippets)``
    """

    @override
    def command(self) -> StringCommand:
        return StringCommand(
            f"for f in {FOLDER}/*.conf; do",
            'if [ -e "$f" ] || [ -L "$f" ]; then printf "%s\\n" "$f"; fi; done',
        )

    @staticmethod
    @override
    def default() -> tuple[str, ...]:
        return ()

    @override
    def parse(self, lines: list[str]) -> tuple[str, ...]:
        for line in lines:
            if not line.startswith(f"{FOLDER}/"):
                raise ValueError(line)
        return tuple(lines)


# `$IncludeConfig /etc/rsyslog.d/*.conf`, `include(file="/etc/rsyslog.d/*.conf" mode="optional")`
_INCLUDE = re.compile(r"^\s*(\$IncludeConfig\s|include\s*\().*/etc/rsyslog\.d/\*", re.IGNORECASE)
# A selector (`*.*;auth.none`, `kern.=debug,mail.info`) and a file; an action of that type. Both go
# over a line once, however long it is
_SELECTED = re.compile(r"\s*([a-z*][\w*,.=!;]*)\s+-?[/?]", re.IGNORECASE)
_ACTION = re.compile(r"\b(file|dynafile)\s*=", re.IGNORECASE)


def main_problem(text: str) -> str | None:
    """Why files in ``/etc/rsyslog.d`` cannot decide all, by the main configuration's `text`.

    It has to take them in (``$IncludeConfig`` or ``include()``, rsyslog.conf(5)), and before any
    rule of its own that writes a file. All of Debian's and Ubuntu's releases do.
    """
    lines = text.splitlines()
    place = next((n for n, line in enumerate(lines) if _INCLUDE.match(line)), None)
    if place is None:
        return f"{MAIN} does not take in {FOLDER}/*.conf"
    for line in lines[:place]:
        if not line.lstrip().startswith("#") and _writes(line):
            return f"{MAIN} writes a file before it takes in {FOLDER}: {line.strip()}"
    return None


def _writes(line: str) -> bool:
    """Whether a line of rsyslog's configuration is a rule that writes a file."""
    selected = _SELECTED.match(line)
    if selected and "." in selected[1][1:-1]:
        return True
    _, action, rest = line.lower().partition("omfile")
    return bool(action and _ACTION.search(rest))
