"""Find who on the node keeps undoing what runs fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.callers import COLLECT
from chaos_engine.facts.manifest import MANIFEST
from chaos_engine.facts.observe import SeveralFact, Value
from chaos_engine.facts.repairs import REPAIRS
from chaos_engine.templates import shell_script

_SCRIPT = f"{COLLECT}MANIFEST={MANIFEST} REPAIRS={REPAIRS}\n{shell_script('suspects')}"


KINDS = ("file", "manager", "ansible", "package", "networkd", "networkmanager")
"""The kinds of a `Suspect`."""


class Search(NamedTuple):
    """A thing, and how to find who changes it.

    + thing: its name in the answer
    + pattern: an extended regular expression that is in the lines that may change it
    + innocent: an expression for lines among these that change nothing; "" for none
    + path: a file, of which packages are asked
    + link: a network interface, whose managers are asked
    """

    thing: str
    pattern: str
    innocent: str = ""
    path: str = ""
    link: str = ""


@dataclass(frozen=True)
class Suspect(Value):
    """Somebody who may change a thing.

    + kind: "file", one that the node's owner has made; "manager", of configuration; "ansible", its
      folder; "package"; "networkd" and "networkmanager", which manage the network interface
    + name: path or name of it, of networkd that of its file
    + script: of a file: the script in which the line is, or the file itself
    + timer: of a unit's file: the timer that starts it
    """

    kind: str
    name: str
    script: str = ""
    timer: str = ""


class Suspects(SeveralFact[tuple[Suspect, ...]]):
    """The suspects of each thing, by its name.

    + searches: one for each thing

    The command reads many files. So it runs only for things that have changed again after they were
    fixed, and never in a run that changes nothing.

    **Example:** ``host.get_fact(Suspects, searches=(Search("a", "lb-hairpin"),))``
    """

    argument = "searches"

    @override
    def command(self, searches: tuple[Search, ...]) -> StringCommand:
        lines = [StringCommand("(", _SCRIPT)]
        for thing, pattern, innocent, path, link in searches:
            q = QuoteString
            lines.append(StringCommand("echo", q(f"thing\t{thing}"), "\nmanagers"))
            lines.append(StringCommand("mentions", q(f"^[^#]*({pattern})"), q(innocent or "^$")))
            lines += [StringCommand("packages", q(path))] if path else []
            lines += [StringCommand("link", q(link))] if link else []
        return StringCommand(*lines, "true )", _separator="\n")

    @override
    def parse(self, lines: list[str]) -> dict[str, tuple[Suspect, ...]]:
        return parse_suspects(lines)


def parse_suspects(lines: list[str]) -> dict[str, tuple[Suspect, ...]]:
    """Read ``thing NAME`` lines, each with its suspects' lines ``KIND NAME [SCRIPT TIMER]`` below.

    Tabs separate the words.
    """
    found: dict[str, tuple[Suspect, ...]] = {}
    thing = ""
    for line in lines:
        kind, name, *more = line.split("\t")
        if kind not in ("thing", *KINDS) or len(more) > 2:  # a name with a line break or a tab
            raise ValueError(line)
        if kind == "thing":
            thing = name
            found[thing] = ()
        elif (suspect := Suspect(kind, name, *more)) not in found[thing]:
            found[thing] += (suspect,)
    return found
