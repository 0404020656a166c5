"""Decide which paths scripts may write, move or remove on a node.

Deploys and undo replace a path by a rename. These are the rules:

- A regular file or a symbolic link may be replaced. ``cp -a`` saves the original with its owner,
  mode, times, ACL and extended attributes. It saves a link as a link. Undo restores the original.
- A folder above the path may be a link to a folder.
- A merged file (most of its content is the node's own) keeps its owner, mode, ACL and extended
  attributes. If a link is in its place, the node is refused.
- In all other cases the node is refused before any change, because a script would fail half-way.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping

from chaos_engine.facts.files import FileState
from chaos_engine.facts.observe import NodeError
from chaos_engine.operations.engine.shell import quote


def folders_above(path: str) -> list[str]:
    """Return all folders above a path, the outermost first, without ``/``.

    **Example:** ``folders_above("/etc/docker/daemon.json")`` gives ``["/etc", "/etc/docker"]``.
    """
    folder = posixpath.dirname(path)
    return [] if folder in ("/", "") else [*folders_above(folder), folder]


def with_folders(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths and all folders above them, without duplicates."""
    return tuple(dict.fromkeys(one for path in paths for one in (*folders_above(path), path)))


def check_replaceable(
    touched: Iterable[str], found: Mapping[str, FileState], merged: Iterable[str] = ()
) -> None:
    """Raise one `NodeError` that names all paths that cannot be replaced.

    This is a pure function.

    + touched: paths that will be written, replaced or removed
    + found: the state of these paths and of the folders above them, by path. Paths that do not
      exist are left out
    + merged: those of the paths of which only some lines are this package's, so that the other
      lines must survive
    """
    merged = {*merged}
    problems: list[str] = []
    for path in dict.fromkeys(touched):
        problems += obstacles(path, found, path in merged)
    if problems:
        raise NodeError("; ".join(dict.fromkeys(problems)))


def obstacles(path: str, found: Mapping[str, FileState], merged: bool = False) -> Iterator[str]:
    """Yield each reason why a path cannot be replaced, and what the user has to do.

    This is a pure function.

    + found: as `check_replaceable` takes it
    + merged: whether the file at the path is merged (most of its content is the node's own)
    """
    state = found.get(path)
    if state is not None:
        yield from _obstacle_at(path, state, merged)
        if state.fixed and state.kind != "link":
            yield _unchangeable(path, state)
    # The script creates missing folders in the innermost folder that exists
    folder = next((one for one in reversed(folders_above(path)) if one in found), "")
    if not folder:
        return
    above = found[folder]
    if (above.leads_to if above.kind == "link" else above.kind) != "directory":
        yield (
            f"{folder} is {_described(above)}, but has to be a folder for {path}; move it away and "
            "run again"
        )
    elif above.fixed:
        yield _unchangeable(folder, above)


def _obstacle_at(path: str, state: FileState, merged: bool) -> Iterator[str]:
    """Return why the file, folder or link at a path cannot be replaced; nothing if it can be."""
    if state.kind in ("directory", "other"):
        yield f"{path} is {_described(state)}, but has to be a file; move it away and run again"
    elif state.kind == "link" and merged and state.leads_to == "file":
        name = quote(path)
        yield (
            f"{path} is a symbolic link, and would be replaced by a file; replace the link by a "
            f'copy of its target (cp --remove-destination "$(readlink -f {name})" {name}) and run '
            "again"
        )
    elif state.kind == "link" and merged:
        yield (
            f"{path} is {_described(state)}, and would be replaced by a file; remove the link (rm "
            f"{quote(path)}), put a file there if you need one, and run again"
        )


def _described(state: FileState) -> str:
    """Describe what is at a path, such as "a symbolic link to a folder"."""
    if state.kind == "link":
        leads = {"file": "a file", "directory": "a folder", "other": "a device, socket or FIFO"}
        to = f"to {leads[state.leads_to]}" if state.leads_to in leads else "that leads nowhere"
        return f"a symbolic link {to}"
    if state.kind == "directory":
        return "a folder"
    return "a file" if state.kind == "file" else "a device, socket or FIFO"


def _unchangeable(path: str, state: FileState) -> str:
    """Return why not even root can replace a path, and what to do."""
    name = quote(path)
    if state.fixed == "mounted":
        return (
            f"something is mounted on {path}, so this path cannot be replaced; unmount it "
            f"(umount {name}), remove the mount's line in /etc/fstab or the mount's unit, and run "
            "again"
        )
    if state.fixed == "unwritable":
        return (
            f"{path} cannot be changed, not even by root: it is immutable (fix: chattr -i {name}), "
            f"or its file system is mounted read-only (see findmnt -T {name}); fix this and run "
            "again"
        )
    flag = "i" if state.fixed == "immutable" else "a"
    return f"{path} is {state.fixed}; clear this flag (chattr -{flag} {name}) and run again"
