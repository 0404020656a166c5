"""The configuration that the running HAProxy has loaded."""

from __future__ import annotations

from typing_extensions import override

from chaos_engine.facts.observe import NodeFact
from chaos_engine.facts.systemd import RECORDS

SCRIPT = "/usr/sbin/haproxy_start.sh"
"""The program that runs HAProxy on the proxy."""

MARK = "Written by chaos-engine"
"""What that program says of itself. Another one under its name does something else when called."""

RUN = f"{RECORDS}/haproxy"
"""In RAM: ``config/`` and ``socket/`` of the container, and ``loaded``."""


class LoadedConfig(NodeFact[str]):
    """The sha256 of the configuration that HAProxy was last started or reloaded with since the
    node's boot, "" if it was not.

    **Example:** ``host.get_fact(LoadedConfig)``
    """

    @override
    def command(self) -> str:
        return f"cat {RUN}/loaded 2>/dev/null; true"

    @staticmethod
    @override
    def default() -> str:
        return ""

    @override
    def parse(self, lines: list[str]) -> str:
        return lines[0]
