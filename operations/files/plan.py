"""Decide what has to be done to files and units, from what was found: pure functions."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from chaos_engine.facts.files import FileState
from chaos_engine.facts.systemd import UnitState
from chaos_engine.facts.unit_traces import UNITS, UnitTraces
from chaos_engine.operations.engine.reasons import listed
from chaos_engine.operations.engine.repairs import Repair, of_file, of_removal, of_unit
from chaos_engine.operations.files.model import File, Plan, Unit, unit_files, wanted_links
from chaos_engine.operations.files.replaceable import check_replaceable


def plan(
    files: Iterable[File],
    absent: Iterable[str],
    units: Iterable[Unit],
    found: Mapping[str, FileState],
    states: Mapping[str, UnitState],
    traces: Mapping[str, UnitTraces],
    besides: Iterable[str] = (),
) -> Plan:
    """Decide what has to be done, from what was found: a pure function.

    + files, absent, units: as `install` takes them
    + found: state of each path that is there
    + states: state of each unit, by name
    + traces: what earlier installations have left of the units among `files`, by name
    + besides: other paths that the operation's own script will write, replace or remove

    Such traces are removed: links that start the unit, and a unit file of the same name in the
    packages' folder, which would take effect once undo removes ours. Raises `NodeError` that names
    all paths that cannot be replaced (`chaos_engine.operations.files.replaceable`).
    """
    units = tuple(units)
    wanted = (*files, *(unit.record for unit in units if unit.reads))
    write = tuple(file for file in wanted if not file.matches(found.get(file.path)))
    left = tuple(one.vendor_file for one in traces.values() if one.vendor_file)
    remove = (*(path for path in absent if path in found), *left)
    touched = {*(file.path for file in write), *remove}
    merged = (file.path for file in write if file.merged)
    check_replaceable(sorted({*touched, *besides}), found, merged)
    in_systemd = {path for path in touched if path.startswith(f"{UNITS}/")}
    links = {posixpath.basename(file.path): wanted_links(file) for file in unit_files(wanted)}

    start, restart, stop, unmask, enable, reenable, disable = [], [], [], [], [], [], []
    cause: dict[str, list[str]] = {}
    for unit in units:
        state = states.get(unit.name)
        active = state is not None and state.active in ("active", "reloading")
        read = {p for p in touched for r in unit.reads if fnmatch.fnmatchcase(p, r)}
        its_own = read | {path for path in in_systemd if f"/{unit.name}" in path}
        if its_own:
            cause[unit.name] = sorted(its_own)
        if unit.running and not active:
            start.append(unit)
        elif unit.running and state is not None:
            file = only_read(unit, wanted)
            # if the file differs, it is written, and so among `its_own` anyway
            stale = state.stale if file is None else state.started_with != file.sha256
            if its_own or state.need_daemon_reload or (unit.reads and stale):
                restart.append(unit)
        elif unit.running is False and state is not None and state.active != "inactive":
            stop.append(unit)
        enabled = state is not None and state.enabled in ("enabled", "alias", "static")
        if unit.enabled and not enabled:
            enable.append(unit)
            if state is not None and state.enabled.startswith("masked"):
                unmask.append(unit)
        elif unit.enabled and unit.name in traces and traces[unit.name].links != links[unit.name]:
            reenable.append(unit)
        elif unit.enabled is False and state is not None and state.enabled == "enabled":
            disable.append(unit)
    decided = Plan(
        write,
        remove,
        any("/systemd/system/" in path and not _unit_missing(path, states) for path in touched)
        or any(s.need_daemon_reload for s in states.values()),
        tuple(stop),
        tuple(start),
        tuple(restart),
        tuple(unmask),
        tuple(enable),
        tuple(reenable),
        tuple(disable),
    )
    return replace(
        decided,
        why=tuple(_why(decided, found, states, cause)),
        repairs=tuple(_repairs(decided, found, cause)),
    )


def _repairs(
    todo: Plan, found: Mapping[str, FileState], cause: Mapping[str, object]
) -> Iterator[Repair]:
    """Return the things of a plan that an earlier run may have set already.

    + cause: as `_why` takes it. A unit whose files change is left out: the files stand for it
    """
    for file in todo.write:
        how = f"{file.mode} {file.owner}:{file.group}"
        state = found.get(file.path)
        yield of_file(file.path, file.sha256, how, state.sha256 if state else None)
    for path in todo.remove:
        state = found.get(path)
        yield of_removal(path, state.sha256 if state else None)
    units = (*todo.start, *todo.stop, *todo.enable, *todo.reenable, *todo.disable)
    for unit in dict.fromkeys(units):
        if unit.name not in cause:
            yield of_unit(unit.name, f"running {unit.running}, enabled {unit.enabled}")


def _why(
    todo: Plan,
    found: Mapping[str, FileState],
    states: Mapping[str, UnitState],
    cause: Mapping[str, list[str]],
) -> Iterator[str]:
    """Say what a plan does, each thing with what was found.

    + cause: the files that change, by the name of the unit that reads them
    """
    absent, other, kind, rights = [], [], [], []
    for file in todo.write:
        state = found.get(file.path)
        if state is None:
            absent.append(file.path)
        elif state.kind != "file":
            kind.append(f"write {file.path}, where a {state.kind} is")
        elif state.sha256 != file.sha256:
            other.append(file.path)
        else:
            rights.append(f"give {file.path} {file.mode} {file.owner}:{file.group}")
    yield from listed("write", absent, "(not there)")
    yield from listed("write", other, "(other content)")
    yield from (*kind, *rights)
    yield from listed("remove", todo.remove)
    yield from listed("unmask", (unit.name for unit in todo.unmask))
    yield from listed("enable", (unit.name for unit in (*todo.enable, *todo.reenable)))
    yield from listed("disable", (unit.name for unit in todo.disable))
    yield from listed("stop", (unit.name for unit in todo.stop))
    yield from listed("start", (unit.name for unit in todo.start))
    for unit in todo.restart:
        if paths := cause.get(unit.name):
            why = f"{paths[0]} changes" if len(paths) == 1 else f"{len(paths)} of its files change"
        elif states[unit.name].need_daemon_reload:
            why = "systemd has not read its files since they changed"
        else:
            why = "it runs with another configuration than its files have"
        yield f"restart {unit.name}: {why}"
    if todo.daemon_reload and not any((todo.write, todo.remove, todo.start, todo.restart)):
        yield "have systemd read its files anew"


def only_read(unit: Unit, files: Iterable[File]) -> File | None:
    """Return the one file that a unit reads, if it is among these; ``None`` otherwise.

    The unit's checksum is then that file's. It need not be computed twice: for a large program that
    takes a while on a Pi.
    """
    return next((file for file in files if unit.reads == (file.path,)), None)


def _unit_missing(path: str, states: Mapping[str, UnitState]) -> bool:
    """Tell whether a path is a drop-in of a unit that is not installed yet.

    systemd need not be reloaded for it: the installation of the unit does that.
    """
    folder = posixpath.basename(posixpath.dirname(path))
    unit = states.get(folder.removesuffix(".d"))
    return folder.endswith(".d") and unit is not None and unit.load == "not-found"
