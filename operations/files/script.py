"""Compose the shell script of one transaction, and the archive of its new files: pure functions."""

from __future__ import annotations

import base64
import io
import posixpath
import tarfile
from collections.abc import Iterable
from functools import lru_cache

from chaos_engine.operations.engine.repairs import will_set
from chaos_engine.operations.engine.shell import NOTES, PRELUDE, quote
from chaos_engine.operations.files.model import File, Plan, Unit, beside, unit_files
from chaos_engine.templates import shell_script

_TRANSACTION = shell_script("transaction")


@lru_cache(maxsize=8)  # packed once for all hosts that get the same large file
def payload(files: tuple[File, ...]) -> str:
    """Return the new files as a gzipped tar archive in base64; "" if there are none.

    In the archive, each file has its staged path (`File.staged`). The prelude's shell function
    ``unpack`` unpacks the archive.
    """
    if not files:
        return ""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as archive:
        for file in files:
            member = tarfile.TarInfo(file.staged.lstrip("/"))
            member.size, member.mode = len(file.data), 0o600
            archive.addfile(member, io.BytesIO(file.data))
    return base64.encodebytes(buffer.getvalue()).decode()


def compose(
    todo: Plan, check: str = "", apply: str = "", makes: Iterable[str] = (), before: str = ""
) -> str:
    """Return the shell script of one transaction.

    + todo, check, apply, makes, before: as `chaos_engine.operations.files.transaction` takes them
    """
    lines = [
        *_begin(todo, before),
        *_stage(todo),
        *_check(todo, check),
        *_note(todo, tuple(makes)),
        *_swap_in(todo),
        *_apply(todo, apply),
        *_act_on_units(todo),
        *_note_repairs(todo),
    ]
    return "\n".join([*lines, ""])


def _touched(todo: Plan) -> list[str]:
    """Return the paths that a plan writes or removes."""
    return [*(file.path for file in todo.write), *todo.remove]


def _begin(todo: Plan, before: str) -> list[str]:
    """Return the first lines of the script. They also clean up after an interrupted script.

    + before: as `compose` takes it
    """
    # The script restores an old file by way of .NAME.chaos-old. If the script is interrupted, a
    # later run removes that file
    staged = quote(
        *(file.staged for file in todo.write),
        *(beside(path, "chaos-old") for path in _touched(todo)),
    )
    return [
        PRELUDE,
        NOTES,
        _TRANSACTION,
        'rm -rf -- "$RUN_DIR"/stage.*; stage=$(mktemp -d "$RUN_DIR/stage.XXXXXX")',
        f"reload={quote('systemctl daemon-reload' if todo.daemon_reload else ':')}",
        "cleanup() {",
        f'  rm -rf -- "$stage"; rm -f -- {staged} "$STAGED"',
        # $STATE_DIR is empty if the check refused the new files of the first run
        '  rmdir -- "$STATE_DIR" 2>/dev/null || :',
        "}",
        "trap cleanup EXIT; trap 'exit 1' HUP INT TERM",
        *([before] if before else []),
        *([f"staging {staged}; rm -f -- {staged}"] if staged else []),
    ]


def _stage(todo: Plan) -> list[str]:
    """Return the lines that write each new file beside its path, with its mode and owner."""
    if not todo.write:
        return []
    owned: dict[str, list[str]] = {}
    modes: dict[str, list[str]] = {}
    for file in todo.write:
        if file.mode is not None:
            owned.setdefault(f"{file.owner}:{file.group}", []).append(file.staged)
            modes.setdefault(file.mode, []).append(file.staged)
    return [
        f"folders {quote(*(file.path for file in todo.write))}",
        '[ -z "${to_settle-}" ] || settle',
        f"(umask 022; mkdir -p -- {quote(*_folders(file.path for file in todo.write))})",
        # Until chmod, only the owner can read the files: the umask is 077, tar's members are 0600
        "unpack",
        # chown comes before chmod, because chown clears setuid and setgid
        *(f"chown -- {quote(owner, *paths)}" for owner, paths in owned.items()),
        *(f"chmod -- {quote(mode, *paths)}" for mode, paths in modes.items()),
        *(
            f"[ ! -f {quote(file.path)} ] || copy_rights {quote(file.path, file.staged)}"
            for file in todo.write
            if file.merged and file.mode is not None
        ),
    ]


def _folders(paths: Iterable[str]) -> list[str]:
    """Return the folders of these paths, without duplicates."""
    return sorted({posixpath.dirname(path) for path in paths})


def _check(todo: Plan, check: str) -> list[str]:
    """Return the lines that check the new files, and then flush them to the disk."""
    if not todo.write:
        return []
    shown = [file for file in todo.write if not file.secret and len(file.data) <= 1 << 20]
    secret = any(file.secret for file in todo.write)
    lines = [f"expose {quote(file.path, file.staged)}" for file in shown] if check else []
    lines += [f"check_new {quote(check)} {'secret' if secret else ''}".rstrip()] if check else []
    return [*lines, f"sync -- {quote(*(file.staged for file in todo.write))}"]


