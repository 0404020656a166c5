"""Read a node's list of repairs: things that runs have set again after something changed them."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import NodeFact, Value

REPAIRS = f"{DIRECTORY}/repairs"
"""The file with a line for each thing that runs have repaired. A line has seven fields with tabs
between them: the concern, the thing, a digest of the wanted state, the number of repairs, the times
of the first and of the last repair, and a dot. The times are those of the node's own clock, as in
its journal. The file exists only after a first repair."""


@dataclass(frozen=True)
class PastRepair(Value):
    """The repairs of one thing on a node.

    + concern: the name of the concern that has set the thing, such as "docker"
    + thing: the thing's name in messages, such as "the hold of docker.io"
    + wanted: a digest of the thing's wanted state. All these repairs had the same wanted state
    + count: the number of repairs
    + first, last: the times of the first and of the last repair
    """

    concern: str
    thing: str
    wanted: str
    count: int
    first: str
    last: str


class Repairs(NodeFact[tuple[PastRepair, ...]]):
    """The things that runs have repaired on the node, and how often.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.repairs.Repairs``
    """

    @override
    def command(self) -> str:
        # Each run makes this read, but few nodes have the file. A loop of the shell prints the file
        # without starting a process
        return (
            f"[ ! -e {REPAIRS} ] || while IFS= read -r line; do printf '%s\\n' \"$line\"; done "
            f"<{REPAIRS}"
        )

    @override
    def parse(self, lines: list[str]) -> tuple[PastRepair, ...]:
        """Read the lines of `REPAIRS`. Skip incomplete lines.

        A complete line has seven fields. The fourth one, the count of repairs, is a number. The
        last one is a dot.
        """
        split = (line.split("\t") for line in lines)
        return tuple(
            PastRepair(fields[0], fields[1], fields[2], int(fields[3]), fields[4], fields[5])
            for fields in split
            if len(fields) == 7 and fields[3].isdecimal() and fields[6] == "."
        )
