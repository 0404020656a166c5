"""Read which service sets a node's clock, from which servers, and whether the clock is right."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.health import limited
from chaos_engine.facts.observe import ComposedFact, Read, Value, YesOrNo
from chaos_engine.facts.quiet import DROP_IN_FOLDERS, TIMESYNCD
from chaos_engine.facts.systemd import UnitProperties
from chaos_engine.facts.systemd_files import effective, files_in, settings, texts_of

CHRONY = "chrony.service"
OTHERS = ("ntpsec.service", "ntp.service", "openntpd.service")
"""Time services whose servers this package does not set."""

TIMESYNCD_CONF = f"{DROP_IN_FOLDERS['timesyncd.conf'][0]}/90-chaos-engine-servers.conf"
CHRONY_MAIN = "/etc/chrony/chrony.conf"
CHRONY_FOLDER = "/etc/chrony/conf.d"
CHRONY_CONF = f"{CHRONY_FOLDER}/90-chaos-engine.conf"

_SERVICES = (TIMESYNCD, CHRONY, *OTHERS)
_RUNS = ("active", "activating", "reloading")

# The kernel's clock is synchronised if its estimated error is below 16 s. The error grows while no
# server answers, so the answer becomes "no" after nine hours without a server (`ntp_synced` in
# systemd's src/basic/time-util.c, `second_overflow` in Linux's kernel/time/ntp.c)
_SYNCHRONISED = "timedatectl show --property=NTPSynchronized --value | grep -qx yes"


@dataclass(frozen=True)
class TimeSources(Value):
    """What the files of the time services say about servers.

    + reset_by: path of a drop-in of timesyncd that removes the servers of `TIMESYNCD_CONF`, or ""
    + chrony_reads: whether chrony reads the files in `CHRONY_FOLDER`
    + strict: the setting that may keep chrony from using servers without authentication, and the
      path of its file, such as "authselectmode require in /etc/chrony/chrony.conf"; "" if there is
      none
    """

    reset_by: str
    chrony_reads: bool
    strict: str


class TimeServices(ComposedFact[tuple[str, ...]]):
    """The units of the time services that run on the node.

    **Example:** ``host.get_fact(TimeServices) == ("systemd-timesyncd.service",)``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (Read.of(UnitProperties, units=_SERVICES),)

    @override
    def compose(self, units: dict[str, dict[str, str]]) -> tuple[str, ...]:
        return tuple(name for name in _SERVICES if units[name]["ActiveState"] in _RUNS)


class ServerSettings(ComposedFact[TimeSources]):
    """What the files of timesyncd and chrony say about servers.

    **Example:** ``host.get_fact(ServerSettings).chrony_reads``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        drop_ins = files_in(DROP_IN_FOLDERS["timesyncd.conf"])
        chrony = (CHRONY_MAIN, f"{CHRONY_FOLDER}/*.conf")
        return (Read.of(Texts, patterns=(*drop_ins, *chrony)),)

    @override
    def compose(self, texts: dict[str, bytes | None]) -> TimeSources:
        found = texts_of(texts)
        ours = posixpath.basename(TIMESYNCD_CONF)
        reset_by = [
            path
            for path, text in effective(found, DROP_IN_FOLDERS["timesyncd.conf"])
            if posixpath.basename(path) > ours
            for section, name, value in settings(text)
            if (section, name, value) == ("Time", "NTP", "")
        ]
        chrony = list(chrony_directives(found))
        own = [number for number, (path, _) in enumerate(chrony) if path == CHRONY_CONF]
        later = chrony[own[-1] + 1 :] if own else []
        strict = [
            f"{' '.join(words)} in {path}" for path, words in later if words[0] == "authselectmode"
        ]
        return TimeSources("".join(reset_by[-1:]), bool(own), "".join(strict[-1:]))


def chrony_directives(found: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield path and words of each directive of chrony, in the order in which chrony reads them.

    This is a pure function.

    + found: the texts of `CHRONY_MAIN` and of the files in `CHRONY_FOLDER`, by path. The result has
      a directive ``-`` at the place of `CHRONY_CONF`, even if there is no such file yet

    The rules are in chrony.conf(5). A line that begins with ``!``, ``;``, ``#`` or ``%`` is a
    comment. Names of directives are not case-sensitive. ``confdir`` reads the files of its folders
    that end with ``.conf``, in the order of their names. ``include`` takes a pattern. Other files
    that chrony may include are not read here.
    """
    places = sorted({*(path for path in found if path != CHRONY_MAIN), CHRONY_CONF})
    for name, *words in _lines(found.get(CHRONY_MAIN, "")):
        if name == "confdir":
            patterns = [f"{folder.rstrip('/')}/*.conf" for folder in words]
        elif name == "include":
            patterns = words[:1]
        else:
            yield CHRONY_MAIN, [name, *words]
            continue
        for path in places:
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
                if path == CHRONY_CONF:
                    yield path, ["-"]
                else:
                    yield from ((path, line) for line in _lines(found[path]))


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each directive in a file of chrony. The first word is in lower case."""
    for line in text.splitlines():
        name, *words = line.split() or ["#"]
        if name[0] not in "!;#%":
            yield [name.lower(), *words]


class ClockSynchronised(YesOrNo):
    """Whether a time server has set the node's clock, and has answered within the last hours.

    **Example:** ``host.get_fact(ClockSynchronised)``
    """

    @override
    def command(self) -> str:
        return f"if {limited(_SYNCHRONISED)}; then echo yes; else echo no; fi"


NOT_SYNCHRONISED = (
    "the clock is not synchronised: no time server has set it in this boot, or none has answered "
    "for hours; look at: timedatectl timesync-status, or with chrony: chronyc -n sources"
)
