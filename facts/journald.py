"""The systemd journal's configuration as it is on the node."""

from __future__ import annotations

from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import NodeFact

_FOLDERS = ("/usr/lib", "/usr/local/lib", "/run", "/etc")


class DropIns(NodeFact[tuple[tuple[str, str], ...]]):
    """Pairs of a drop-in of ``journald.conf`` and a ``Name=value`` that it sets.

    **Example:** ``host.get_fact(DropIns)``
    """

    @override
    def command(self) -> StringCommand:
        # No status of its own: folders without drop-ins are an answer
        return StringCommand(
            "grep -HsE '^[A-Z][A-Za-z]*='",
            *(f"{folder}/systemd/journald.conf.d/*.conf" for folder in _FOLDERS),
            "; true",
        )

    @staticmethod
    @override
    def default() -> tuple[tuple[str, str], ...]:
        return ()

    @override
    def parse(self, lines: list[str]) -> tuple[tuple[str, str], ...]:
        return parse_drop_ins(lines)


def parse_drop_ins(lines: list[str]) -> tuple[tuple[str, str], ...]:
    """Read ``PATH:Name=value`` lines."""
    found = []
    for line in lines:
        path, colon, setting = line.partition(".conf:")
        if not colon:
            raise ValueError(line)
        found.append((f"{path}.conf", setting))
    return tuple(found)
