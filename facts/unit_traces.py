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


_COMMAND = f"""\
for unit; do
  echo "unit $unit"
  if [ -e {VENDOR}/"$unit" ] || [ -L {VENDOR}/"$unit" ]; then
    # Packages know it as /lib or /usr/lib
    [ -n "$(dpkg-query -S "*/systemd/system/$unit" 2>/dev/null)" ] || echo "file {VENDOR}/$unit"
  fi
  find {UNITS} -mindepth 2 -maxdepth 2 -type l -name "$unit" -printf 'link %p %l\\n'
done
"""


class Traces(SeveralFact[UnitTraces]):
    """Traces of each unit, by its name.

    + units: names with their suffix

    **Example:** ``host.get_fact(Traces, units=("docker_haproxy.service",))``
    """

    argument = "units"

    @override
    def command(self, units: tuple[str, ...] | str) -> StringCommand:
        names = (QuoteString(unit) for unit in several(units))
        return StringCommand("sh -c", QuoteString(_COMMAND), "sh", *names)

    @override
    def parse(self, lines: list[str]) -> dict[str, UnitTraces]:
        return parse_traces(lines)


def parse_traces(lines: list[str]) -> dict[str, UnitTraces]:
    """Read ``unit NAME`` lines, each followed by ``file PATH`` and ``link PATH TARGET`` lines."""
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
            links[name][path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        else:
            raise ValueError(line)
    return {name: UnitTraces(files[name], links[name]) for name in files}
