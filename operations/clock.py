"""Set the time servers of a node, and keep kubelet back at boot until the clock is right."""

from __future__ import annotations

from collections.abc import Iterable

from chaos_engine.facts.clock import (
    CHRONY,
    CHRONY_CONF,
    CHRONY_FOLDER,
    CHRONY_MAIN,
    OTHERS,
    TIMESYNCD_CONF,
    ServerSettings,
    TimeServices,
    TimeSources,
)
from chaos_engine.facts.files import Files, FileState
from chaos_engine.facts.observe import NodeError, Read, observe, warn
from chaos_engine.facts.quiet import TIMESYNCD
from chaos_engine.facts.unit_traces import UNITS
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import DomainName
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.files import File, Unit
from chaos_engine.operations.quiet import TIMESYNCD_UNIT
from chaos_engine.templates import render

CHRONY_UNIT = Unit(CHRONY, reads=(CHRONY_CONF,), enabled=None)

WAIT = "chaos-engine-clock.service"
"""The unit that kubelet waits for at boot."""
PROGRAM = "/usr/local/sbin/chaos-engine-wait-for-clock"

INSTALL = "apt-get install systemd-timesyncd"

Wanted = tuple[list[File], list[str], list[Unit]]
"""The files to write, the paths to remove, and the units that read the files."""

_RECORDS = (TIMESYNCD_UNIT.record.path, CHRONY_UNIT.record.path)


def _reads(servers: Iterable[str] = ()) -> list[Read]:
    """Return the facts that `set_time_servers` reads when called with these arguments."""
    servers = tuple(servers)
    # Without servers and without a record of earlier ones, it does not matter which service runs
    services = [TIMESYNCD, CHRONY] if servers else [""]
    asked = [read for name in services for read in files.reads(*wanted([name], (), servers))]
    return [
        Read.of(TimeServices),
        *([Read.of(ServerSettings)] if servers else []),
        Read.of(Files, paths=_RECORDS),
        *dict.fromkeys(asked),
    ]


_UNITS = {TIMESYNCD: TIMESYNCD_UNIT, CHRONY: CHRONY_UNIT}


def server_files(servers: Iterable[str]) -> dict[str, File]:
    """Return the file that names the servers for each time service, by the service's unit."""
    servers = tuple(servers)
    return {
        TIMESYNCD: File(TIMESYNCD_CONF, render("clock-timesyncd.conf.j2", servers=servers)),
        CHRONY: File(CHRONY_CONF, render("clock-chrony.conf.j2", servers=servers)),
    }


@converge(reads=_reads)
def set_time_servers(servers: Iterable[DomainName] = ()) -> Commands:
    """Set the servers that systemd-timesyncd or chrony asks for the time.

    + servers: names or addresses of the servers. If there are none, the system's own servers stay,
      and servers that an earlier run has set are removed

    systemd-timesyncd asks these servers, and those that systemd-networkd has got by DHCP. chrony
    prefers these servers to its other ones.

    Warns if no time service runs. Raises `NodeError` if servers are given, but no service of these
    two runs, or if the service's configuration does not let it use the servers.

    **Example:** ``set_time_servers(name="Set the time servers", servers=["192.168.1.1"])``
    """
    servers = tuple(servers)
    services = observe(TimeServices)
    if servers:
        if problem := "; ".join(refusals(services, observe(ServerSettings))):
            raise NodeError(problem)
    elif not services:
        warn(
            "no time service runs on this node, so its clock may be wrong, and kubelet does not "
            f"wait at boot until it is right; install one: {INSTALL}"
        )
    found: dict[str, FileState] = observe(Files, paths=_RECORDS)
    present, absent, units = wanted(services, found, servers)
    todo = files.decide(present, absent, units)
    yield from files.transaction(todo, noop="the time servers are as wanted")


