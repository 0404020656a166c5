"""What else there is of a systemd unit than its file: what an earlier installation has left."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field

from pyinfra.api.command import QuoteString, StringCommand
from typing_extensions import override

from chaos_engine.facts.observe import SeveralFact, Value
from chaos_engine.facts.text import several

UNITS = "/etc/systemd/system"
VENDOR = "/usr/lib/systemd/system"


@dataclass(frozen=True)
class UnitTraces(Value):
    """Of one unit: `vendor_file` is a file of its name among those of packages, but of no package,
    "" if there is none; `links` are targets by path, ``{".../multi-user.target.wants/a.service":
    "/etc/systemd/system/a.service"}``, which start it with another unit."""

    vendor_file: str = ""
    links: dict[str, str] = field(default_factory=dict)


class Traces(SeveralFact[UnitTraces]):
    """Traces of each unit, by its name.

    + units: names with their suffix

    **Example:** ``host.get_fact(Traces, units=("docker_haproxy.service",))``
    """

    argument = "units"

    @override
    def command(self, units: tuple[str, ...] | str) -> StringCommand:
        names = [QuoteString(unit) for unit in several(units)]
        links: list[str | QuoteString] = []
        for name in names:
            links += ["-o -name", name]
        return StringCommand(
            "for unit in",
            *names,
            '; do echo "unit $unit";',
            f'if [ -e "{VENDOR}/$unit" ] || [ -L "{VENDOR}/$unit" ]; then',
            # Packages know it as /lib or /usr/lib
            '[ -n "$(dpkg-query -S "*/systemd/system/$unit" 2>/dev/null)" ] ||',
            f'echo "file {VENDOR}/$unit"; fi; done;',
            f"find {UNITS} -mindepth 2 -maxdepth 2 -type l '(' -false",
            *links,
            "')' -printf 'link %p %l\\n'",
        )

    @override
    def parse(self, lines: list[str]) -> dict[str, UnitTraces]:
        return parse_traces(lines)


def parse_traces(lines: list[str]) -> dict[str, UnitTraces]:
    """Read ``unit NAME`` lines, each with a ``file PATH`` behind it or none, and then the
    ``link PATH TARGET`` lines of all."""
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
