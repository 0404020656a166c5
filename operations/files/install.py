"""Put files in place and make the units that read them run with them, in one transaction."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import io
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from pyinfra import logger
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.operations.util.files import generate_color_diff

from chaos_engine.facts.files import Content, Files, FileState
from chaos_engine.facts.manifest import DIRECTORY, STAGED
from chaos_engine.facts.observe import Preparation, Read, current, observe, part
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.systemd import RECORDS, Units, UnitState, checksum
from chaos_engine.facts.unit_traces import UNITS, Traces, UnitTraces
from chaos_engine.operations.engine.arguments import AbsolutePath, Mode, Owner, UnitName
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.originals import KEEP, recorded
from chaos_engine.operations.engine.prelude import PRELUDE
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.repairs import Repair, fixes, of_file, of_removal, of_unit, tell
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files.replaceable import refuse, with_folders


def beside(path: str, suffix: str) -> str:
    """The hidden name beside a path.

    **Example:** ``beside("/etc/hosts", "chaos")`` gives ``/etc/.hosts.chaos``.
    """
    head, tail = posixpath.split(path)
    return posixpath.join(head, f".{tail}.{suffix}")


@dataclass(frozen=True)
class File:
    """A file that shall be on the node.

    + path: absolute path
    + content: text or bytes; never part of the repr, so that no log can show it
    + mode: octal without leading zeros; ``None`` on a file system without modes (vfat)
    + owner, group: names; not applied where `mode` is ``None``
    + secret: its content is shown nowhere, not even in a diff
    + merged: most of its content is the node's own; undo takes out what differs from the original.
      One that is there keeps the mode, owner, ACL and extended attributes that it has
    """

    path: AbsolutePath
    content: str | bytes = field(repr=False)
    mode: Mode | None = "644"
    owner: Owner = "root"
    group: Owner = "root"
    secret: bool = False
    merged: bool = False

    @property
    def data(self) -> bytes:
        """The content as bytes."""
        return self.content.encode() if isinstance(self.content, str) else self.content

    @property
    def sha256(self) -> str:
        """The content's checksum, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def shown(self) -> bool:
        """Whether its content may be shown in a diff."""
        return not self.secret and len(self.data) <= 1 << 20 and b"\0" not in self.data

    @property
    def staged(self) -> str:
        """Where the new content waits, beside the file: a rename then swaps it in whole."""
        return beside(self.path, "chaos")

    def matches(self, state: FileState | None) -> bool:
        """Whether the node has exactly this file."""
        if state is None or state.kind != "file":
            return False
        if state.sha256 != self.sha256:
            return False
        rights = (self.mode, self.owner, self.group)
        own = self.mode is not None and not self.merged
        return not own or (state.mode, state.owner, state.group) == rights


@dataclass(frozen=True)
class Unit:
    """A systemd unit that shall run with its files as they are.

    + name: with its suffix, ``docker.service``
    + reads: the files that it reads when it starts, or ``/folder/*.conf`` for all such files.
      At each start the unit records their checksum (by a drop-in), so that one that runs with
      older content is known as such, whoever changed the files and whenever
    + enabled: whether it starts at boot; ``None`` leaves that alone
    + running: whether it runs now; ``None`` leaves that alone
    + required: whether a start that fails takes the files back and fails the operation; if not,
      it is reported and the files stay
    + ready: shell command that fails if the started unit does not do its work; that counts as a
      start that failed. It has to give up by itself
    """

    name: UnitName
    reads: tuple[AbsolutePath, ...] = ()
    enabled: bool | None = True
    running: bool | None = True
    required: bool = True
    ready: str = ""

    @property
    def record(self) -> File:
        """The drop-in by which the unit records what it was started with."""
        command = checksum(self.reads).get_raw_value().replace("%", "%%").replace("$", "$$")
        escaped = f"umask 077; mkdir -p {RECORDS}; {command} > {quote(f'{RECORDS}/{self.name}')}"
        escaped = escaped.replace("\\", "\\\\").replace('"', '\\"')
        return File(
            f"/etc/systemd/system/{self.name}.d/50-chaos-engine.conf",
            "# Which configuration the running service has read; written by chaos-engine\n"
            f'[Service]\nExecStartPre=-+/bin/sh -c "{escaped}"\n',
        )


