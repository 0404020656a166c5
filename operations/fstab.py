"""Edit the mount options of an entry in ``/etc/fstab``, and restore them later.

All functions are pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos_engine.facts.fstab import PATH, Entry, mounted_at, options, with_options
from chaos_engine.facts.observe import NodeError

_ATIME = ("atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime")
_LAZYTIME = ("lazytime", "nolazytime")


def family(option: str) -> str:
    """Return the family of a mount option, "" if it has none.

    If an entry has several options of the same family, only the last of them has effect.

    **Example:** ``family("noatime") == "atime"``, ``family("commit=600") == "commit"``
    """
    if option.startswith("commit="):
        return "commit"
    return "atime" if option in _ATIME else "lazytime" if option in _LAZYTIME else ""


def merged(present: str, wanted: Iterable[str]) -> str:
    """Return the options field of an entry, changed so that it has the wanted options.

    + present: the field as it is, "" if the entry has none
    + wanted: the wanted options, at most one of each family (`family`)

    A wanted option replaces the present options of its family. Options without a family, or of
    another family, stay.
    """
    wanted = tuple(wanted)
    families = {family(option) for option in wanted}
    kept = [o for o in present.split(",") if o and (o in wanted or family(o) not in families)]
    return ",".join(dict.fromkeys([*kept, *wanted]))


def with_mount_options(text: str, target: str, wanted: Iterable[str]) -> str:
    """Return the text of fstab, changed so that one entry has the wanted mount options.

    + text: the present text
    + target: path of the entry's mount point
    + wanted: as `merged` takes them

    All else stays as it is. Raises `NodeError` if the mount point does not have exactly one entry,
    if the entry's line ends with a carriage return, or if it has no type.
    """
    found = mounted_at(text, target)
    if not found:
        raise NodeError(
            f"{PATH} has no entry for {target}, so its mount options would not outlast a reboot; "
            "add an entry, and run again"
        )
    if len(found) > 1:
        numbers = " and ".join(str(one.number) for one in found)
        raise NodeError(f"{PATH} has several entries for {target}, in lines {numbers}; keep one")
    number = found[0].number
    lines = text.split("\n")
    line = lines[number - 1]
    if line.endswith("\r"):
        raise NodeError(
            f"{PATH}: line {number} ends with a carriage return, which systemd reads as part of "
            "the line; remove the carriage return"
        )
    if not found[0].kind:
        raise NodeError(
            f"{PATH}: line {number} has no type, so mount(8) skips the line; add the type and the "
            "options"
        )
    new = merged(options(line), wanted)
    if new != options(line):
        lines[number - 1] = with_options(line, new)
    return "\n".join(lines)


def replaced_options(before: str, after: str, target: str) -> dict[str, str]:
    """Return the mount options that an edit replaces in one entry of fstab.

    + before: the text of fstab before the edit
    + after: the text of fstab after the edit
    + target: path of the entry's mount point

    The keys are families of options (`family`). A value has the options of that family before the
    edit, with commas between them; "" if the entry had none.

    **Example:** ``{"atime": "relatime", "commit": ""}``
    """
    was, now = ([field for _, field in _with_options(text, target)] for text in (before, after))
    families = dict.fromkeys(family(o) for field in now for o in field.split(","))
    return {
        name: ",".join(_of(name, was[0]))
        for name in families
        if name and _of(name, was[0]) != _of(name, now[0])
    }


def restored(
    current: bytes, original: bytes, written: bytes, replaced: Mapping[tuple[str, str], str]
) -> bytes:
    """Restore the mount options that this package replaced in fstab. Return the new content.

    + current: the file's present content
    + original: the content before this package's first change
    + written: the content that this package wrote last
    + replaced: the options that this package replaced. A key is a mount point and a family of
      options, such as ``("/", "atime")``. A value has the old options, with commas between
      them

    Only the options in `replaced` are restored. All other changes to the file stay. If an entry
    then has the same options as in `original`, they also get the order of `original`. The function
    does not restore all options of `original`, because somebody else may have changed the entry
    between this package's first and last change.
    """
    now, before, then = (
        data.decode("utf-8", "surrogateescape") for data in (current, original, written)
    )
    lines = now.split("\n")
    for target in dict.fromkeys(target for target, _ in replaced):
        old = {name: value for (at, name), value in replaced.items() if at == target}
        was, ours = _with_options(before, target), _with_options(then, target)
        for entry, present in _with_options(now, target):
            # With a new card, only the source differs. Any other entry is not the one we edited
            wrote = next((o for one, o in ours if _same(one, entry) or o == present), None)
            if wrote is None:
                continue
            back = _without_ours(present, wrote, old)
            in_order = (o for _, o in was if {*o.split(",")} == {*back.split(",")})
            back = next(in_order, back)
            if back != present:
                number = entry.number - 1
                lines[number] = with_options(lines[number], back or "defaults")
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _with_options(text: str, target: str) -> list[tuple[Entry, str]]:
    """Return the entries of a mount point in the text of fstab, each with its options."""
    lines = text.split("\n")
    return [(one, options(lines[one.number - 1])) for one in mounted_at(text, target)]


def _same(one: Entry, other: Entry) -> bool:
    """Tell whether two entries of a mount point have the same source and type."""
    return (one.source, one.kind) == (other.source, other.kind)


def _of(name: str, field: str) -> list[str]:
    """Return the options of one family in the field "options" of an entry."""
    return [option for option in field.split(",") if family(option) == name]


def _without_ours(now: str, ours: str, replaced: Mapping[str, str]) -> str:
    """Undo this package's changes to the options of an entry, and return the options.

    + now: the entry's present options
    + ours: the options that this package wrote last
    + replaced: the options that this package replaced, by their family

    If the options of a family now differ from those in `ours`, somebody else has changed them. Then
    the options of that family stay.
    """
    found = now.split(",")
    for name, old in replaced.items():
        if _of(name, now) == _of(name, ours):
            found = [*(o for o in found if family(o) != name), *old.split(",")]
    return ",".join(dict.fromkeys(filter(None, found)))