def refusals(services: Iterable[str], found: TimeSources) -> Iterable[str]:
    """Yield each reason why the node cannot use the given servers, and what to do.

    This is a pure function.

    + services: the units of the time services that run
    + found: what the services' files say
    """
    others = [name for name in services if name in OTHERS]
    if others:
        yield (
            f"the time servers cannot be set, because {others[0]} sets this node's clock; either "
            f"set them in its own configuration, and not here, or replace it: {INSTALL}"
        )
    elif not services:
        yield (
            "the time servers cannot be set, because no time service runs on this node; install "
            f"one, and run again: {INSTALL}"
        )
    if TIMESYNCD in services and found.reset_by:
        yield (
            f"the time servers in {TIMESYNCD_CONF} are overridden, because {found.reset_by} sets "
            "NTP= to nothing; remove this line and run again"
        )
    if CHRONY in services and not found.chrony_reads:
        yield (
            f"{CHRONY_MAIN} does not read {CHRONY_FOLDER}, which the time servers are written to; "
            f"add the line: confdir {CHRONY_FOLDER}"
        )
    if CHRONY in services and found.strict:
        yield (
            f"chrony may refuse the time servers, because of {found.strict}; remove this line and "
            "run again"
        )


def wanted(services: Iterable[str], found: Iterable[str], servers: Iterable[str]) -> Wanted:
    """Return the files to write, the paths to remove, and the units that read the files.

    This is a pure function.

    + services: the units of the time services that run
    + found: the paths in `_RECORDS` that exist. If a unit's record exists, an earlier run has set
      the unit's servers, so the unit is restarted if its files have changed since its start
    + servers: the servers, none for the system's own
    """
    services, found, servers = set(services), set(found), tuple(servers)
    present: list[File] = []
    absent: list[str] = []
    units: list[Unit] = []
    for name, file in server_files(servers).items():
        here = name in services
        if servers and here:
            present.append(file)
        else:
            absent.append(file.path)
        if here and (servers or _UNITS[name].record.path in found):
            units.append(_UNITS[name])
    return present, absent, units


def wait_files(seconds: int) -> list[File]:
    """Return the program that waits for the clock, and the unit that calls it.

    + seconds: how long the program waits at most

    systemd's own systemd-time-wait-sync.service is not used: everything that is ordered after
    time-sync.target would wait too, such as all timers with a calendar time (systemd.timer(5)). It
    waits without limit, or fails. Debian has it in the package systemd-timesyncd, which a node with
    chrony lacks. A command in kubelet's own unit would wait again at each restart of kubelet.
    """
    return [
        File(PROGRAM, render("clock-wait.j2", seconds=seconds), mode="755"),
        File(f"{UNITS}/{WAIT}", render("clock-wait.service.j2", program=PROGRAM, seconds=seconds)),
    ]


_WAIT_UNIT = Unit(WAIT, running=None)


def _wait_reads(seconds: int) -> list[Read]:
    """Return the facts that `hold_kubelet` reads when called with these arguments."""
    wanted = wait_files(seconds)
    return [Read.of(TimeServices), *files.reads(wanted, units=[_WAIT_UNIT])]


@converge(reads=_wait_reads)
def hold_kubelet(seconds: int) -> Commands:
    """Keep kubelet back at boot until the clock is synchronised.

    + seconds: how long kubelet waits at most; 0 for not at all

    A Raspberry Pi starts with an old time. Until a time server has answered, certificates seem not
    yet valid, and kubelet and the API server fail. Only kubelet waits, and only at its first start
    in a boot. It starts in any case after `seconds`. On a node where no time service runs, kubelet
    does not wait.

    **Example:** ``hold_kubelet(name="Keep kubelet back until the clock is right", seconds=120)``
    """
    wanted = wait_files(seconds)
    if seconds and observe(TimeServices):
        todo = files.decide(wanted, units=[_WAIT_UNIT])
        yield from files.transaction(todo, noop=f"{WAIT}: as wanted")
        return
    todo, stop = files.decide_removal(WAIT, [file.path for file in wanted])
    yield from files.transaction(todo, before=stop, noop="kubelet does not wait for the clock")
