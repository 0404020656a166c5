"""What runs have fixed on the node, although an earlier run had set it: how often, and when."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import NodeFact, Value

REPAIRS = f"{DIRECTORY}/repairs"
"""A line a thing that a run has fixed: concern, thing, what was wanted (a digest), how often, when
first, when last, and a dot, with tabs between them. Times are those of the node's own clock, as its
journal has them. It is written after a repair, and at no other time."""


@dataclass(frozen=True)
class PastRepair(Value):
    """A thing that runs have fixed `count` times for the same `wanted`, at `first` and `last`."""

    concern: str
    thing: str
    wanted: str
    count: int
    first: str
    last: str


class Repairs(NodeFact[tuple[PastRepair, ...]]):
    """What runs have fixed on the node.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.repairs.Repairs``
    """

    @override
    def command(self) -> str:
        # Almost no node has the file, and the shell reads it by itself: each run asks this
        return (
            f"[ ! -e {REPAIRS} ] || while IFS= read -r line; do printf '%s\\n' \"$line\"; done "
            f"<{REPAIRS}"
        )

    @staticmethod
    @override
    def default() -> tuple[PastRepair, ...]:
        return ()

    @override
    def parse(self, lines: list[str]) -> tuple[PastRepair, ...]:
        return parse_repairs(lines)


def parse_repairs(lines: list[str]) -> tuple[PastRepair, ...]:
    """Read the lines of `REPAIRS`; those that lack their dot, or a number, are none."""
    split = (line.split("\t") for line in lines)
    return tuple(
        PastRepair(fields[0], fields[1], fields[2], int(fields[3]), fields[4], fields[5])
        for fields in split
        if len(fields) == 7 and fields[3].isdecimal() and fields[6] == "."
    )