@dataclass(frozen=True)
class Plan:
    """What has to be done on a node, all empty when nothing has, and `why`, in plain words.

    `repairs` are the things among it that may have been set before.
    """

    write: tuple[File, ...] = ()
    remove: tuple[str, ...] = ()
    daemon_reload: bool = False
    stop: tuple[Unit, ...] = ()
    start: tuple[Unit, ...] = ()
    restart: tuple[Unit, ...] = ()
    unmask: tuple[Unit, ...] = ()
    enable: tuple[Unit, ...] = ()
    reenable: tuple[Unit, ...] = ()
    disable: tuple[Unit, ...] = ()
    why: tuple[str, ...] = field(default=(), compare=False)
    repairs: tuple[Repair, ...] = field(default=(), compare=False)

    def __bool__(self) -> bool:
        return self != Plan()


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

    + besides: paths that the script will write, replace or remove itself

    What an earlier installation has left of a unit whose file is written goes: a file of its name
    among those of packages, which would come to life with the own one's removal, and links by
    which it starts. Raises `NodeError` for all paths that cannot be replaced
    (`chaos_engine.operations.replaceable`).
    """
    units = tuple(units)
    wanted = (*files, *(unit.record for unit in units if unit.reads))
    write = tuple(file for file in wanted if not file.matches(found.get(file.path)))
    left = tuple(one.vendor_file for one in traces.values() if one.vendor_file)
    remove = (*(path for path in absent if path in found), *left)
    touched = {*(file.path for file in write), *remove}
    merged = (file.path for file in write if file.merged)
    refuse(sorted({*touched, *besides}), found, merged)
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
            file = _only_read(unit, wanted)
            # of a file that differs it does not matter: it is written, and so its own
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
    found_out = Plan(
        write,
        remove,
        any("/systemd/system/" in path and not _waits(path, states) for path in touched)
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
        found_out,
        why=tuple(_why(found_out, found, states, cause)),
        repairs=tuple(_repairs(found_out, found, cause)),
    )


def _repairs(
    todo: Plan, found: Mapping[str, FileState], cause: Mapping[str, object]
) -> Iterator[Repair]:
    """The things of a plan that may have been set before; a unit whose files change goes with them.

    + cause: by the name of the unit, as `_why` has it
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
    """What a plan does, each thing with what was found.

    + cause: the files that change, by the name of the unit that has to run with them
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


def _only_read(unit: Unit, files: Iterable[File]) -> File | None:
    """The one file that a unit reads, if it is among these: the unit's checksum is that file's.

    Then nobody has to compute it twice, which for a program takes a while on a small machine.
    """
    return next((file for file in files if unit.reads == (file.path,)), None)


def _waits(path: str, states: Mapping[str, UnitState]) -> bool:
    """Whether it is a drop-in of a unit that is not there yet: who brings that has it read."""
    folder = posixpath.basename(posixpath.dirname(path))
    unit = states.get(folder.removesuffix(".d"))
    return folder.endswith(".d") and unit is not None and unit.load == "not-found"


def unit_files(files: Iterable[File]) -> tuple[File, ...]:
    """Those of the files that are units, not parts of one."""
    return tuple(file for file in files if posixpath.dirname(file.path) == UNITS)


def wanted_links(file: File) -> dict[str, str]:
    """The links that ``systemctl enable`` makes for a unit, by what its file says."""
    lines = (line.partition("=") for line in file.data.decode().splitlines())
    targets = [name for key, _, value in lines if key == "WantedBy" for name in value.split()]
    name = posixpath.basename(file.path)
    return {f"{UNITS}/{target}.wants/{name}": file.path for target in targets}


def reads(
    files: Iterable[File] = (),
    absent: Iterable[str] = (),
    units: Iterable[Unit] = (),
    check: str = "",
    apply: str = "",
) -> list[Read]:
    """What `install` will observe for the same arguments."""
    files, units = tuple(files), tuple(units)
    paths, pairs = _questions(files, absent, units)
    result = [Read.of(Files, paths=paths)] if paths else []
    if pairs:
        result.append(Read.of(Units, units=pairs))
    if names := _names(files):
        result.append(Read.of(Traces, units=names))
    if current()[0].config.DIFF:
        result += [Read.of(Content, path=file.path) for file in files if not file.secret]
    return [*result, Read.of(Repairs)]


def _questions(
    files: Iterable[File], absent: Iterable[str], units: Iterable[Unit]
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
    """The paths to look at, and the units with what each reads."""
    files, units = tuple(files), tuple(units)
    records = (unit.record.path for unit in units if unit.reads)
    paths = with_folders((*(file.path for file in files), *records, *absent))
    return paths, tuple((u.name, () if _only_read(u, files) else u.reads) for u in units)


def _names(files: Iterable[File]) -> tuple[str, ...]:
    """The units whose files are among these."""
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

    + files: the files that shall be there; only what differs travels, by standard input
    + absent: paths that shall not be there; they are kept under ``/var/lib/chaos-engine``
    + units: units that shall run, each with the files it reads
    + check: shell command that refuses a bad set; it finds each new file beside its place as
      ``.NAME.chaos``, and copies of those that are neither secret nor larger than 1 MiB under
      ``"$stage"`` by their full paths (``"$stage"/etc/docker/daemon.json``)
    + apply: shell command that makes the files effective, run before units are restarted; its
      umask is 077

    The new files wait beside their places, are checked, synchronised, and renamed one by one; a
    reader never sees half a file. If `apply` fails or a required unit does not start, the old
    files come back and the unit starts with them. The rename is atomic a file, not a set: a power
    cut between two leaves a mix that the next run fixes.

    **Example:**

    .. code:: python

        install(
            name="Limit the journal",
            files=[File("/etc/systemd/journald.conf.d/90-limit.conf", "[Journal]\\n...")],
            units=[Unit("systemd-journald.service", reads=("/etc/systemd/...",))],
        )
    """
    yield from transaction(files, absent, units, check, apply)


