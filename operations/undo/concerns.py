"""Undo what a concern has changed on a node. The node's manifest lists these changes."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase

from chaos_engine.facts import manifest, share
from chaos_engine.facts.kubernetes import Joined
from chaos_engine.facts.manifest import NOBODY, Entry, Manifest, Remembered
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.operations.apt import APT
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.shell import (
    NOTES,
    PRELUDE,
    QUIETLY,
    for_concern,
    quote,
    shell_command,
)
from chaos_engine.operations.files.model import File
from chaos_engine.operations.files.replaceable import check_replaceable
from chaos_engine.operations.files.script import payload
from chaos_engine.operations.undo.declaration import TakeOut, Undo, take_out
from chaos_engine.templates import shell_script

UNDOING = (
    f"SHARE_SECONDS={share.SECONDS} SHARE_BLOCKS={share.MOST_BYTES // 512}\n"
    f"{share.CONFINED}{QUIETLY}{shell_script('remount')}{shell_script('undo')}"
)
"""Shell functions that undo changes on a node.

They need the functions of `NOTES`. The ones for packages also need the functions of
`chaos_engine.operations.apt.APT`."""

REINSTALL = shell_script("reinstall")
"""The shell function ``reinstall``, which installs removed packages again.

It needs the functions of `UNDOING`. It also needs ``$pin``, the path of the apt preferences that
prevent the installation of these packages."""

_PLAIN = Undo()


@dataclass(frozen=True)
class Changes:
    """The files that undo removes, restores, backs up, writes or leaves in place.

    + remove: paths to remove, because they did not exist before the first change
    + restore: paths whose original file is put back
    + aside: paths in `remove` and `restore` that others have changed. Undo first copies the present
      file to `manifest.ASIDE`
    + write: merged files (this package wrote only a part of each). The new content of a file is its
      present content without this package's part
    + leave: paths where others have put a file of their own, which undo does not touch
    """

    remove: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    write: tuple[File, ...] = ()
    leave: tuple[str, ...] = ()


@converge(reads=lambda *args, **kwargs: [Read.of(Manifest), Read.of(Joined)])
def undo_concern(concern: str, how: Undo | None = None, needed: Iterable[str] = ()) -> Commands:
    """Restore everything that a concern has changed on the node.

    + concern: the name of the concern's deploy, such as ``"docker"``
    + how: the concern's `Undo`; ``None`` if it has none
    + needed: names of the concerns that a node in a cluster needs

    The operation changes only what the node's manifest lists (`chaos_engine.facts.manifest`). If
    the manifest lists a thing for another concern too, the thing stays until the other concern is
    undone. If both concerns have added lines to one file, only this concern's lines are removed.
    If undo is interrupted, the next call continues it. Raises `NodeError` if the node has joined a
    cluster and needs the concern.

    **Example:** ``undo_concern(name="Undo Docker", concern="docker")``
    """
    found = observe(Manifest)
    check_undoable(found, [concern], tuple(needed) if observe(Joined) else ())
    yield from _undo(found, {concern: how or _PLAIN})


@converge(reads=lambda *args, **kwargs: [Read.of(Manifest)])
def undo_other_concerns(
    known: Iterable[str],
    asked: Collection[str] = (),
    hows: Mapping[str, Undo] | None = None,
) -> Commands:
    """Undo the concerns that do not belong to this package.

    Such a concern is a deploy from somewhere else that calls this package's operations.

    + known: names of this package's concerns, which `undo_concern` undoes
    + asked: names of the concerns to undo; empty for all
    + hows: the `Undo` of each concern, by the concern's name

    **Example:** ``undo_other_concerns(name="Undo others", known=["docker"])``
    """
    found, known = observe(Manifest), tuple(known)
    others = (c for c in reversed(found.concerns) if c not in known and (not asked or c in asked))
    yield from _undo(found, {name: (hows or {}).get(name, _PLAIN) for name in others})


@converge(reads=lambda *args, **kwargs: [Read.of(Manifest)])
def forget_changes(asked: Collection[str] = ()) -> Commands:
    """Remove the manifest and the saved original files when nothing is left to undo.

    + asked: names of the concerns that this run undoes; empty for all

    Copies of files that others have changed stay in ``/var/lib/chaos-engine/aside``. Raises
    `NodeError` if removed packages could not be installed again. All other changes are undone
    before this error.

    **Example:** ``forget_changes(name="Remove what was kept", asked=["docker"])``
    """
    found = observe(Manifest)
    if current()[0].is_executing and (lost := not_undone(found, asked)):
        raise NodeError(lost)
    others = [one for one in found.concerns if asked and one not in asked]
    if others or not [one for one in found.holds if one != posixpath.basename(manifest.ASIDE)]:
        reason = f"still needed for {', '.join(others)}" if others else "not there"
        current()[1].noop(f"{manifest.DIRECTORY}: {reason}")
        return
    because(f"remove {manifest.DIRECTORY}, because nothing is left to undo")
    yield shell_command(compose_end(found))


def _undo(found: Remembered, concerns: Mapping[str, Undo]) -> Commands:
    """Yield a command for each concern that has changed something on the node."""
    todo = {name: how for name, how in concerns.items() if name in found.concerns}
    if not todo:
        current()[1].noop("nothing to undo: no change of the concern is noted on the node")
    # If several concerns have noted the same thing, the last concern to be undone restores it
    noted, every, left = {}, {}, found
    for concern, how in todo.items():
        noted[concern], every[concern] = left, changes(left, concern, how)
        # The next concern removes its part from the content that this concern's undo leaves
        texts = {**left.texts, **{file.path: file.data for file in every[concern].write}}
        left = once_undone(replace(left, texts=texts), concern)
    refuse_replacing(every.values(), found)
    for concern, files in every.items():
        for message in (*warnings(files), todo[concern].note):
            if message:
                warn(message)
        because(*why(noted[concern], concern, files))
        yield shell_command(
            compose(noted[concern], concern, files, todo[concern]), stdin=payload(files.write)
        )


def once_undone(found: Remembered, concern: str) -> Remembered:
    """Return what the node's manifest will be once a concern is undone. This is a pure function."""
    shared = _shared(found, concern)
    return replace(
        found,
        entries=tuple(
            replace(entry, concern=NOBODY) if entry.concern == concern else entry
            for entry in found.entries
            if entry.concern != concern or (entry.kind == "wrote" and _path(entry) in shared)
        ),
    )


