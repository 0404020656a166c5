"""Put files in place and make the units that read them run with them, in one transaction."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import replace

from pyinfra import logger
from pyinfra.operations.util.files import generate_color_diff

from chaos_engine.facts.files import Content, Files, FileState
from chaos_engine.facts.observe import Preparation, Read, current, observe, part
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.systemd import Units
from chaos_engine.facts.unit_traces import Traces
from chaos_engine.operations.engine.arguments import AbsolutePath
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, warn_of_repeats
from chaos_engine.operations.engine.shell import for_concern, shell_command
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
    """Return what `install` will observe for the same arguments."""
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
    """Return the arguments for the facts `Files` and `Units`.

    These are the paths to look at, and for each unit a pair: the unit's name and the files whose
    checksum the node has to compute.
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
    """Put files in place, remove others, and make units run with them: all or nothing.

    + files: the files that shall be there; only those that differ are sent, by standard input
    + absent: paths that shall not be there; the originals of removed files are kept under
      ``/var/lib/chaos-engine``
    + units: units that shall run, each with the files that it reads
    + check: shell command that fails for a bad set of files. Each new file is staged beside its
      place as ``.NAME.chaos``. Copies of files that are neither secret nor larger than 1 MiB are
      under ``"$stage"`` by their full paths (``"$stage"/etc/docker/daemon.json``)
    + apply: shell command that makes the files effective. It runs before units are restarted, with
      the umask 077

    The new files are staged, checked, synchronised, and renamed one by one: a reader never sees
    half a file. If `apply` fails or a required unit does not start, the old files are restored and
    the unit is started with them. A power cut between two renames leaves old and new files side by
    side, which the next run fixes. Raises `NodeError` for paths that cannot be replaced.

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
    """Observe the current host; return what has to be done on it.

    + files, absent, units: as `install` takes them
    + besides: other paths that the operation's own script will write, replace or remove

    Raises `NodeError` that names all paths that cannot be replaced.

    **Example:** ``todo = decide([File(PATH, text)], units=[UNIT])``
    """
    files, absent, units = tuple(files), tuple(absent), tuple(units)
    paths, pairs = _questions(files, absent, units)
    found = observe(Files, paths=paths) if paths else {}
    states = observe(Units, units=pairs) if pairs else {}
    names = _unit_file_names(files)
    traces = observe(Traces, units=names) if names else {}
    besides = tuple(besides)
    # This second read costs a command of its own, but only if something has to be done anyway
    vendor_files = (one.vendor_file for one in traces.values() if one.vendor_file)
    if more := with_folders((*vendor_files, *besides)):
        others: dict[str, FileState] = observe(Files, paths=more)
        found = {**found, **others}
    return plan(files, absent, units, found, states, traces, besides)


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
    """Do what a plan says, in one script.

    + todo: what `decide` returned; the operation may have changed it
    + check, apply: as `install` takes them
    + noop: what ``-v`` shows if nothing has to be done
    + force: run the script although the plan is empty, because the effect of `apply` is missing
    + before: shell commands that run first, once the script holds the lock
    + makes: paths of files that the started services make; undo treats them as files of this
      package
    + repairs: the things that `apply` sets, besides those of the plan

    With ``--diff``, it prints how the files will change.

    **Example:** ``yield from transaction(todo, noop="no swap", apply="swapoff -a")``
    """
    todo = replace(todo, repairs=(*todo.repairs, *repairs))
    if not todo and not force:
        current()[1].noop(noop)
        return
    because(*todo.why)
    warn_of_repeats(todo.repairs)
    if current()[0].config.DIFF and not part(Preparation).phase:
        for file in todo.write:
            _show_diff(file)
    script = for_concern(compose(todo, check, apply, makes, before))
    yield shell_command(script, stdin=payload(todo.write))


def _show_diff(file: File) -> None:
    """Print how a file will change."""
    host = current()[1]
    if not file.shown:
        host.log(f"{file.path}: its content is {'secret' if file.secret else 'binary'}, not shown")
        return
    before = observe(Content, path=file.path) or b""
    host.log(f"Will write {file.path}")
    old, new = (data.decode(errors="replace").splitlines() for data in (before, file.data))
    for line in generate_color_diff(old, new):
        logger.info("  %s", line)