def transaction(
    files: Iterable[File] = (),
    absent: Iterable[str] = (),
    units: Iterable[Unit] = (),
    check: str = "",
    apply: str = "",
    force: bool = False,
    todo: Plan | None = None,
    besides: Iterable[str] = (),
    repairs: Iterable[Repair] = (),
) -> Commands:
    """The body of `install`, for operations that first compute their files from the node's.

    + force: run `apply` although no file differs (its effect was found missing)
    + todo: what `decide` says of the same arguments, if that is known already
    + besides: paths that `apply` writes, replaces or removes itself
    + repairs: the things that `apply` sets
    """
    files, absent, units = tuple(files), tuple(absent), tuple(units)
    todo = decide(files, absent, units, besides) if todo is None else todo
    todo = replace(todo, repairs=(*todo.repairs, *repairs))
    if not todo and not force:
        names = ", ".join([*(f.path for f in files), *(u.name for u in units)])
        current()[1].noop(f"{names}: as wanted")
        return
    yield command(todo, compose(todo, check, apply))


def decide(
    files: Iterable[File] = (),
    absent: Iterable[str] = (),
    units: Iterable[Unit] = (),
    besides: Iterable[str] = (),
) -> Plan:
    """What has to be done on the current host, by what is observed of it.

    + besides: paths that the script will write, replace or remove itself

    Raises `NodeError` for all paths that cannot be replaced.
    """
    files, absent, units = tuple(files), tuple(absent), tuple(units)
    paths, pairs = _questions(files, absent, units)
    found = observe(Files, paths=paths) if paths else {}
    states = observe(Units, units=pairs) if pairs else {}
    names = _names(files)
    traces = observe(Traces, units=names) if names else {}
    besides = tuple(besides)
    # where an earlier installation has left some, something is due in any case
    left = (one.vendor_file for one in traces.values() if one.vendor_file)
    if more := with_folders((*left, *besides)):
        others: dict[str, FileState] = observe(Files, paths=more)
        found = {**found, **others}
    return plan(files, absent, units, found, states, traces, besides)


