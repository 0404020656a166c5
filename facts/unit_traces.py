"""Read leftovers of an earlier installation's systemd units: unit files and links to units."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import SeveralFact, Value
from chaos_engine.facts.text import as_tuple

UNITS = "/etc/systemd/system"
VENDOR = "/usr/lib/systemd/system"


@dataclass(frozen=True)
class UnitTraces(Value):
    """The leftovers of a systemd unit.

    + vendor_file: path of the unit's file in ``/usr/lib/systemd/system`` if the file belongs to no
      package, else ""
    + links: the symbolic links by which other units start this unit. The links are in folders below
      ``/etc/systemd/system``. A key is a link's path, and the value is the link's target:
      ``{".../multi-user.target.wants/a.service": "/etc/systemd/system/a.service"}``
    """

    vendor_file: str = ""
    links: dict[str, str] = field(default_factory=dict)


class Traces(SeveralFact[UnitTraces]):
    """The leftovers of each systemd unit, by the unit's name.

    + units: names of units, with suffix

    **Example:** ``host.get_fact(Traces, units=("docker_haproxy.service",))``
    """

    argument = "units"

    @override
    def command(self, units: tuple[str, ...] | str) -> StringCommand:
        names = [QuoteString(unit) for unit in as_tuple(units)]
        links = (StringCommand("-o -name", name) for name in names)
        return StringCommand(
            "for unit in",
            *names,
            '; do echo "unit $unit";',
            f'if [ -e "{VENDOR}/$unit" ] || [ -L "{VENDOR}/$unit" ]; then',
            # A package may have the unit's file in /lib or in /usr/lib
            '[ -n "$(dpkg-query -S "*/systemd/system/$unit" 2>/dev/null)" ] ||',
            f'echo "file {VENDOR}/$unit"; fi; done;',
            f"find {UNITS} -mindepth 2 -maxdepth 2 -type l '(' -false",
            *links,
            "')' -printf 'link %p %l\\n'",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, UnitTraces]:
        """Read a line ``unit NAME`` for each unit, then a line ``link PATH TARGET`` for each link.

        After a unit's line there may be a line ``file PATH``.
        """
        files: dict[str, str] = {}
        links: dict[str, dict[str, str]] = {}
        name = ""
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "unit":
                name = rest
                files[name], links[name] = "", {}
            elif word == "file":
                files[name] = rest
            elif word == "link":
                path, target = rest.split(" ")
                folder, unit = posixpath.split(path)
                links[unit][path] = posixpath.normpath(posixpath.join(folder, target))
            else:
                raise ValueError(line)
        return {name: UnitTraces(files[name], links[name]) for name in files}