def _shared(found: Remembered, concern: str) -> set[str]:
    """Return the paths of files that the manifest lists for this concern and another concern."""
    own = {entry.name for entry in _only_of(found, concern, "file")}
    return {entry.name for entry in found.of(concern, "file")} - own


def _path(wrote: Entry) -> str:
    """Return the path from the name ``SHA256 PATH`` of a manifest entry of kind ``wrote``."""
    return wrote.name.partition(" ")[2]


def refuse_replacing(every: Iterable[Changes], found: Remembered) -> None:
    """Raise a `NodeError` that names all paths that cannot be replaced. This is a pure function."""
    touched = [
        path
        for files in every
        for path in (*files.restore, *files.remove, *(file.path for file in files.write))
        # The script checks paths on the log share, because others may change them until it runs
        if not share.on_share(path)
    ]
    check_replaceable(touched, found.files, (e.name for e in found.entries if e.kind == "merged"))


def check_undoable(found: Remembered, concerns: Iterable[str], needed: Iterable[str] = ()) -> None:
    """Raise `NodeError` if the node needs one of the concerns. This is a pure function.

    + concerns: names of the concerns to undo
    + needed: names of the concerns that the node needs; empty if it has not joined a cluster
    """
    # The message names all needed concerns. So it is the same for each concern, and printed once
    needed = [one for one in needed if one in found.concerns]
    if not {*needed}.isdisjoint(concerns):
        raise NodeError(
            f"the node has joined a cluster and needs {', '.join(needed)}. Drain the node (kubectl "
            "drain), run kubeadm reset --cri-socket unix:///run/cri-dockerd.sock on it, run "
            "undo again, and then remove the node from the cluster (kubectl delete node)"
        )