def command(todo: Plan, text: str) -> StringCommand:
    """The command that runs a transaction's script `text`, with the new files on its standard
    input. Under ``--diff`` it shows what will be written."""
    state = current()[0]
    because(*todo.why)
    tell(todo.repairs)
    if state.config.DIFF and not part(Preparation).phase:
        for file in todo.write:
            _show_diff(file)
    text = recorded(text)
    if not todo.write:
        return StringCommand("sh", "-c", QuoteString(text))
    return StringCommand("sh", "-c", QuoteString(text), _stdin=payload(todo.write))


def payload(files: Iterable[File]) -> str:
    """The new files as a gzipped tar archive in base64, each under the name that it waits under."""
    return _payload(tuple(files))


UNPACK = "base64 -d | tar -C / -xzmf - --no-same-owner --no-same-permissions"
"""Shell command, for a umask of 077, that takes a `payload` from the script's standard input."""


@lru_cache(maxsize=8)  # hosts that get the same large file share it
def _payload(files: tuple[File, ...]) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for file in files:
            member = tarfile.TarInfo(file.staged.lstrip("/"))
            member.size, member.mode = len(file.data), 0o600
            archive.addfile(member, io.BytesIO(file.data))
    return base64.encodebytes(buffer.getvalue()).decode()


def compose(
    todo: Plan, check: str = "", apply: str = "", also: Iterable[str] = (), before: str = ""
) -> str:
    """The shell script of one transaction: a pure function.

    + also: paths of files that what is started makes, which are kept or noted as the others are
    + before: shell commands that run first, while the script has the node for itself
    """
    q = quote
    staged = " ".join(q(file.staged) for file in todo.write)
    touched = [*(file.path for file in todo.write), *todo.remove]
    also = tuple(also)
    # In RAM: on the card, a power cut at the end of a run would leave them there
    kept = {path: f'"$stage/old.{n}"' for n, path in enumerate(touched)}
    # Where an old file waits when it comes back; a later run removes it if this one is cut short
    olds = " ".join(q(beside(path, "chaos-old")) for path in touched)
    lines = [
        PRELUDE,
        # what a script that was killed has left
        f"rm -rf -- {RECORDS}/stage.*; stage=$(mktemp -d {RECORDS}/stage.XXXXXX)",
        "cleanup() {",
        f'  rm -rf -- "$stage"; rm -f -- {staged} {olds} {STAGED}',
        f"  rmdir -- {DIRECTORY} 2>/dev/null || :",  # made for a set that was refused
        "}",
        "trap cleanup EXIT; trap 'exit 1' HUP INT TERM",
        KEEP,
        *([before] if before else []),
    ]
    if touched:
        lines.append(f"staging {staged} {olds}; rm -f -- {staged} {olds}")
    if todo.write:
        folders = sorted({posixpath.dirname(file.path) for file in todo.write})
        lines += [
            *(f"folders {q(file.path)}" for file in todo.write),
            '[ -z "${to_settle-}" ] || settle',
            f"(umask 022; mkdir -p -- {' '.join(q(folder) for folder in folders)})",
            # mode 0600 from the first byte: umask 077, and tar's members are 0600
            UNPACK,
        ]
    owned: dict[str, list[str]] = {}
    modes: dict[str, list[str]] = {}
    for file in todo.write:
        if file.mode is not None:
            owned.setdefault(f"{file.owner}:{file.group}", []).append(file.staged)
            modes.setdefault(file.mode, []).append(file.staged)
    # chown first: it takes setuid and setgid away
    lines += [f"chown -- {quote(owner, *paths)}" for owner, paths in owned.items()]
    lines += [f"chmod -- {quote(mode, *paths)}" for mode, paths in modes.items()]
    lines += [
        f"[ ! -f {q(file.path)} ] || {LIKE} {q(file.path)} {q(file.staged)}"
        for file in todo.write
        if file.merged and file.mode is not None
    ]
    if check and todo.write:
        for file in todo.write:
            if not file.secret and len(file.data) <= 1 << 20:
                lines.append(f'mkdir -p -- "$stage"{q(posixpath.dirname(file.path))}')
                lines.append(f'cp -- {q(file.staged)} "$stage"{q(file.path)}')
        shown = "" if any(file.secret for file in todo.write) else '; tail -n 5 "$stage/.log" >&2'
        lines += [
            # not as a condition of `if`: there `set -e` is off, also in a subshell
            f'set +e; ( set -e; eval {q(check)} ) >"$stage/.log" 2>&1 </dev/null',
            "status=$?; set -e; if [ $status -ne 0 ]; then",
            f"  echo {q('the new files were refused by: ' + check)} >&2{shown}",
            "  exit 1",
            "fi",
        ]
    if todo.write:
        lines.append(f"sync -- {staged}")
    lines += [f"folders {q(path)}" for path in also]
    lines += [f"keep {' '.join(map(q, (*touched, *also)))}"] if touched or also else []
    for file in todo.write:
        lines.append(f"wrote {file.sha256} {q(file.path)}")
        lines += [f"note secret - {q(file.path)}"] if file.secret else []
        lines += [f"keep_written {q(file.path)} {q(file.staged)}"] if file.merged else []
    units = (
        *(*todo.stop, *todo.start, *todo.restart),
        *(*todo.enable, *todo.reenable, *todo.disable),
    )
    lines += [f"unit_was {q(name)}" for name in dict.fromkeys(unit.name for unit in units)]
    lines += [*fixes(todo.repairs), "settle"]
    lines += [_BACK] if touched else []
    lines += [f"hold_old {q(path)} {kept[path]}" for path in touched]
    # Units whose files are written now are enabled before systemd reads them all, which takes long
    written = {posixpath.basename(file.path) for file in unit_files(todo.write)}
    own = tuple(unit for unit in todo.enable if unit.name in written)
    back = [f"{line} || true" for line in _systemctl("--no-reload disable", own)]
    back += [f"back {kept[path]} {q(path)} {q(beside(path, 'chaos-old'))}" for path in touched]
    lines += ["undo() {", *(f"  {line}" for line in back), "  :", "}"]
    changes = [f"mv -fT -- {q(file.staged)} {q(file.path)}" for file in todo.write]
    changes += [f"rm -f -- {q(path)}" for path in todo.remove]
    lines += [f"{line} || {{ undo; exit 1; }}" for line in changes]
    lines += [f"{line} || {{ undo; exit 1; }}" for line in _systemctl("--no-reload enable", own)]
    folders = sorted({posixpath.dirname(path) for path in touched})
    if folders:
        lines.append(f"sync -- {' '.join(q(folder) for folder in folders)}")
    reload = "systemctl daemon-reload" if todo.daemon_reload else ":"
    lines.append(reload)
    if apply:
        lines += [
            f"set +e; (\nset -e\n{apply}\n) </dev/null",
            "status=$?; set -e; if [ $status -ne 0 ]; then",
            f"  undo; {reload}",
            "  echo 'the new files had no effect; the old ones are back' >&2" if touched else "  :",
            "  exit 1",
            "fi",
        ]
    # a masked unit cannot be started
    lines += _systemctl("unmask", todo.unmask)
    done: list[Unit] = []
    for action, units in (("stop", todo.stop), ("start", todo.start), ("restart", todo.restart)):
        for unit in units:
            lines += _act(action, unit, reload, done)
            done.append(unit)
    lines += _systemctl("disable", todo.disable)
    lines += _enable(unit for unit in todo.enable if unit not in own)
    # Which removes all its links, and makes those that its file names
    lines += _systemctl("reenable", todo.reenable)
    # A start that may fail has perhaps fixed nothing
    names = (unit.name for unit in (*todo.start, *todo.restart) if not unit.required)
    for name in {repair.name for repair in todo.repairs}.intersection(names):
        lines.append(f"systemctl is-active --quiet -- {q(name)} || not_fixed {q(name)}")
    lines += ["fixed"] if todo.repairs else []
    return "\n".join([*lines, ""])


