"""Configure the hardware watchdog, and restart a node that reaches no other machine."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from chaos_engine.facts.manifest import DIRECTORY
from chaos_engine.facts.observe import NodeError, Read, observe, warn
from chaos_engine.facts.systemd import Units
from chaos_engine.facts.systemd_files import settings
from chaos_engine.facts.text import setting
from chaos_engine.facts.unit_traces import UNITS
from chaos_engine.facts.watchdog import (
    DROP_IN,
    FLUSH,
    KERNEL,
    LINK_TIMER,
    REBOOT,
    RUNTIME,
    Setting,
    Watchdog,
    WatchdogDropIns,
    WatchdogState,
)
from chaos_engine.operations import files
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, in_files
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File, Unit
from chaos_engine.operations.undo import Undo

CHECK = "/usr/local/sbin/chaos-engine-link-check"
STATE = f"{DIRECTORY}/link-check"
"""A file on the card in which the link check counts how often it has rebooted the node."""
RUN = "/run/chaos-engine/link-check"

_TIMER = Unit(LINK_TIMER)

# Daemons of Debian's package watchdog. Only one program can open the device
_OTHERS = ("watchdog.service", "wd_keepalive.service")


def _reads(config: str, flush: str) -> list[Read]:
    """Return the facts that `configure_watchdog` reads when called with these arguments."""
    wanted, unit = _wanted(config, flush)
    return [
        Read.of(Watchdog),
        Read.of(WatchdogDropIns),
        Read.of(Units, units=tuple((name, ()) for name in _OTHERS)),
        *files.reads(wanted, units=[unit]),
    ]


def _wanted(config: str, flush: str) -> tuple[list[File], Unit]:
    """Return the wanted files and the wanted unit for a node with a watchdog device."""
    return [File(DROP_IN, config), File(f"{UNITS}/{FLUSH}", flush)], Unit(FLUSH)


@converge(reads=_reads)
def configure_watchdog(config: str, flush: str) -> Commands:
    """Make systemd use the node's hardware watchdog, while the node runs and while it shuts down.

    + config: text of the drop-in of ``system.conf``, with RuntimeWatchdogSec, RebootWatchdogSec,
      both or neither
    + flush: text of a unit that writes all data to the card late in a shutdown

    systemd reads the drop-in at each ``systemctl daemon-reload`` (``parse_configuration`` in
    systemd's src/core/main.c). If the node has no watchdog device, the operation prints a warning,
    and removes the drop-in and the unit. If `config` has neither setting, the operation removes
    the drop-in and the unit too. Raises `NodeError` if other settings override `config`, or if
    another program uses the device.

    **Example:** ``configure_watchdog(config="[Manager]\\nRuntimeWatchdogSec=15s\\n...", flush="")``
    """
    found = observe(Watchdog)
    wanted, unit = _wanted(config, flush)
    if not found.device:
        warn(
            "this node has no hardware watchdog (/dev/watchdog0), so nothing resets this node if "
            "it hangs. If this node is a Raspberry Pi, find out why its watchdog is missing: "
            "modprobe bcm2835_wdt; dmesg | grep -i watchdog"
        )
    if not found.device or not seconds(config):
        yield from _remove(wanted, FLUSH, noop="no hardware watchdog is set")
        return
    _check_free(config)
    todo = files.decide(wanted, units=[unit])
    wrong = wrong_values(config, found)
    if not todo:
        because(*(f"set systemd's {name} = {value} (it is {old})" for name, value, old in wrong))
    rewritten = DROP_IN in {file.path for file in todo.write}
    yield from files.transaction(
        todo,
        apply=compose(config) if wrong or rewritten else "",
        noop=f"{DROP_IN}: as wanted",
        force=bool(wrong),
        repairs=[] if todo else [repair(name, value, config) for name, value, _ in wrong],
    )
    if RUNTIME in seconds(config) and not observe(Watchdog).held:
        warn(
            "systemd has not opened /dev/watchdog0, so nothing resets this node if it hangs; look "
            "at: journalctl -b _PID=1 | grep -i watchdog"
        )


def _check_free(config: str) -> None:
    """Raise `NodeError` if `config` would have no effect on the current host."""
    found = observe(WatchdogDropIns)
    if stronger := overrides(config, found):
        raise NodeError(
            f"settings in {DROP_IN} are overridden, because "
            f"{' and '.join(f'{path} sets {name}={value}' for path, name, value in stronger)}; "
            "remove the overriding settings and run again"
        )
    units = observe(Units, units=tuple((name, ()) for name in _OTHERS))
    if busy := [name for name in _OTHERS if units[name].active in ("active", "activating")]:
        raise NodeError(
            f"{busy[0]} uses the hardware watchdog, which only one program can use; either "
            f"disable {busy[0]} (systemctl disable --now {busy[0]}) and run again, or let "
            f"{busy[0]} keep the watchdog: set {setting('watchdog_seconds')} and "
            f"{setting('watchdog_reboot_seconds')} to 0"
        )


def seconds(config: str) -> dict[str, str]:
    """Return the value of each watchdog setting in a drop-in, by name: ``{"...Sec": "15"}``."""
    return {name: _plain(value) for _, name, value in settings(config) if name in (RUNTIME, REBOOT)}


def _plain(value: str) -> str:
    """Return a number of seconds without its unit: ``_plain("15s") == "15"``.

    Other time spans are returned unchanged.
    """
    return re.sub(r"^([0-9]+) *(s|sec|seconds?)$", r"\1", value)


def overrides(config: str, found: Iterable[Setting]) -> list[Setting]:
    """Return the settings with which other files override values of our drop-in.

    This is a pure function.

    + config: text of our drop-in
    + found: all settings, in the order in which they apply
    """
    own = seconds(config)
    last: dict[str, Setting] = {}
    for path, name, value in found:
        later = path == KERNEL or posixpath.basename(path) > posixpath.basename(DROP_IN)
        if later and name in own:
            last[name] = path, name, value
    return [one for one in last.values() if _plain(one[2]) != own[one[1]]]


def wrong_values(config: str, found: WatchdogState) -> list[tuple[str, str, str]]:
    """Return name, wanted value and present value of each setting that is not in force.

    This is a pure function.
    """
    now = {RUNTIME: found.runtime, REBOOT: found.reboot}
    return [
        (name, value, now[name])
        for name, value in seconds(config).items()
        if _plain(now[name]) != value
    ]


def compose(config: str) -> str:
    """Return the shell commands that apply the drop-in and check that systemd uses the drop-in.

    This is a pure function.
    """
    lines = ["systemctl daemon-reload"]
    for name, value in seconds(config).items():
        given = f"systemctl show --property={name.removesuffix('Sec')}USec --value"
        failed = quote(f"systemd does not use {name}={value} from {DROP_IN}")
        lines.append(f'[ "$({given})" = {quote(f"{value}s")} ] || {{ echo {failed} >&2; exit 1; }}')
    return "\n".join(lines)


def repair(name: str, value: str, config: str) -> Repair:
    """Return the `Repair` for a setting that is in the drop-in, but not in force.

    This is a pure function.
    """
    written = f"{File(DROP_IN, config).sha256} {DROP_IN}"
    return Repair(f"systemd's {name}", value, "wrote", written, in_files(DROP_IN))


@converge(reads=lambda wanted, on: [Read.of(Watchdog), *files.reads(wanted, units=[_TIMER])])
def check_link(wanted: Iterable[File], on: bool) -> Commands:
    """Run a timer that checks each minute whether the node reaches any other machine.

    + wanted: the files: a script and the units that call it. If no machine answers, the script
      restarts the link, and later the node
    + on: whether the timer shall run. If not, the files are removed

    Raises `NodeError` if the node lacks the program ping.

    **Example:** ``check_link(name="Check the network link", wanted=[File(...)], on=True)``
    """
    wanted = tuple(wanted)
    if on and not observe(Watchdog).ping:
        raise NodeError(
            "this node lacks the program ping, which the check of the network link needs; install "
            "ping: apt-get install iputils-ping"
        )
    if not on:
        yield from _remove(wanted, LINK_TIMER, noop="the network link is not checked")
        return
    todo = files.decide(wanted, units=[_TIMER])
    yield from files.transaction(todo, noop=f"{LINK_TIMER}: as wanted")


def _remove(wanted: Iterable[File], unit: str, noop: str) -> Commands:
    """Stop and disable a unit, then remove its file and the other files.

    + wanted: the files, with the unit's file among them
    + noop: what pyinfra's ``-v`` shows if nothing has to be done
    """
    todo, stop = files.decide_removal(unit, [file.path for file in wanted])
    yield from files.transaction(
        todo,
        before=stop,
        apply="systemctl daemon-reload" if DROP_IN in todo.remove else "",
        noop=noop,
    )


UNDO = Undo(
    first=f"stop_unit {LINK_TIMER}; stop_unit {LINK_TIMER.replace('timer', 'service')}",
    stopped=f"rm -rf -- {STATE} {STATE}.new {RUN}",
    removed={DROP_IN: "systemctl daemon-reload"},
)
