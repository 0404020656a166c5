"""Put words on the kernel's command line, in whichever file the node has it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pyinfra.api.command import QuoteString, StringCommand

from chaos_engine.facts.kernel import (
    BACKUP_SUFFIX,
    GRUB_DROP_IN,
    RECORD,
    BootFile,
    Cmdline,
    KernelCmdline,
    split_words,
)
from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.repairs import Repairs
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import KernelWord
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.repairs import Repair, of_file
from chaos_engine.operations.files import File
from chaos_engine.operations.kernel.cmdline import edit, ineffective, warnings, without_words
from chaos_engine.operations.undo import Undo

ROOM = 64 * 1024
"""Bytes that must be free before a boot file is written."""

# These have neither modes nor owners: a file there would differ at each run
_WITHOUT_MODES = ("vfat", "msdos", "exfat")


def reads(wanted: Iterable[str]) -> list[Read]:
    """Return what `set_kernel_words` will observe."""
    return [Read.of(KernelCmdline), Read.of(Repairs)]


@converge(reads=reads)
def set_kernel_words(wanted: Iterable[KernelWord]) -> Commands:
    """Have words on the kernel's command line from the next boot on.

    + wanted: the words, for example ``("cgroup_enable=memory",)``

    Edited are the file that the firmware reads, a file that waits to take its place (Ubuntu's
    ``new/``), and the file of words that Debian's raspi-firmware adds whenever it writes the first
    one anew. Each is replaced by a rename after its content has reached the card; the original
    stays beside it. On a node without such a file nothing is done if its kernel has the memory
    controller, else GRUB gets a drop-in. `chaos_engine.operations.reboot` makes the words effective
    in the running kernel. Raises `NodeError` for files that cannot be edited safely.

    **Example:** ``set_kernel_words(name="Enable cgroup", wanted=["cgroup_enable=memory"])``
    """
    wanted = tuple(wanted)
    found = observe(KernelCmdline)
    edited = plan(found, wanted)
    if not edited:
        where = found.file.path if found.file else "the kernel"
        current()[1].noop(f"{where}: as wanted")
        return
    sources = [found.file, found.pending, found.extra, found.drop_in]
    read = {source.path: source for source in sources if source is not None}
    for file in edited:
        if file.path in read and file.path != GRUB_DROP_IN:
            for remark in warnings(file.path, read[file.path].text, wanted):
                warn(remark)
    apply = f"rm -f -- {RECORD}"  # a reboot that changed nothing before may help now
    if any(file.path == GRUB_DROP_IN for file in edited):
        apply += " && update-grub"
    check = " && ".join(unchanged(read[file.path]) for file in edited if file.path in read)
    for file in edited:
        if not file.path.endswith(BACKUP_SUFFIX):
            because(f"put {' '.join(wanted)} into {file.path}")
    # the files are looked at only where something changes
    todo = replace(
        files.decide(edited),
        why=(),
        repairs=tuple(_repair(file, read.get(file.path)) for file in edited),
    )
    yield from files.transaction(todo, check, apply, noop="the kernel: as wanted")


def plan(found: Cmdline, wanted: Sequence[str]) -> list[File]:
    """Return the files to write so that the next boot has the words: a pure function.

    Raises `NodeError` for files that cannot be edited safely.
    """
    if found.file is None:
        return _without_file(found, wanted)
    edited = []
    for source in (found.file, found.pending):
        if source is not None:
            edited += _edited(source, edit(source.path, source.text, wanted))
    if found.extra is not None:
        text = edit(found.extra.path, found.extra.text, wanted, root=False)
        if text != found.extra.text:
            edited.append(_file(found.extra, text))
    return edited


def next_boot_has(found: Cmdline, wanted: Sequence[str]) -> bool:
    """Tell whether the next boot brings all the words, with the files as they are now."""
    if found.file is not None:
        return not ineffective(split_words(found.file.text), wanted)
    return found.drop_in is not None and found.drop_in.text == grub_drop_in(wanted)


def pending(found: Cmdline, wanted: Sequence[str]) -> list[str]:
    """Return the wanted words that the running kernel lacks, none where it needs none."""
    if found.file is None and found.memory and found.drop_in is None:
        return []
    return ineffective(found.words, wanted)


def grub_drop_in(wanted: Iterable[str]) -> str:
    """Return the text of a drop-in by which GRUB gives more words to every kernel."""
    return (
        "# Control groups for Kubernetes; written by chaos-engine\n"
        f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(wanted)}"\n'
    )


def unchanged(source: BootFile) -> str:
    """Return the shell command that fails if the file has changed since it was read."""
    data = source.text.encode("utf-8", "surrogateescape")
    path = StringCommand(QuoteString(source.path)).get_raw_value()
    if not data:
        return f"! test -s {path}"
    return f"[ \"$(sha256sum <{path})\" = '{hashlib.sha256(data).hexdigest()}  -' ]"


def _without_file(found: Cmdline, wanted: Sequence[str]) -> list[File]:
    if found.rejected:
        for place in found.rejected:
            edit(place.path, place.text, wanted)  # raises an error with what is wrong
    if not wanted or (found.memory and found.drop_in is None):
        return []
    if not found.grub:
        raise NodeError(
            "the kernel has no memory controller and there is no cmdline.txt with root= in "
            "/boot/firmware or /boot, nor GRUB; mount the boot partition, or give the kernel "
            f"{' '.join(wanted)} yourself"
        )
    text = grub_drop_in(wanted)
    present = found.drop_in is not None and found.drop_in.text == text
    return [] if present else [File(GRUB_DROP_IN, text)]


def _edited(source: BootFile, text: str) -> list[File]:
    if text == source.text:
        return []
    if source.read_only:
        raise NodeError(
            f"{source.path}: its file system ({source.filesystem}) is mounted read-only, perhaps "
            "after an error; check it with fsck and mount it for writing"
        )
    if source.free < ROOM:
        raise NodeError(
            f"{source.path}: only {source.free} bytes are free on its file system, {ROOM} are "
            "needed; remove old kernels or files there"
        )
    original = [] if source.kept else [_file(source, source.text, BACKUP_SUFFIX)]
    return [*original, _file(source, text)]


def _repair(file: File, source: BootFile | None) -> Repair:
    data = source.text.encode("utf-8", "surrogateescape") if source else None
    found = None if data is None else hashlib.sha256(data).hexdigest()
    return of_file(file.path, file.sha256, "", found)


def _file(source: BootFile, text: str, suffix: str = "") -> File:
    return File(
        source.path + suffix,
        text.encode("utf-8", "surrogateescape"),
        mode=None if source.filesystem in _WITHOUT_MODES else source.mode,
        owner=source.owner,
        group=source.group,
        merged=not suffix,
    )


UNDO = Undo(
    needed_when_joined=True,
    note="the kernel's command line is as it was from the next boot on: reboot the node when that "
    "suits",
    take_out=dict.fromkeys(("*/cmdline.txt", "*/raspi-extra-cmdline"), without_words),
    removed={GRUB_DROP_IN: "! command -v update-grub >/dev/null || (umask 022; update-grub)"},
)
