"""Put words on the kernel's command line, in ``cmdline.txt`` or through GRUB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
"""A boot file is written only if its file system has at least this many bytes of free space."""

# These file systems store neither modes nor owners, so a wanted mode would differ at each run
_WITHOUT_MODES = ("vfat", "msdos", "exfat")


@converge(reads=lambda wanted: [Read.of(KernelCmdline), Read.of(Repairs)])
def set_kernel_words(wanted: Iterable[KernelWord]) -> Commands:
    """Put words on the kernel's command line for the next boot.

    + wanted: the words, for example ``("cgroup_enable=memory",)``

    The operation edits the file that the firmware reads, usually ``cmdline.txt``. It also edits two
    other files if they exist:

    - Ubuntu's ``new/cmdline.txt``. Ubuntu replaces ``cmdline.txt`` with this file after a new
      kernel has booted.
    - ``/etc/default/raspi-extra-cmdline``. Debian's raspi-firmware adds the words of this
      file each time that raspi-firmware rewrites ``cmdline.txt``.

    Each new file is synced to the card, and then renamed over the old file. A copy of the original
    ``cmdline.txt`` stays beside the new file.

    On a node without ``cmdline.txt``, the operation writes a drop-in for GRUB. If the kernel of
    such a node already has the memory controller, nothing is written. The words take effect when
    `chaos_engine.operations.reboot` reboots the node. Raises `NodeError` for files that cannot be
    edited safely.

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
    # RECORD has earlier reboots that did not help. With the new files, a reboot may help
    apply = f"rm -f -- {RECORD}"
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
    # `decide` costs one more command to read the files, so it is called only for a change
    todo = files.decide(edited).explained_by(repairs)
    yield from files.transaction(todo, " && ".join(checks), apply, noop="the kernel: as wanted")


def plan(found: Cmdline, wanted: Sequence[str]) -> list[File]:
    """Return the files to write so that the next boot has the wanted words.

    This is a pure function.

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
    """Tell whether the present boot files give the kernel all wanted words at the next boot."""
    if found.file is not None:
        return not ineffective(split_words(found.file.text), wanted)
    return found.drop_in is not None and found.drop_in.text == grub_drop_in(wanted)


def pending(found: Cmdline, wanted: Sequence[str]) -> list[str]:
    """Return the wanted words that the running kernel lacks.

    Returns [] for a node that has neither ``cmdline.txt`` nor this package's drop-in for GRUB, if
    its kernel already has the memory controller. Such a node needs no words.
    """
    if found.file is None and found.memory and found.drop_in is None:
        return []
    return ineffective(found.words, wanted)


def grub_drop_in(wanted: Iterable[str]) -> str:
    """Return the text of a drop-in for GRUB that adds words to every kernel's command line."""
    return (
        "# Control groups for Kubernetes; written by chaos-engine\n"
        f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(wanted)}"\n'
    )


def unchanged(source: BootFile) -> str:
    """Return a shell command that fails if a boot file has changed since it was read."""
    path = quote(source.path)
    if not source.text:
        return f"! test -s {path}"
    return f"[ \"$(sha256sum <{path})\" = '{_file(source, source.text).sha256}  -' ]"


def _without_file(found: Cmdline, wanted: Sequence[str]) -> list[File]:
    """Return the GRUB drop-in that a node without ``cmdline.txt`` needs, [] if it needs none.

    Raises `NodeError` if the kernel needs the words, but the node has no GRUB.
    """
    for place in found.rejected:
        edit(place.path, place.text, wanted)  # raises an error that says what is wrong in the file
    if not wanted or (found.memory and found.drop_in is None):
        return []
    if not found.grub:
        raise NodeError(
            "the kernel has no memory controller, and the node has neither GRUB nor a cmdline.txt "
            "with root= in /boot/firmware or /boot; mount the boot partition, or add "
            f"{' '.join(wanted)} to the kernel's command line yourself"
        )
    return [] if next_boot_has(found, wanted) else [File(GRUB_DROP_IN, grub_drop_in(wanted))]


def _edited(source: BootFile, text: str) -> list[File]:
    """Return the files to write so that a boot file gets a new text.

    If the boot file has no backup yet, its present content is also written into a backup file.
    Returns [] if the text is the same. Raises `NodeError` if the boot file cannot be written.
    """
    if text == source.text:
        return []
    if source.read_only:
        raise NodeError(
            f"{source.path}: its file system ({source.filesystem}) is mounted read-only, perhaps "
            "after an error; check the file system with fsck and mount it read-write"
        )
    if source.free < ROOM:
        raise NodeError(
            f"{source.path}: only {source.free} bytes are free on its file system, but {ROOM} are "
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
    note="the next boot has the kernel's original command line; reboot the node when it suits you",
    take_out=dict.fromkeys(("*/cmdline.txt", "*/raspi-extra-cmdline"), without_words),
    removed={GRUB_DROP_IN: "! command -v update-grub >/dev/null || (umask 022; update-grub)"},
)
