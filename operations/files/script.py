"""Compose the shell script of one transaction, and the archive it gets: pure functions."""

from __future__ import annotations

import base64
import io
import posixpath
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.operations.engine.originals import KEEP
from chaos_engine.operations.engine.prelude import PRELUDE
from chaos_engine.operations.engine.repairs import fixes
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files.model import File, Plan, Unit, beside, unit_files

UNPACK = "base64 -d | tar -C / -xzmf - --no-same-owner --no-same-permissions"
"""Shell command that unpacks a `payload` from the script's standard input. It needs umask 077."""

LIKE = "cp -a --attributes-only --no-preserve=timestamps --"
"""Shell command that copies owner, mode, ACL and extended attributes from a first file to a second.
It is followed by both paths."""

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

# Where the journal is in RAM only that one is read: others may write to /var/log/journal
_LAST_LINES = """\
last_lines() { # UNIT: print the last lines of its journal
  unit=$1; shift
  [ ! -d /run/log/journal ] || set -- -D /run/log/journal
  journalctl --sync 2>/dev/null || true
  journalctl -q --no-pager -o cat -n 8 "$@" -u "$unit" >&2 2>/dev/null || true
}"""


def command_of(script: str, write: Iterable[File] = ()) -> StringCommand:
    """Return the command that runs a script, with new files on its standard input.

    + write: the files that the script unpacks by `UNPACK`; without any it gets no input
    """
    write = tuple(write)
    given: dict[str, Any] = {"_stdin": payload(write)} if write else {}
    return StringCommand("sh", "-c", QuoteString(script), **given)


def payload(files: Iterable[File]) -> str:
    """Return the new files as a gzipped tar archive in base64, each under its staged name."""
    return _payload(tuple(files))


@lru_cache(maxsize=8)  # packed once for all hosts that get the same large file
def _payload(files: tuple[File, ...]) -> str:
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
    reload = "systemctl daemon-reload" if todo.daemon_reload else ":"
    lines = [
        *_begin(todo, before),
        *_stage(todo),
        *_give_rights(todo),
        *_check(todo, check),
        *_note(todo, tuple(makes)),
        *_swap_in(todo),
        reload,
        *_apply(todo, apply, reload),
        *_act_on_units(todo, reload),
        *_note_fixed(todo),
    ]
    return "\n".join([*lines, ""])


def _touched(todo: Plan) -> list[str]:
    """Return the paths that are written or removed."""
    return [*(file.path for file in todo.write), *todo.remove]


def _staged(todo: Plan) -> str:
    """Return the paths of the staged files, quoted."""
    return quote(*(file.staged for file in todo.write))


def _begin(todo: Plan, before: str) -> list[str]:
    # Where an old file is staged when it is restored; after an interruption a later run removes it
    olds = quote(*(beside(path, "chaos-old") for path in _touched(todo)))
    lines = [
        PRELUDE,
        # what a script that was killed has left
        'rm -rf -- "$RUN_DIR"/stage.*; stage=$(mktemp -d "$RUN_DIR/stage.XXXXXX")',
        "cleanup() {",
        f'  rm -rf -- "$stage"; rm -f -- {_staged(todo)} {olds} "$STAGED"',
        '  rmdir -- "$STATE_DIR" 2>/dev/null || :',  # made for a set that was refused
        "}",
        "trap cleanup EXIT; trap 'exit 1' HUP INT TERM",
        KEEP,
        *([before] if before else []),
    ]
    if _touched(todo):
        lines.append(f"staging {_staged(todo)} {olds}; rm -f -- {_staged(todo)} {olds}")
    return lines


def _stage(todo: Plan) -> list[str]:
    if not todo.write:
        return []
    folders = sorted({posixpath.dirname(file.path) for file in todo.write})
    return [
        *(f"folders {quote(file.path)}" for file in todo.write),
        '[ -z "${to_settle-}" ] || settle',
        f"(umask 022; mkdir -p -- {quote(*folders)})",
        # mode 0600 from the first byte: umask 077, and tar's members are 0600
        UNPACK,
    ]


def _give_rights(todo: Plan) -> list[str]:
    owned: dict[str, list[str]] = {}
    modes: dict[str, list[str]] = {}
    for file in todo.write:
        if file.mode is not None:
            owned.setdefault(f"{file.owner}:{file.group}", []).append(file.staged)
            modes.setdefault(file.mode, []).append(file.staged)
    return [
        # chown first: it clears setuid and setgid
        *(f"chown -- {quote(owner, *paths)}" for owner, paths in owned.items()),
        *(f"chmod -- {quote(mode, *paths)}" for mode, paths in modes.items()),
        *(
            f"[ ! -f {quote(file.path)} ] || {LIKE} {quote(file.path, file.staged)}"
            for file in todo.write
            if file.merged and file.mode is not None
        ),
    ]


def _check(todo: Plan, check: str) -> list[str]:
    if not todo.write:
        return []
    if not check:
        return [f"sync -- {_staged(todo)}"]
    lines = []
    for file in todo.write:
        if not file.secret and len(file.data) <= 1 << 20:
            lines.append(f'mkdir -p -- "$stage"{quote(posixpath.dirname(file.path))}')
            lines.append(f'cp -- {quote(file.staged)} "$stage"{quote(file.path)}')
    shown = "" if any(file.secret for file in todo.write) else '; tail -n 5 "$stage/.log" >&2'
    return [
        *lines,
        # not as a condition of `if`: there `set -e` is off, also in a subshell
        f'set +e; ( set -e; eval {quote(check)} ) >"$stage/.log" 2>&1 </dev/null',
        "status=$?; set -e; if [ $status -ne 0 ]; then",
        f"  echo {quote('the new files were refused by: ' + check)} >&2{shown}",
        "  exit 1",
        "fi",
        f"sync -- {_staged(todo)}",
    ]


