"""Mount the file system of Docker's data with options that make it write less to its disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from chaos_engine.facts.container_logs import DATA_ROOT, DataDisk, DockerDisk
from chaos_engine.facts.docker import DockerInfo, Engine
from chaos_engine.facts.files import Content
from chaos_engine.facts.fstab import PATH as FSTAB
from chaos_engine.facts.manifest import Entry
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.repairs import Repairs
from chaos_engine.facts.suspects import Search
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.docker import daemon_json
from chaos_engine.operations.engine.arguments import Folder, Form
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, in_files, literal
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File
from chaos_engine.operations.fstab import (
    family,
    replaced_options,
    restored,
    with_mount_options,
)
from chaos_engine.operations.undo import Undo
from chaos_engine.templates import shell_script

MountOption = Annotated[
    str, Form("noatime|lazytime|commit=[1-9][0-9]{0,5}", "noatime, lazytime or commit=SECONDS")
]

REMOUNT = shell_script("remount")
"""Shell functions that mount a file system again with other options."""


def reads(options: Iterable[str], data_root: str | None = None) -> list[Read]:
    """Return the facts that `set_mount_options` reads when called with these arguments."""
    found = [Read.of(DockerDisk, path=data_root or DATA_ROOT), Read.of(Repairs)]
    if data_root is None:
        found += [Read.of(DockerInfo), Read.of(Content, path=daemon_json.CONFIG)]
    return found


@converge(reads=reads)
def set_mount_options(options: Iterable[MountOption], data_root: Folder | None = None) -> Commands:
    """Set mount options of the file system that holds Docker's data, now and at each boot.

    + options: the wanted options. The file system's other options stay as they are
    + data_root: Docker's data folder; ``None`` for the folder that the node's Docker uses

    The operation writes the options to the file system's entry in ``/etc/fstab``, and applies them
    with ``mount -o remount``. Containers keep running. If the file system is not ext4, the
    operation warns and changes nothing. Raises `NodeError` in these cases:

    - fstab does not have exactly one entry for the file system
    - the file system is mounted read-only
    - ``commit=`` is wanted, but the file system has no journal

    **Example:** ``set_mount_options(name="Write less often", options=["noatime", "commit=600"])``
    """
    options = tuple(options)
    disk = observe(DockerDisk, path=data_root or DATA_ROOT)
    if data_root is None:
        config = observe(Content, path=daemon_json.CONFIG)
        found = present_data_root(observe(DockerInfo), config)
        if found != DATA_ROOT:  # the disk above is that of DATA_ROOT
            disk = observe(DockerDisk, path=found)
    if reason := unsuitable(disk):
        warn(f"{reason}; its mount options are not changed")
        current()[1].noop(f"{disk.mount.target}: not changed")
        return
    check_mountable(disk, options)
    target = disk.mount.target
    fstab = with_mount_options(disk.fstab, target, options)
    wrong = [option for option in options if option not in disk.options]
    todo = files.Plan()
    if fstab != disk.fstab:
        data = fstab.encode("utf-8", "surrogateescape")
        todo = files.decide([File(FSTAB, data, merged=True)])
        because(f"set the options {','.join(options)} for {target} in {FSTAB}")
    if wrong:
        because(f"mount {target} with {','.join(wrong)} (it has {','.join(replaced(disk, wrong))})")
    yield from files.transaction(
        todo.explained_by(repairs(target, wrong, bool(todo))),
        before=compose_notes(disk, wrong, replaced_options(disk.fstab, fstab, target)),
        apply=compose(target, wrong),
        noop=f"{target}: mounted as wanted",
        force=bool(wrong),
    )


def present_data_root(engine: Engine | None, config: bytes | None) -> str:
    """Return Docker's data folder. This is a pure function.

    + engine: the running Docker, ``None`` if Docker does not run
    + config: the content of daemon.json, ``None`` if there is no file
    """
    if engine is not None:
        return engine.data_root
    found = daemon_json.parse(config).get("data-root")
    return found if isinstance(found, str) and found.startswith("/") else DATA_ROOT


def unsuitable(disk: DataDisk) -> str:
    """Return why a file system's mount options must stay as they are, "" if they may change.

    This is a pure function.
    """
    mount = disk.mount
    if mount.fstype != "ext4":
        return f"{disk.path} is on {mount.target}, which is {mount.fstype} and not ext4"
    if mount.root != "/":
        return f"{disk.path} is on {mount.target}, which is a folder of another file system"
    return ""


def check_mountable(disk: DataDisk, options: Iterable[str]) -> None:
    """Raise `NodeError` if a file system cannot be mounted with these options.

    This is a pure function.
    """
    mount = disk.mount
    if "ro" in (*mount.options, *mount.super_options):
        raise NodeError(
            f"{mount.target}, which holds Docker's data, is mounted read-only; look for the reason "
            f"in the kernel's messages (dmesg), check the disk, and mount {mount.target} again"
        )
    if disk.commit is None and any(family(option) == "commit" for option in options):
        raise NodeError(
            f"the ext4 on {mount.target} has no journal, and the kernel does not mount such a file "
            f"system with commit=; remove {setting('container_logs_commit')} for this node"
        )


def replaced(disk: DataDisk, options: Iterable[str]) -> Iterator[str]:
    """Yield the present mount option that each new option replaces. This is a pure function."""
    present = {family(option): option for option in disk.options}
    return (present[family(option)] for option in options)


def repairs(target: str, options: Iterable[str], written: bool) -> Iterator[Repair]:
    """Yield a `Repair` for each thing that a run sets. This is a pure function.

    + options: the options that the run applies
    + written: whether the run writes fstab too. If the run writes fstab, the function yields only
      the `Repair` of fstab
    """
    if written:
        # The wanted state is not the file's checksum, because other lines may change later
        yield Repair(f"{FSTAB}, {target}", "as wanted", "file", FSTAB, in_files(FSTAB))
        return
    for option in options:
        thing = f"{family(option)} of {target}"
        search = Search(thing, rf"mount[[:space:]].*remount.*{literal(target)}([^a-zA-Z0-9/]|$)")
        yield Repair(thing, option, "mount", note_name(option, target), search)


def note_name(option: str, target: str) -> str:
    """Return the name of an option's line in the manifest, the list of what undo restores.

    **Example:** ``note_name("noatime", "/") == "atime /"``
    """
    return f"{family(option)} {target}"


def compose_notes(disk: DataDisk, options: Sequence[str], edited: Mapping[str, str]) -> str:
    """Return the shell commands that write the replaced mount options into the manifest.

    Undo restores these options from the manifest. This is a pure function.

    + options: the options that the run applies
    + edited: the options that the run replaces in fstab, as `replaced_options` returns them
    """
    target = disk.mount.target
    pairs = zip(options, replaced(disk, options), strict=True)
    lines = [f"note mount {old} {quote(note_name(new, target))}" for new, old in pairs]
    for name, old in edited.items():
        lines.append(f"note option {quote(old or '-')} {quote(f'{name} {target}')}")
    return "\n".join(lines)


def compose(target: str, options: Sequence[str]) -> str:
    """Return the shell commands that apply a changed fstab and mount options.

    This is a pure function.
    """
    lines = ["systemctl daemon-reload"]
    if options:
        lines.append(f"{REMOUNT}remount {quote(target)} {','.join(options)}")
    return "\n".join(lines)


def without_options(
    notes: Iterable[Entry], current: bytes, original: bytes, written: bytes
) -> bytes:
    """Restore the mount options that the concern replaced, and return fstab's new content.

    + notes: the concern's lines in the manifest, the list of what undo restores
    + current: the file's present content
    + original: the content before this package's first change
    + written: the content that this package wrote last

    This is a pure function.
    """
    names = ((one.name.partition(" "), one.state) for one in notes if one.kind == "option")
    options = {(target, name): "" if old == "-" else old for (name, _, target), old in names}
    return restored(current, original, written, options)


UNDO = Undo(take_out_noted={FSTAB: without_options})
