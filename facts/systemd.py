"""Read systemd units, and the checksum of the configuration that each was started with."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import SeveralFact, Value

RECORDS = "/run/chaos-engine"
"""The folder where each service records, when it starts, the checksum of its configuration."""

_PROPERTIES = "Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,MainPID"


@dataclass(frozen=True)
class UnitState(Value):
    """A unit.

    + load, active, sub: systemd's LoadState ("not-found" if it does not exist), ActiveState and
      SubState
    + enabled: systemd's UnitFileState ("enabled", "disabled", "masked", "static", "")
    + started_with: the checksum of its configuration when it was started, "" if that is unknown
    + configured: the checksum of its configuration now
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
        """Tell whether its configuration has changed since it was started."""
        return self.started_with != self.configured


class Units(SeveralFact[UnitState]):
    """The state of each unit, by its name in `units`.

    + units: pairs of a unit's name and the files of its configuration

    **Example:** ``host.get_fact(Units, units=(("docker.service", ("/etc/docker/daemon.json",)),))``
    """

    argument = "units"

    @override
    def command(self, units: tuple[tuple[str, tuple[str, ...]], ...]) -> StringCommand:
        if not units:
            return StringCommand("true")
        names = [QuoteString(unit) for unit, _ in units]
        parts: list[StringCommand | str | QuoteString] = []
        for name, (unit, files) in zip(names, units, strict=True):
            record = QuoteString(f"{RECORDS}/{unit}")
            parts += ["&& echo unit", name]
            # The shell's read, not cat: on a small node, a process for each unit would take long
            parts += ["&& { sum=; read -r sum <", record, '; echo "Record=$sum"; } 2>/dev/null']
            if files:
                parts += ["&& echo Files=$(", _sha256sum(files), ")"]
        return StringCommand("systemctl show --property", _PROPERTIES, "--", *names, *parts)

    @override
    def parse(self, lines: list[str]) -> dict[str, UnitState]:
        """Read systemctl's properties of all units, then the checksums of all units.

        systemctl prints a block of ``Key=value`` lines for each unit, with an empty line between
        two blocks. The checksums of each unit, in the same order, are a line ``unit NAME`` and
        lines ``Record=`` and ``Files=``.
        """
        blocks: list[dict[str, str]] = [{}]
        units: dict[str, dict[str, str]] = {}
        block = blocks[0]
        for line in lines:
            key, equals, value = line.partition("=")
            if line.startswith("unit "):
                block = units.setdefault(line[5:], {})
            elif not line:
                block = {}
                blocks.append(block)
            elif not equals:
                raise ValueError(line)
            else:
                block[key] = value
        blocks = [block for block in blocks if block]
        if len(blocks) != len(units):
            raise ValueError(f"{len(blocks)} units where {len(units)} were asked for")
        return {
            name: UnitState(
                load=b["LoadState"],
                active=b["ActiveState"],
                sub=b["SubState"],
                enabled=b.get("UnitFileState", ""),
                need_daemon_reload=b.get("NeedDaemonReload") == "yes",
                main_pid=int(b.get("MainPID") or 0),
                started_with=more.get("Record", ""),
                configured=more.get("Files", "").partition(" ")[0],
            )
            for b, (name, more) in zip(blocks, units.items(), strict=True)
        }


def checksum(files: tuple[str, ...]) -> StringCommand:
    """Return the command that prints one checksum (sha256) of all files together.

    + files: absolute paths. A missing file counts as empty. A name that begins with ``*`` stands
      for all matching files of its folder
    """
    return StringCommand(_sha256sum(files), "| cut -c1-64") if files else StringCommand("true")


def _sha256sum(files: tuple[str, ...]) -> StringCommand:
    return StringCommand("cat --", *map(_quoted, files), "2>/dev/null | sha256sum")


def _quoted(file: str) -> StringCommand | QuoteString:
    folder, slash, name = file.rpartition("/")
    if not name.startswith("*"):
        return QuoteString(file)
    return StringCommand(QuoteString(folder + slash), "*", QuoteString(name[1:]), _separator="")
