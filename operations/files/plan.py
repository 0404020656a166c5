"""Compare a node's files and units with the wanted ones, and make a plan: pure functions."""

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
    """Decide what has to be done to files and units. This is a pure function.

    + files, absent, units: as `install` takes them
    + found: state of each path that exists, by path
    + states: state of each unit, by the unit's name
    + traces: leftovers of earlier installations, by the unit's name. Only the units whose unit
      files are among `files` have an entry
    + besides: paths that other commands of the operation will write, replace or remove

    An earlier installation may have left links that start a unit in another way. The plan replaces
    these links. The earlier installation may also have left a file of the unit in
    ``/usr/lib/systemd/system``. The plan removes this file if it belongs to no package, because
    systemd would use this file after undo.

    Raises one `NodeError` that names all paths that cannot be replaced.
    """
    units = tuple(units)
    wanted = (*files, *(unit.record for unit in units if unit.reads))
    write = tuple(file for file in wanted if not file.matches(found.get(file.path)))
    vendor_files = (one.vendor_file for one in traces.values() if one.vendor_file)
    remove = (*(path for path in absent if path in found), *vendor_files)
    touched = {*(file.path for file in write), *remove}
    merged = (file.path for file in write if file.merged)
    check_replaceable(sorted({*touched, *besides}), found, merged)
    links = {posixpath.basename(file.path): wanted_links(file) for file in unit_files(wanted)}
    actions: dict[Unit, set[str]] = {}
    changing = {unit.name: paths for unit in units if (paths := _changing(unit, touched))}
    for unit in units:
        state, one = states.get(unit.name), traces.get(unit.name)
        foreign_links = one is not None and one.links != links[unit.name]
        actions[unit] = {
            _to_run(unit, state, unit.name in changing, only_read(unit, wanted)),
            *_to_enable(unit, state, foreign_links),
        }

    def units_to(action: str) -> tuple[Unit, ...]:
        return tuple(unit for unit in units if action in actions[unit])

    decided = Plan(
        write,
        remove,
        any("/systemd/system/" in path and not _unit_missing(path, states) for path in touched)
        or any(s.need_daemon_reload for s in states.values()),
        stop=units_to("stop"),
        start=units_to("start"),
        restart=units_to("restart"),
        unmask=units_to("unmask"),
        enable=units_to("enable"),
        reenable=units_to("reenable"),
        disable=units_to("disable"),
    )
    return replace(
        decided,
        why=tuple(_why(decided, found, states, changing)),
        repairs=tuple(_repairs(decided, found, changing)),
    )


def _changing(unit: Unit, touched: Iterable[str]) -> list[str]:
    """Return the paths in `touched` that belong to a unit.

    They are the unit's own file, its drop-ins, and the files that the unit reads.
    """
    return sorted(
        path
        for path in touched
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in unit.reads)
        or (
            path.startswith(f"{UNITS}/")
            and {unit.name, f"{unit.name}.d"}.intersection(path.split("/"))
        )
    )


def _to_run(unit: Unit, state: UnitState | None, changes: bool, file: File | None) -> str:
    """Return what has to be done to a unit: "start", "restart" or "stop"; "" for nothing.

    + changes: whether a file of the unit is written or removed
    + file: the only file that the unit reads, as `only_read` returns it
    """
    if unit.running and (state is None or state.active not in ("active", "reloading")):
        return "start"
    if state is None:
        return ""
    if unit.running:
        # If the node's file differs from `file`, it is written, and so `changes` is true
        stale = state.stale if file is None else state.started_with != file.sha256
        old = changes or state.need_daemon_reload or (unit.reads and stale)
        return "restart" if old else ""
    return "stop" if unit.running is False and state.active != "inactive" else ""


def _to_enable(unit: Unit, state: UnitState | None, foreign_links: bool) -> tuple[str, ...]:
    """Return the systemctl commands that enable or disable a unit as wanted; () for none.

    The commands are among "unmask", "enable", "reenable" and "disable".

    + foreign_links: whether the links that start the unit differ from the links that its unit file
      asks for
    """
    enabled = state.enabled if state else ""
    if unit.enabled and enabled not in ("enabled", "alias", "static"):
        return ("unmask", "enable") if enabled.startswith("masked") else ("enable",)
    if unit.enabled:
        return ("reenable",) if foreign_links else ()
    return ("disable",) if unit.enabled is False and enabled == "enabled" else ()


def _repairs(
    todo: Plan, found: Mapping[str, FileState], changing: Mapping[str, object]
) -> Iterator[Repair]:
    """Return a `Repair` for each file and for each unit that a plan sets.

    + changing: the files that are written or removed, by the name of the unit that they belong to.
      These files get a `Repair` each, so their unit gets none
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
        if unit.name not in changing:
            yield of_unit(unit.name, f"running {unit.running}, enabled {unit.enabled}")


def _why(
    todo: Plan,
    found: Mapping[str, FileState],
    states: Mapping[str, UnitState],
    changing: Mapping[str, list[str]],
) -> Iterator[str]:
    """Return the reasons of a plan: what it does, and how the node differs from the wanted state.

    + changing: the files that are written or removed, by the name of the unit that they belong to
    """
    absent, other, kind, rights = [], [], [], []
    for file in todo.write:
        state = found.get(file.path)
        if state is None:
            absent.append(file.path)
        elif state.kind != "file":
            kind.append(f"write {file.path} in place of a {state.kind}")
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
        if paths := changing.get(unit.name):
            why = f"{paths[0]} changes" if len(paths) == 1 else f"{len(paths)} of its files change"
        elif states[unit.name].need_daemon_reload:
            why = "systemd has not read its changed unit files"
        else:
            why = "it was started with a different configuration"
        yield f"restart {unit.name}: {why}"
    if todo.daemon_reload and not any((todo.write, todo.remove, todo.start, todo.restart)):
        yield "run systemctl daemon-reload: systemd has not read changed unit files"


def only_read(unit: Unit, files: Iterable[File]) -> File | None:
    """Return the file that a unit reads, if it reads only one file.

    Returns ``None`` if the unit reads several files or none, or if its file is not among `files`.

    The fact `Files` has this file's checksum already, so the fact `Units` need not compute it.
    The checksum of a large program takes long on a Pi.
    """
    return next((file for file in files if unit.reads == (file.path,)), None)


def _unit_missing(path: str, states: Mapping[str, UnitState]) -> bool:
    """Tell whether a path is a drop-in of a unit that is not installed yet.

    Such a drop-in needs no reload of systemd now, because installing the unit reloads systemd.
    """
    folder = posixpath.basename(posixpath.dirname(path))
    unit = states.get(folder.removesuffix(".d"))
    return folder.endswith(".d") and unit is not None and unit.load == "not-found"