def _note(todo: Plan, makes: tuple[str, ...]) -> list[str]:
    """Return the lines that save the state before any change. Undo restores the saved state.

    + makes: as `compose` takes it
    """
    kept = [*_touched(todo), *makes]
    lines = [f"folders {quote(*makes)}"] if makes else []
    lines += [f"keep {quote(*kept)}"] if kept else []
    for file in todo.write:
        lines.append(f"wrote {file.sha256} {quote(file.path)}")
        lines += [f"note secret - {quote(file.path)}"] if file.secret else []
        lines += [f"keep_written {quote(file.path, file.staged)}"] if file.merged else []
    units = (
        *(*todo.stop, *todo.start, *todo.restart),
        *(*todo.enable, *todo.reenable, *todo.disable),
    )
    lines += [f"unit_was {quote(name)}" for name in dict.fromkeys(unit.name for unit in units)]
    return [*lines, *will_set(todo.repairs), "settle"]


def _swap_in(todo: Plan) -> list[str]:
    """Return the lines that define ``restore_files``, and then put the new files in place."""
    # The copies of the old files are in RAM. On the card they would stay after a power cut
    copies = {path: f'"$stage/old.{n}"' for n, path in enumerate(_touched(todo))}
    own = _written_units(todo)
    back = [f"{line} || true" for line in _systemctl("--no-reload disable", own)]
    back += [f"restore {copy} {quote(p, beside(p, 'chaos-old'))}" for p, copy in copies.items()]
    changes = [f"mv -fT -- {quote(file.staged, file.path)}" for file in todo.write]
    changes += [f"rm -f -- {quote(path)}" for path in todo.remove]
    changes += _systemctl("--no-reload enable", own)
    return [
        *(f"save {quote(path)} {copy}" for path, copy in copies.items()),
        "\n  ".join(["restore_files() {", *back, ":"]) + "\n}",
        *(f"{line} || {{ restore_files; exit 1; }}" for line in changes),
        *([f"sync -- {quote(*_folders(copies))}"] if copies else []),
        "$reload",
    ]


def _written_units(todo: Plan) -> tuple[Unit, ...]:
    """Return the units that a plan enables and whose unit files it writes.

    The script enables these units before it reloads systemd. Otherwise it would have to reload
    systemd twice.
    """
    written = {posixpath.basename(file.path) for file in unit_files(todo.write)}
    return tuple(unit for unit in todo.enable if unit.name in written)


def _apply(todo: Plan, apply: str) -> list[str]:
    """Return the lines that run the command `apply`, and restore the old files if `apply` fails.

    + apply: shell command that makes the new files effective
    """
    if not apply:
        return []
    restored = "; echo 'applying the new files failed; the old files were restored' >&2"
    return [
        f"set +e; (\nset -e\n{apply}\n) </dev/null",
        "status=$?; set -e; [ $status = 0 ] || {",
        f"  restore_files; $reload{restored if _touched(todo) else ''}; exit 1",
        "}",
    ]


def _act_on_units(todo: Plan) -> list[str]:
    """Return the lines that stop, start, restart, enable and disable units."""
    lines = _systemctl("unmask", todo.unmask)  # a masked unit cannot be started
    done: list[str] = []
    for action, units in (("stop", todo.stop), ("start", todo.start), ("restart", todo.restart)):
        for unit in units:
            lines += _act(action, unit, done)
            done.append(unit.name)
    own = _written_units(todo)
    others = quote(*(unit.name for unit in todo.enable if unit not in own))
    return [
        *lines,
        *_systemctl("disable", todo.disable),
        *([f"enable_missing {others}"] if others else []),
        # reenable removes all links of a unit, and makes the links that its unit file asks for
        *_systemctl("reenable", todo.reenable),
    ]


def _act(action: str, unit: Unit, done: list[str]) -> list[str]:
    """Return the lines that start, stop or restart a unit.

    + action: "start", "stop" or "restart"
    + done: names of the units that the script has started, stopped or restarted before

    If the action fails for a required unit, the script restores the old files, restarts the running
    units in `done`, and repeats the action.
    """
    act = f"systemctl {action} -- {quote(unit.name)}"
    if unit.ready:
        act = f"{{ {act} && (\n{unit.ready}\n) </dev/null; }}"
    failed = f"give_up {action} {quote(unit.name, *done)}"
    if not unit.required:
        failed = f"last_lines {quote(unit.name)}"
    return [f"await {action} {quote(unit.name)}", f"{act} || {failed}"]


def _note_repairs(todo: Plan) -> list[str]:
    """Return the lines that add the successful repairs to the node's list of repairs."""
    # If a unit that is not required failed to start, it was not repaired
    names = {unit.name for unit in (*todo.start, *todo.restart) if not unit.required}
    return [
        *(
            f"systemctl is-active --quiet -- {quote(name)} || not_set {quote(name)}"
            for name in dict.fromkeys(one.name for one in todo.repairs if one.name in names)
        ),
        *(["were_set"] if todo.repairs else []),
    ]


def _systemctl(action: str, units: Iterable[Unit]) -> list[str]:
    """Return one systemctl line for all units; an empty list for no units.

    If the script called systemctl for each unit, systemd would reload its files each time.
    """
    names = [unit.name for unit in units]
    return [f"systemctl {action} -- {quote(*names)}"] if names else []
