"""Find what on the node may keep changing the things that runs repair."""

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
    """A thing, and how to find what may change it.

    + thing: its name in the answer
    + pattern: an extended regular expression. A script or unit with a matching line may change the
      thing
    + innocent: an expression for lines that match `pattern` but change nothing; "" if there are
      none
    + path: the thing's path, "" if it is no file. Packages that contain the file are suspects
    + link: the thing's name, "" if it is no network interface. What manages the interface is a
      suspect
    """

    thing: str
    pattern: str
    innocent: str = ""
    path: str = ""
    link: str = ""


@dataclass(frozen=True)
class Suspect(Value):
    """A file or program that may change a thing.

    + kind: "file" for a file of the node's owner, "manager" for a program that manages
      configuration, "ansible" for a folder that Ansible leaves on nodes, "package", "networkd" or
      "networkmanager"
    + name: the path or name; for networkd, the path of its file for the interface
    + script: for a file: the script with the matching line, which may be the file itself
    + timer: for the file of a unit: the timer that starts the unit
    """

    kind: str
    name: str
    script: str = ""
    timer: str = ""


class Suspects(SeveralFact[tuple[Suspect, ...]]):
    """The suspects of each thing, by its name.

    + searches: one for each thing

    The command reads many files. So a node is searched only if something has to be repaired there
    that an earlier run has repaired already.

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
            if path:
                lines.append(StringCommand("packages", q(path)))
            if link:
                lines.append(StringCommand("link", q(link)))
        return StringCommand(*lines, "true )", _separator="\n")

    @override
    def parse(self, lines: list[str]) -> dict[str, tuple[Suspect, ...]]:
        """Read ``thing NAME`` lines, and below each the thing's ``KIND NAME [SCRIPT TIMER]`` lines.

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