def not_undone(found: Remembered, asked: Collection[str] = ()) -> str:
    """Return a message about packages that could not be installed again, "" if there are none.

    + asked: names of the concerns that were undone; empty for all
    """
    lost = [
        f"{entry.name} {entry.state.split(' ')[0]}"
        for concern in found.concerns
        if not asked or concern in asked
        for entry in found.of(concern, "removed")
    ]
    if not lost:
        return ""
    return (
        f"no archive offers these packages, which a deploy had removed: {', '.join(lost)}. "
        "Everything else was undone. Add an archive that has them, install them in another way, or "
        f"remove their lines from {manifest.MANIFEST}. Then run undo again"
    )


def changes(
    found: Remembered, concern: str, how: Undo = _PLAIN, originals: str = manifest.ORIGINALS
) -> Changes:
    """Decide what undo does with the files of a concern. This is a pure function.

    + originals: folder of the originals on the node
    """
    merged = {entry.name for entry in found.of(concern, "merged")}
    written: dict[str, set[str]] = {}
    for entry in found.entries:
        if entry.kind == "wrote":
            sha256, _, path = entry.name.partition(" ")
            written.setdefault(path, set()).add(sha256)
    parts = how.parts([entry for entry in found.entries if entry.concern == concern])
    each = [
        _merged_change(found, entry.name, parts, originals)
        if entry.name in merged
        else _change(found, entry, originals, written.get(entry.name, set()))
        for entry in _only_of(found, concern, "file")
    ]
    each += [_part_removed(found, path, parts) for path in sorted(merged & _shared(found, concern))]
    kinds = (field.name for field in fields(Changes))
    return Changes(*(tuple(item for one in each for item in getattr(one, k)) for k in kinds))


def _change(found: Remembered, entry: Entry, originals: str, written: Collection[str]) -> Changes:
    """Decide what undo does with one file that is not merged.

    + entry: the file's line in the manifest
    + written: checksums of all contents that this package has written to the file
    """
    path, state = entry.name, found.files.get(entry.name)
    original = found.files.get(f"{originals}{path}")
    foreign = False
    if state is not None and state.kind == "file":
        foreign = state.sha256 not in (*written, original.sha256 if original else "")
        # Somebody has put a file where this package made a link, or the file is too large to read
        if foreign and ((entry.state == "created" and not written) or state.sha256 is None):
            return Changes(leave=(path,))
    elif state is not None and state.kind == "link" and written and not share.on_share(path):
        # This package wrote a file. Somebody has put a link there, unless the original is a link
        foreign = original is None or original.kind != "link"
    aside = (path,) if foreign else ()
    if entry.state == "created":
        return Changes(remove=(path,), aside=aside)
    return Changes(restore=(path,), aside=aside)


def _merged_change(
    found: Remembered, path: str, parts: Mapping[str, TakeOut], originals: str
) -> Changes:
    """Decide how undo removes this package's part from one merged file."""
    if path not in found.files:
        return Changes()
    now, was = found.texts.get(path, b""), found.texts.get(f"{originals}{path}")
    written = found.texts.get(f"{manifest.WRITTEN}{path}", now)
    rest = take_out(path, now, was, written, parts)
    if rest is None:
        return Changes(remove=(path,))
    if rest == was:  # then undo also restores the original's owner, mode and attributes
        return Changes(restore=(path,))
    return Changes(write=(File(path, rest, merged=True),) if rest != now else ())


def _part_removed(found: Remembered, path: str, parts: Mapping[str, TakeOut]) -> Changes:
    """Decide how undo removes a concern's part from a merged file that another concern changed too.

    The other concern's part stays until that concern is undone.
    """
    now, was = found.texts.get(path), found.texts.get(f"{manifest.ORIGINALS}{path}")
    written = found.texts.get(f"{manifest.WRITTEN}{path}")
    part = next((own for pattern, own in parts.items() if fnmatchcase(path, pattern)), None)
    if now is None or written is None or part is None:
        return Changes()
    rest = part(now, was or b"", written)
    return Changes(write=(File(path, rest, merged=True),) if rest not in (now, None) else ())


