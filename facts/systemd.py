"""Read the state of systemd units, and whether a unit's configuration changed after its start."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import ComposedFact, Read, SeveralFact, Value
from chaos_engine.facts.text import as_tuple

RECORDS = "/run/chaos-engine"
"""The folder where each service records the checksum of its configuration when it starts."""

ACTIVE = ("active", "reloading", "refreshing")
"""The values of ActiveState for which ``systemctl is-active`` succeeds."""

_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "MainPID"),
    *("FragmentPath", "Environment", "ExecStart"),
)

SHOW = f"systemctl show --property={','.join(_PROPERTIES)} --"
"""A shell command that prints the properties of units whose names are appended to the command.
`parse_properties` reads the output."""


@dataclass(frozen=True)
class UnitState(Value):
    """The state of a systemd unit.

    + load, active, sub: systemd's LoadState ("not-found" for a unit that does not exist),
      ActiveState and SubState
    + enabled: systemd's UnitFileState ("enabled", "disabled", "masked", "static", "")
    + started_with: the checksum of the unit's configuration at the unit's start, "" if unknown
    + configured: the checksum of the unit's configuration now
    """

    load: str
    active: str
    sub: str
    enabled: str
    need_daemon_reload: bool
    main_pid: int
    started_with: str
    configured: str

    @property
    def stale(self) -> bool:
        """Tell whether the unit's configuration has changed since the unit was started."""
        return self.started_with != self.configured


class UnitProperties(SeveralFact[dict[str, str]]):
    """The main systemd properties of each unit, by the unit's name in `units`.

    + units: names or aliases of units

    The property ``Id`` has the unit's own name. A property that a unit lacks is left out. A unit
    that does not exist has the LoadState "not-found".

    **Example:** ``host.get_fact(UnitProperties, units=("ssh.service",))["ssh.service"]["MainPID"]``
    """

    argument = "units"

    @override
    def command(self, units: tuple[str, ...] | str) -> StringCommand:
        names = [QuoteString(name) for name in as_tuple(units)]
        if not names:
            return StringCommand("true")
        # The names are printed too: if a name is an alias, the Id differs from the name
        return StringCommand("printf 'unit %s\\n'", *names, "&&", SHOW, *names)

    @override
    def parse(self, lines: list[str]) -> dict[str, dict[str, str]]:
        """Read a line ``unit NAME`` for each unit, then systemctl's output about all units."""
        names = [line[5:] for line in itertools.takewhile(_is_name, lines)]
        blocks = parse_properties(lines[len(names) :])
        if len(blocks) != len(names):
            raise ValueError(f"systemctl printed {len(blocks)} units instead of {len(names)}")
        return dict(zip(names, blocks, strict=True))


def _is_name(line: str) -> bool:
    return line.startswith("unit ")


def parse_properties(lines: Iterable[str]) -> list[dict[str, str]]:
    """Return the properties of each unit, in the order of systemctl's output.

    + lines: the output of `SHOW`: a block of lines ``Name=value`` for each unit, with an empty line
      between two blocks

    systemctl may print the same property, such as ExecStart, on several lines. The result has all
    values of the property as one text, with a line feed between two values. Raises ``ValueError``
    if a block does not begin with a property.
    """
    blocks: list[dict[str, list[str]]] = [{}]
    last = ""
    for line in lines:
        block = blocks[-1]
        name, equals, value = line.partition("=")
        if equals and name in _PROPERTIES:
            block.setdefault(name, []).append(value)
            last = name
        elif not line and "Id" in block:
            blocks.append({})
        elif block:
            # The line continues the value of a property such as ExecStart. An empty line may be
            # part of such a value too. Before the Id, no empty line ends a block, because systemctl
            # prints the commands before the Id
            block[last].append(line)
        else:
            raise ValueError(line)
    return [
        {name: "\n".join(values) for name, values in block.items()} for block in blocks if block
    ]


class _Checksums(SeveralFact[tuple[str, str]]):
    """Two checksums of each unit's configuration: at the unit's last start, and now.

    An unknown checksum is "".

    + units: pairs of a unit's name and the paths of the unit's configuration files
    """

    argument = "units"

    @override
    def command(self, units: tuple[tuple[str, tuple[str, ...]], ...]) -> StringCommand:
        parts: list[StringCommand | str | QuoteString] = ["true"]
        for unit, files in units:
            record = QuoteString(f"{RECORDS}/{unit}")
            parts += ["&& echo unit", QuoteString(unit)]
            # The shell reads the record itself. On a small node, a process for each unit takes long
            parts += ["&& { sum=; read -r sum <", record, '; echo "record $sum"; } 2>/dev/null']
            if files:
                parts += ["&& echo files $(", _sha256sum(files), ")"]
        return StringCommand(*parts)

    @override
    def parse(self, lines: list[str]) -> dict[str, tuple[str, str]]:
        """Read three lines for each unit: ``unit NAME``, ``record CHECKSUM``, ``files CHECKSUM``.

        A unit without configuration files has no line ``files CHECKSUM``.
        """
        units: dict[str, dict[str, str]] = {}
        unit: dict[str, str] = {}
        for line in lines:
            word, name, *_ = [*line.split(), ""]
            if word == "unit":
                unit = units.setdefault(name, {})
            else:
                unit[word] = name
        return {name: (found["record"], found.get("files", "")) for name, found in units.items()}


class Units(ComposedFact[dict[str, UnitState]]):
    """The state of each systemd unit, by the unit's name in `units`.

    + units: pairs of a unit's name and the paths of the unit's configuration files

    **Example:** ``host.get_fact(Units, units=(("docker.service", ("/etc/docker/daemon.json",)),))``
    """

    @override
    def command(self, units: tuple[tuple[str, tuple[str, ...]], ...]) -> StringCommand:
        return super().command(units=units)

    @override
    def reads(self, units: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[Read, ...]:
        return (
            Read.of(UnitProperties, units=tuple(unit for unit, _ in units)),
            Read.of(_Checksums, units=units),
        )

    @override
    def compose(
        self,
        properties: dict[str, dict[str, str]],
        checksums: dict[str, tuple[str, str]],
        units: tuple[tuple[str, tuple[str, ...]], ...],
    ) -> dict[str, UnitState]:
        states = {}
        for unit, _ in units:
            found = properties[unit]
            started_with, configured = checksums[unit]
            states[unit] = UnitState(
                load=found["LoadState"],
                active=found["ActiveState"],
                sub=found["SubState"],
                enabled=found.get("UnitFileState", ""),
                need_daemon_reload=found.get("NeedDaemonReload") == "yes",
                main_pid=int(found.get("MainPID") or 0),
                started_with=started_with,
                configured=configured,
            )
        return states


def checksum(files: tuple[str, ...]) -> StringCommand:
    """Return the shell command that prints one sha256 checksum of several files together.

    + files: absolute paths. A missing file counts as empty. A file name that begins with ``*`` is a
      pattern: all matching files in the folder count
    """
    return StringCommand(_sha256sum(files), "| cut -c1-64") if files else StringCommand("true")


def _sha256sum(files: tuple[str, ...]) -> StringCommand:
    return StringCommand("cat --", *map(_quoted, files), "2>/dev/null | sha256sum")


def _quoted(file: str) -> StringCommand | QuoteString:
    folder, slash, name = file.rpartition("/")
    if not name.startswith("*"):
        return QuoteString(file)
    return StringCommand(QuoteString(folder + slash), "*", QuoteString(name[1:]), _separator="")