def _systemctl(action: str, units: Iterable[Unit]) -> list[str]:
    """The line that does it to all units at once: systemd reads all its files anew each time."""
    names = [unit.name for unit in units]
    return [f"systemctl {action} -- {quote(*names)}"] if names else []


def _enable(units: Iterable[Unit]) -> list[str]:
    """The lines that enable units, but for those that apt has enabled just now: for one that has a
    script in ``/etc/init.d`` too, doing it again takes seconds."""
    names = [unit.name for unit in units]
    if not names:
        return []
    return [
        "(",
        "set --",
        f"for one in {quote(*names)}; do",
        '  systemctl is-enabled --quiet -- "$one" || set -- "$@" "$one"',
        "done",
        '[ $# -eq 0 ] || systemctl enable -- "$@"',
        ")",
    ]


LIKE = "cp -a --attributes-only --no-preserve=timestamps --"
"""Shell command, with two files, that gives the second owner, mode, ACL and extended attributes of
the first."""

_BACK = """\
hold_old() { # PATH OLD: keep what is there
  [ -e "$1" ] || [ -L "$1" ] || return 0
  cp -a -- "$1" "$2"
}
back() { # OLD PATH BESIDE: the old file, or none if there was none
  if [ -e "$1" ] || [ -L "$1" ]; then
    { cp -a -- "$1" "$3" && synced "$3" && mv -fT -- "$3" "$2"; } || :
  else rm -f -- "$2" || :; fi
}"""