def warnings(files: Changes) -> Iterator[str]:
    """Yield warnings about files that others have changed. This is a pure function."""
    for path in files.aside:
        yield f"{path} was changed since the deploy; a copy of it is in {manifest.ASIDE}{path}"
    for path in files.leave:
        yield f"others have replaced {path}, so undo leaves it as it is"


def why(found: Remembered, concern: str, files: Changes) -> Iterator[str]:
    """Yield a text for each change that undoing a concern makes. This is a pure function."""
    yield from listed("restore", files.restore)
    yield from listed("remove this package's part from", (file.path for file in files.write))
    yield from listed("remove", files.remove)
    packages = _packages(_only_of(found, concern, "package"))
    yield from listed("remove the packages", (one.rpartition(" ")[2] for one in packages))
    yield from listed("install again", (entry.name for entry in found.of(concern, "removed")))
    yield from listed("remove the image", (e.name for e in _only_of(found, concern, "image")))
    for entry in _only_of(found, concern, "network"):
        verb = "remove" if entry.state == "created" else "restore"
        yield f"{verb} the Docker network {entry.name}"
    yield from listed("remove the link", (e.name for e in _only_of(found, concern, "link")))
    yield from listed(
        "restore the kernel parameters", (e.name for e in _only_of(found, concern, "sysctl"))
    )
    for entry in _only_of(found, concern, "mount"):
        yield f"mount {entry.name.partition(' ')[2]} with {entry.state}"
    yield from listed("turn swap on again on", (e.name for e in _only_of(found, concern, "swap")))
    yield f"forget what {concern} has changed"


def _only_of(found: Remembered, concern: str, kind: str) -> list[Entry]:
    """Return the concern's manifest lines of one kind. Lines about shared things are left out.

    A thing is shared if another concern has a line about the thing too.
    """
    others = {(e.kind, e.name) for e in found.entries if e.concern not in (concern, NOBODY)}
    return [entry for entry in found.of(concern, kind) if (kind, entry.name) not in others]


def compose(found: Remembered, concern: str, files: Changes, how: Undo = _PLAIN) -> str:
    """Return the shell script that undoes a concern, and then removes the concern's notes."""

    def each(function: str, kind: str, with_state: bool = False) -> list[str]:
        """Return a call of a shell function for each thing that only this concern has changed."""
        entries = _only_of(found, concern, kind)
        if kind == "folder":
            entries = _inner_first(entries)
        return [f"{function} {quote(e.name, *([e.state] * with_state))}" for e in entries]

    removed = list(found.of(concern, "removed"))
    packages = _packages(_only_of(found, concern, "package"))
    apt = packages or removed or any(e.kind in ("hold", "manual") for e in found.entries)
    own = {posixpath.basename(path) for path in files.remove}
    # ActiveState and UnitFileState of each unit, in the order of the manifest
    units = {e.name: e.state.partition(" ")[::2] for e in _only_of(found, concern, "unit")}
    ended = [name for name, (_, enabled) in units.items() if not enabled and name in own]
    lines = [
        # Commands of a concern's `Undo` may call uppermost, which is among the functions of APT
        *(PRELUDE, NOTES, APT if apt else share.UPPERMOST, UNDOING),
        how.first,
        *_reinstall(removed),
        *(f"end_unit {quote(name)}" for name in reversed(ended)),
        how.stopped,
        *(command for name, command in how.purged.items() if f"purge {name}" in packages),
        *each("drop_image", "image"),
        *each("drop_network", "network", with_state=True),
        *each("drop_link", "link"),
        *_change_files(files, {entry.name for entry in found.of(concern, "secret")}),
        "systemctl daemon-reload",
        *each("sysctl_again", "sysctl", with_state=True),
        *each("remount_again", "mount", with_state=True),
        *(command for path, command in how.removed.items() if path in files.remove),
        *each("unhold", "hold"),
        *each("auto_again", "manual"),
        # This package's folders may be inside folders of the packages. So they are removed first
        *each("empty_folder", "folder"),
        *([f"remove_packages {quote(*packages)}"] if packages else []),
        *(
            f"unit_again {quote(name, active if enabled else '', enabled)}"
            for name, (active, enabled) in units.items()
            if name not in ended
        ),
        *each("swap_again", "swap", with_state=True),
        *each("drop_folder", "folder"),
        how.last,
        *(f'rm -f -- "$RUN_DIR"/{quote(name)}' for name in units),
        *_forget(found, concern),
        'rm -rf -- "$REPACKED"' if removed else "",
    ]
    return for_concern("\n".join([*filter(None, lines), ""]), concern)


