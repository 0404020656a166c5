"""Find suspects: files and programs on a node that may undo the changes of runs."""

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

_SCRIPT = (
    f"{COLLECT}MANIFEST={MANIFEST} REPAIRS={REPAIRS}\n"
    f"{shell_script('among')}{shell_script('suspects')}"
)


KINDS = ("file", "manager", "ansible", "package", "networkd", "networkmanager")
"""The possible kinds of a `Suspect`."""


class Search(NamedTuple):
    """A search for the files and programs that may change one thing on a node.

    + thing: the thing's name. `Suspects` returns the suspects by this name
    + pattern: an extended regular expression. A script or unit with a matching line is a suspect
    + innocent: a regular expression. A line that matches it is harmless, even if the line matches
      `pattern` too; "" if there are no such lines
    + path: if the thing is a file, its path. Packages that contain the file are suspects
    + link: if the thing is a network interface, its name. A program that manages the interface is a
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

    + kind: "file" for a file that the user wrote, "manager" for a program that manages
      configuration, "ansible" for a folder that Ansible leaves on nodes, "package" for a Debian
      package, "networkd" for systemd-networkd, "networkmanager" for NetworkManager
    + name: the suspect's path or name. For "networkd": the path of networkd's file for the
      interface
    + script: only for a "file": the script with a line that matches `Search.pattern`. The script
      may be the file itself
    + timer: only for a unit's file: the timer that starts the unit
    """

    kind: str
    name: str
    script: str = ""
    timer: str = ""


class Suspects(SeveralFact[tuple[Suspect, ...]]):
    """The suspects for each thing, by the thing's name.

    Suspects are the files and programs that may change the thing.

    + searches: one search for each thing

    The command reads many files. So runs use this fact only if they have to repair a thing that an
    earlier run has already repaired.

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
        """Parse the files and programs that may change each thing: the thing's suspects.

        A line ``thing THING`` begins the list of a thing's suspects. Each following line
        ``KIND NAME [SCRIPT TIMER]``, up to the next line ``thing``, is a suspect. Tabs separate the
        words of a line.
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