def _act(action: str, unit: Unit, reload: str, done: list[Unit]) -> list[str]:
    """The lines that act on a unit; where that fails, `done` have to run with the old files too."""
    name = quote(unit.name)
    again = " ".join(quote(one.name) for one in done)
    lines = [
        f"systemctl reset-failed -- {name} 2>/dev/null || true",
        f"tell {quote(f'waiting for the {action} of {unit.name}')}",
    ]
    act = f"systemctl {action} -- {name}"
    if unit.ready:
        act = f"{{ {act} && (\n{unit.ready}\n) </dev/null; }}"
    # Where the journal is in RAM no other is read: others may write /var/log/journal
    in_ram = "$([ ! -d /run/log/journal ] || echo -D /run/log/journal)"
    why = (
        "journalctl --sync 2>/dev/null || true; "
        f"journalctl -q --no-pager -o cat -n 8 {in_ram} -u {name} >&2 2>/dev/null || true"
    )
    if not unit.required:
        return [*lines, f"{act} || {{ {why}; }}"]
    return [
        *lines,
        f"if ! {act}; then",
        f"  {why}",
        f"  undo; {reload}; systemctl reset-failed -- {name} 2>/dev/null || true",
        f"  systemctl try-restart -- {again} || true" if done else "  :",
        f"  systemctl {action} -- {name} || echo {name} does not {action} with the old files "
        "either >&2",
        f"  echo {name} did not {action} with the new files: the old ones are back >&2",
        "  exit 1",
        "fi",
    ]


def _show_diff(file: File) -> None:
    host = current()[1]
    if not file.shown:
        host.log(f"{file.path}: its content is {'secret' if file.secret else 'binary'}, not shown")
        return
    before = observe(Content, path=file.path) or b""
    host.log(f"Will write {file.path}")
    old, new = (data.decode(errors="replace").splitlines() for data in (before, file.data))
    for line in generate_color_diff(old, new):
        logger.info("  %s", line)