def _reinstall(removed: Collection[Entry]) -> list[str]:
    """Return the shell commands that install packages again and restore their apt marks."""
    if not removed:
        return []
    wanted = (f"{entry.name} {entry.state.split(' ')[0]}" for entry in removed)
    lines = [REINSTALL, f"reinstall {quote(*wanted)}"]
    for mark in ("auto", "hold"):
        marked = [entry.name for entry in removed if mark in entry.state.split(" ")[1:]]
        lines += [f"mark_again {mark} {quote(*marked)}"] if marked else []
    return lines


def _change_files(files: Changes, secret: Collection[str]) -> list[str]:
    """Return the shell commands that write, restore and remove files.

    + secret: paths of secret files. Their content is overwritten before they are removed
    """
    lines = [f"set_aside {quote(path)}" for path in files.aside]
    if files.write:
        staged = quote(*(file.staged for file in files.write))
        lines += [
            f"staging {staged}; rm -f -- {staged}",
            "unpack",
            # copy_rights fails on vfat, because vfat has no owners
            *(f"copy_rights {quote(f.path, f.staged)} 2>/dev/null || :" for f in files.write),
            f"sync -- {staged}",
            *(f"mv -fT -- {quote(file.staged, file.path)}" for file in files.write),
        ]
    lines += [f"put_back {quote(path)}" for path in files.restore]
    return lines + [f"{'wipe' if p in secret else 'remove_file'} {quote(p)}" for p in files.remove]


def _forget(found: Remembered, concern: str) -> list[str]:
    """Return the shell commands that remove a concern's notes and the originals of its files."""
    shared = _shared(found, concern)
    return [
        # The lines about shared files stay. Undo of the other concern has to know what was written
        *(
            f"release wrote {quote(entry.name)}"
            for entry in found.of(concern, "wrote")
            if _path(entry) in shared
        ),
        *("durable", "forget"),
        *(f"forget_file {quote(entry.name)}" for entry in found.of(concern, "file")),
    ]


def compose_end(found: Remembered) -> str:
    """Return the shell script that removes all notes when nothing is left to undo."""
    packages, folders = _packages(found.of(NOBODY, "package")), found.of(NOBODY, "folder")
    lines = [
        *(PRELUDE, NOTES, *([APT] if packages else []), UNDOING),
        *([f"remove_packages {quote(*packages)}"] if packages else []),
        *(f"drop_folder {quote(entry.name)}" for entry in _inner_first(folders)),
        # The manifest is removed last, so that the next call can continue an interrupted undo
        'for one in "$STATE_DIR"/*; do',
        '  case $one in "$ASIDE" | "$MANIFEST") ;; *) rm -rf -- "$one" ;; esac',
        "done",
        'find "$RUN_DIR" -mindepth 1 -maxdepth 1 ! -path "$LOCK" -exec rm -rf -- {} +',
        'rm -f -- "$MANIFEST"',
        'rmdir -- "$STATE_DIR" 2>/dev/null || :',
    ]
    return for_concern("\n".join([*lines, ""]), NOBODY)


def _packages(entries: Iterable[Entry]) -> list[str]:
    """Return ``purge NAME`` or ``remove NAME`` for each package that a run has installed.

    A package gets ``remove`` if its configuration was on the node before the run. The list leaves
    out packages that a run has only upgraded.
    """
    how = {"absent": "purge", "config": "remove"}
    return [f"{how[entry.state]} {entry.name}" for entry in entries if entry.state in how]


def _inner_first(entries: Iterable[Entry]) -> list[Entry]:
    """Return folders sorted: each folder comes before the folder that contains it."""
    return sorted(entries, key=lambda entry: -len(entry.name))
