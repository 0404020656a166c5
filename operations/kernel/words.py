"""Put words on the kernel's command line, in whichever file the node has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

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
from chaos_engine.operations.engine.repairs import of_file
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File
from chaos_engine.operations.kernel.cmdline import edit, ineffective, warnings, without_words
from chaos_engine.operations.undo import Undo

ROOM = 64 * 1024
"""Bytes that must be free before a boot file is written."""

# These have neither modes nor owners: a file there would differ at each run
_WITHOUT_MODES = ("vfat", "msdos", "exfat")


@converge(reads=lambda wanted: [Read.of(KernelCmdline), Read.of(Repairs)])
def set_kernel_words(wanted: Iterable[KernelWord]) -> Commands:
    """Have words on the kernel's command line from the next boot on.

    + wanted: the words, for example ``("cgroup_enable=memory",)``

    These files are edited: the one that the firmware reads, one that waits to take its place
    (Ubuntu's ``new/``), and the one with the words that Debian's raspi-firmware adds whenever it
    writes the first file anew. Each is replaced by a rename after its content has reached the card;
    the original stays beside it. A node without such a file gets a drop-in of GRUB, unless its
    kernel has the memory controller already. `chaos_engine.operations.reboot` reboots the node, so
    that the running kernel has the words too. Raises `NodeError` for files that cannot be edited
    safely.

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
    before = {source.path: source for source in sources if source is not None}
    apply = f"rm -f -- {RECORD}"  # with these files, a reboot may help that did not help before
    checks, repairs = [], []
    for file in edited:
        if not file.path.endswith(BACKUP_SUFFIX):
            because(f"put {' '.join(wanted)} into {file.path}")
        source = before.get(file.path)
        old = _file(source, source.text).sha256 if source else None
        repairs.append(of_file(file.path, file.sha256, "", old))
        if source is not None:
            checks.append(unchanged(source))
        if file.path == GRUB_DROP_IN:
            apply += " && update-grub"
        elif source is not None:
            for message in warnings(file.path, source.text, wanted):
                warn(message)
    # `decide` reads the files with one more command, but only if something changes
    todo = replace(files.decide(edited), why=(), repairs=tuple(repairs))
    yield from files.transaction(todo, " && ".join(checks), apply, noop="the kernel: as wanted")


def plan(found: Cmdline, wanted: Sequence[str]) -> list[File]:
    """Return the files that have to be written for the next boot to have the words.

    Raises `NodeError` for files that cannot be edited safely. A pure function.
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
    """Tell whether the kernel will have all the words after a reboot, by the files as they are."""
    if found.file is not None:
        return not ineffective(split_words(found.file.text), wanted)
    return found.drop_in is not None and found.drop_in.text == grub_drop_in(wanted)


def pending(found: Cmdline, wanted: Sequence[str]) -> list[str]:
    """Return the wanted words that the running kernel lacks.

    Without a boot file, a kernel that has the memory controller already needs no words.
    """
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
    path = quote(source.path)
    if not source.text:
        return f"! test -s {path}"
    return f"[ \"$(sha256sum <{path})\" = '{_file(source, source.text).sha256}  -' ]"


def _without_file(found: Cmdline, wanted: Sequence[str]) -> list[File]:
    """Return the drop-in for GRUB; nothing if the node needs none or has it already."""
    for place in found.rejected:
        edit(place.path, place.text, wanted)  # raises an error that says what is wrong in it
    if not wanted or (found.memory and found.drop_in is None):
        return []
    if not found.grub:
        raise NodeError(
            "the kernel has no memory controller and there is no cmdline.txt with root= in "
            "/boot/firmware or /boot, nor GRUB; mount the boot partition, or give the kernel "
            f"{' '.join(wanted)} yourself"
        )
    return [] if next_boot_has(found, wanted) else [File(GRUB_DROP_IN, grub_drop_in(wanted))]


def _edited(source: BootFile, text: str) -> list[File]:
    """Return the boot file with another text and its original, none if the text is the same.

    Raises `NodeError` if it cannot be written.
    """
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
    note="from the next boot on, the kernel's command line is as it was: reboot the node when that "
    "suits",
    take_out=dict.fromkeys(("*/cmdline.txt", "*/raspi-extra-cmdline"), without_words),
    removed={GRUB_DROP_IN: "! command -v update-grub >/dev/null || (umask 022; update-grub)"},
)
