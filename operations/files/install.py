"""Write and remove files, and run the units that read them, in one transaction."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import replace

from pyinfra import logger
from pyinfra.operations.util.files import generate_color_diff

from chaos_engine.facts.files import Content, Files, FileState
from chaos_engine.facts.observe import Preparation, Read, current, observe, of_host
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.systemd import Units
from chaos_engine.facts.unit_traces import UNITS, Traces
from chaos_engine.operations.engine.arguments import AbsolutePath
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, warn_of_repeats
from chaos_engine.operations.engine.shell import for_concern, quote, shell_command
from chaos_engine.operations.files.model import File, Plan, Unit, unit_files
from chaos_engine.operations.files.plan import only_read, plan
from chaos_engine.operations.files.replaceable import with_folders
from chaos_engine.operations.files.script import compose, payload


def reads(
    files: Iterable[File] = (),
    absent: Iterable[str] = (),
    units: Iterable[Unit] = (),
    check: str = "",
    apply: str = "",
) -> list[Read]:
    """Return the facts that `install` reads when called with these arguments."""
    files, units = tuple(files), tuple(units)
    paths, pairs = _questions(files, absent, units)
    result = [Read.of(Files, paths=paths)] if paths else []
    if pairs:
        result.append(Read.of(Units, units=pairs))
    if names := _unit_file_names(files):
        result.append(Read.of(Traces, units=names))
    if current()[0].config.DIFF:
        result += [Read.of(Content, path=file.path) for file in files if not file.secret]
    return [*result, Read.of(Repairs)]


def _questions(
    files: Iterable[File], absent: Iterable[str], units: Iterable[Unit]
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
    """Return the argument of the fact `Files` and the argument of the fact `Units`.

    The argument of `Files` has the paths to look at. The argument of `Units` has a pair for each
    unit: the unit's name, and the files whose checksum the node has to compute.
    """
    files, units = tuple(files), tuple(units)
    records = (unit.record.path for unit in units if unit.reads)
    paths = with_folders((*(file.path for file in files), *records, *absent))
    return paths, tuple((u.name, () if only_read(u, files) else u.reads) for u in units)


def _unit_file_names(files: Iterable[File]) -> tuple[str, ...]:
    """Return the names of the units whose unit files are among these files."""
    return tuple(posixpath.basename(file.path) for file in unit_files(files))


@converge(reads=reads)
def install(
    files: Iterable[File] = (),
    absent: Iterable[AbsolutePath] = (),
    units: Iterable[Unit] = (),
    check: str = "",
    apply: str = "",
) -> Commands:
    """Write and remove files, and run the units that read them: all or nothing.

    + files: the files that shall be on the node. Only those that differ are sent to the node
    + absent: paths that shall not exist. Before a file is removed, a copy for undo is saved under
      ``/var/lib/chaos-engine``
    + units: the systemd units that read the files. A unit is restarted if its files change
    + check: shell command that fails if the new files are bad. It runs before the new files are in
      place. At that time, the new ``/etc/a`` is at ``/etc/.a.chaos``, and a copy of it is at
      ``"$stage"/etc/a``. A file that is secret or larger than 1 MiB has no such copy
    + apply: shell command that makes the files effective. It runs with the umask 077. At that time
      the new files are in place, and no unit is restarted yet

    Each new file is written beside its path, checked, flushed to disk and then renamed. So a reader
    never sees half a file. If `apply` fails, the old files are restored. If a required unit does
    not start, the old files are restored and the unit is started with them. A power cut can leave
    some files new and others old. The next run fixes this. Raises `NodeError` if a path cannot be
    replaced.

    **Example:**

    .. code:: python

        install(
            name="Limit the journal",
            files=[File("/etc/systemd/journald.conf.d/90-limit.conf", "[Journal]\\n...")],
            units=[Unit("systemd-journald.service", reads=("/etc/systemd/...",))],
        )
    """
    files, units = tuple(files), tuple(units)
    names = ", ".join([*(f.path for f in files), *(u.name for u in units)])
    yield from transaction(decide(files, absent, units), check, apply, noop=f"{names}: as wanted")


def decide(
    files: Iterable[File] = (),
    absent: Iterable[str] = (),
    units: Iterable[Unit] = (),
    besides: Iterable[str] = (),
) -> Plan:
    """Read the state of the current host, and return a plan of what has to be done on it.

    + files, absent, units: as `install` takes them
    + besides: paths that other commands of the operation will write, replace or remove

    Raises one `NodeError` that names all paths that cannot be replaced.

    **Example:** ``todo = decide([File(PATH, text)], units=[UNIT])``
    """
    files, absent, units = tuple(files), tuple(absent), tuple(units)
    paths, pairs = _questions(files, absent, units)
    found = observe(Files, paths=paths) if paths else {}
    states = observe(Units, units=pairs) if pairs else {}
    names = _unit_file_names(files)
    traces = observe(Traces, units=names) if names else {}
    besides = tuple(besides)
    # These paths need a second remote command. There are such paths only if something has to be
    # done anyway
    vendor_files = (one.vendor_file for one in traces.values() if one.vendor_file)
    if more := with_folders((*vendor_files, *besides)):
        others: dict[str, FileState] = observe(Files, paths=more)
        found = {**found, **others}
    return plan(files, absent, units, found, states, traces, besides)


def decide_removal(unit: str, absent: Iterable[str], why: str = "") -> tuple[Plan, str]:
    """Return a plan that removes a unit's files, and the command that stops the unit before.

    + unit: name of the unit. Its unit file is in /etc/systemd/system
    + absent: the paths to remove, the unit file among them
    + why: the reason for that, if there is more to say than that the unit is stopped

    The command is "" if the unit file is not there. Give it to `transaction` as `before`, because
    systemd may no longer know a unit whose file is gone.

    **Example:** ``todo, stop = decide_removal(UNIT, [UNIT_FILE, PROGRAM])``
    """
    todo = decide(absent=absent)
    if f"{UNITS}/{unit}" not in todo.remove:
        return todo, ""
    because(f"stop and disable {unit}{why}")
    return todo, f"systemctl disable --now --quiet -- {quote(unit)}"


def transaction(
    todo: Plan,
    check: str = "",
    apply: str = "",
    *,
    noop: str,
    force: bool = False,
    before: str = "",
    makes: Iterable[str] = (),
    repairs: Iterable[Repair] = (),
) -> Commands:
    """Carry out a plan in one script.

    + todo: the plan that `decide` returned. The operation may have added to the plan
    + check, apply: as `install` takes them
    + noop: what pyinfra's ``-v`` shows if nothing has to be done
    + force: whether to run the script even if the plan is empty, for example because `apply` has to
      run
    + before: shell commands that run before all other steps, while the script holds the node's
      lock
    + makes: paths of files that services create when they start. Undo treats these files as this
      package's own
    + repairs: a `Repair` for each thing that `apply` sets. The repairs of files and units are in
      the plan already

    With pyinfra's ``--diff``, the operation also prints how each file will change.

    **Example:** ``yield from transaction(todo, noop="no swap", apply="swapoff -a")``
    """
    todo = replace(todo, repairs=(*todo.repairs, *repairs))
    if not todo and not force:
        current()[1].noop(noop)
        return
    because(*todo.why)
    warn_of_repeats(todo.repairs)
    if current()[0].config.DIFF and not of_host(Preparation).phase:
        for file in todo.write:
            _show_diff(file)
    script = for_concern(compose(todo, check, apply, makes, before))
    yield shell_command(script, stdin=payload(todo.write))


def _show_diff(file: File) -> None:
    """Print how a file will change."""
    host = current()[1]
    if not file.shown:
        why = "secret" if file.secret else "binary or long"
        host.log(f"{file.path}: its content is {why}, not shown")
        return
    before = observe(Content, path=file.path) or b""
    host.log(f"Will write {file.path}")
    old, new = (data.decode(errors="replace").splitlines() for data in (before, file.data))
    for line in generate_color_diff(old, new):
        logger.info("  %s", line)