def _note(todo: Plan, makes: tuple[str, ...]) -> list[str]:
    """Return the lines that note for undo what will be changed, before any of it is."""
    kept = [*_touched(todo), *makes]
    lines = [f"folders {quote(path)}" for path in makes]
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
    return [*lines, *fixes(todo.repairs), "settle"]


def _swap_in(todo: Plan) -> list[str]:
    """Return the lines that put the new files in place, and the function that restores the old."""
    touched = _touched(todo)
    # In RAM: on the card they would stay behind after a power cut
    kept = {path: f'"$stage/old.{n}"' for n, path in enumerate(touched)}
    own = _written_units(todo)
    back = [f"{line} || true" for line in _systemctl("--no-reload disable", own)]
    back += [f"back {kept[path]} {quote(path, beside(path, 'chaos-old'))}" for path in touched]
    changes = [f"mv -fT -- {quote(file.staged, file.path)}" for file in todo.write]
    changes += [f"rm -f -- {quote(path)}" for path in todo.remove]
    changes += _systemctl("--no-reload enable", own)
    folders = sorted({posixpath.dirname(path) for path in touched})
    return [
        *([_BACK] if touched else []),
        *(f"hold_old {quote(path)} {kept[path]}" for path in touched),
        *("undo() {", *(f"  {line}" for line in back), "  :", "}"),
        *(f"{line} || {{ undo; exit 1; }}" for line in changes),
        *([f"sync -- {quote(*folders)}"] if folders else []),
    ]


def _written_units(todo: Plan) -> tuple[Unit, ...]:
    """Return the units to enable whose unit files are written.

    They are enabled before the one reload of systemd: a second reload would take long.
    """
    written = {posixpath.basename(file.path) for file in unit_files(todo.write)}
    return tuple(unit for unit in todo.enable if unit.name in written)


def _apply(todo: Plan, apply: str, reload: str) -> list[str]:
    if not apply:
        return []
    restored = "echo 'applying the new files failed; the old files were restored' >&2"
    return [
        f"set +e; (\nset -e\n{apply}\n) </dev/null",
        "status=$?; set -e; if [ $status -ne 0 ]; then",
        f"  undo; {reload}",
        f"  {restored if _touched(todo) else ':'}",
        "  exit 1",
        "fi",
    ]


def _act_on_units(todo: Plan, reload: str) -> list[str]:
    # a masked unit cannot be started
    lines = _systemctl("unmask", todo.unmask)
    lines += [_LAST_LINES] if (*todo.stop, *todo.start, *todo.restart) else []
    done: list[Unit] = []
    for action, units in (("stop", todo.stop), ("start", todo.start), ("restart", todo.restart)):
        for unit in units:
            lines += _act(action, unit, reload, done)
            done.append(unit)
    own = _written_units(todo)
    return [
        *lines,
        *_systemctl("disable", todo.disable),
        *_enable(unit for unit in todo.enable if unit not in own),
        # reenable removes all links of a unit, and makes those that its file names
        *_systemctl("reenable", todo.reenable),
    ]


def _note_fixed(todo: Plan) -> list[str]:
    # A unit that is not required may have failed to start: then nothing was fixed
    names = {unit.name for unit in (*todo.start, *todo.restart) if not unit.required}
    return [
        *(
            f"systemctl is-active --quiet -- {quote(name)} || not_fixed {quote(name)}"
            for name in dict.fromkeys(one.name for one in todo.repairs if one.name in names)
        ),
        *(["fixed"] if todo.repairs else []),
    ]


def _systemctl(action: str, units: Iterable[Unit]) -> list[str]:
    """Return the line that acts on all units at once: systemd reads all its files each time."""
    names = [unit.name for unit in units]
    return [f"systemctl {action} -- {quote(*names)}"] if names else []


def _enable(units: Iterable[Unit]) -> list[str]:
    """Return the lines that enable those of the units that are not enabled yet.

    apt may just have enabled one. To do it again takes seconds where the unit also has a script in
    ``/etc/init.d``.
    """
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


def _act(action: str, unit: Unit, reload: str, done: list[Unit]) -> list[str]:
    """Return the lines that act on a unit.

    + action: "start", "stop" or "restart"
    + reload: shell command that has systemd read its files
    + done: the units that were acted on before. If this one fails, they are restarted with the old
      files
    """
    name = quote(unit.name)
    again = quote(*(one.name for one in done))
    lines = [
        f"systemctl reset-failed -- {name} 2>/dev/null || true",
        f"tell {quote(f'waiting for the {action} of {unit.name}')}",
    ]
    act = f"systemctl {action} -- {name}"
    if unit.ready:
        act = f"{{ {act} && (\n{unit.ready}\n) </dev/null; }}"
    why = f"last_lines {name}"
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
        f"  echo {name} did not {action} with the new files, so the old files were restored >&2",
        "  exit 1",
        "fi",
    ]
