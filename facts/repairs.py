"""Read what runs have repaired on the node, because something else had changed it."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import NodeFact, Value

REPAIRS = f"{DIRECTORY}/repairs"
"""A file with a line for each thing that runs have repaired: concern, thing, a digest of the wanted
state, number of repairs, time of the first, time of the last, and a dot, with tabs between them.
Times are those of the node's own clock, as in its journal. The file is written only after a
repair."""


@dataclass(frozen=True)
class PastRepair(Value):
    """A thing that runs have repaired `count` times, first at `first` and last at `last`.

    + wanted: a digest of the wanted state, the same in all these runs
    """

    concern: str
    thing: str
    wanted: str
    count: int
    first: str
    last: str


class Repairs(NodeFact[tuple[PastRepair, ...]]):
    """What runs have repaired on the node.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.repairs.Repairs``
    """

    @override
    def command(self) -> str:
        # Each run reads this, and almost no node has the file. The shell reads it without a process
        return (
            f"[ ! -e {REPAIRS} ] || while IFS= read -r line; do printf '%s\\n' \"$line\"; done "
            f"<{REPAIRS}"
        )

    @override
    def parse(self, lines: list[str]) -> tuple[PastRepair, ...]:
        """Read the lines of `REPAIRS`. Skip lines without their dot, or without a number."""
        split = (line.split("\t") for line in lines)
        return tuple(
            PastRepair(fields[0], fields[1], fields[2], int(fields[3]), fields[4], fields[5])
            for fields in split
            if len(fields) == 7 and fields[3].isdecimal() and fields[6] == "."
        )
