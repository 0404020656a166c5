"""Edit the options of an entry of ``/etc/fstab``, and restore them. All are pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chaos_engine.facts.fstab import PATH, Entry, entries, mounted_at, options, with_options
from chaos_engine.facts.observe import NodeError

_ATIME = ("atime", "noatime", "relatime", "norelatime", "strictatime", "nostrictatime")
_LAZYTIME = ("lazytime", "nolazytime")


def family(option: str) -> str:
    """Return the family of a mount option, "" if it has none.

    Of the options of a family, only the last one has effect.

    **Example:** ``family("noatime") == "atime"``, ``family("commit=600") == "commit"``
    """
    if option.startswith("commit="):
        return "commit"
    return "atime" if option in _ATIME else "lazytime" if option in _LAZYTIME else ""


def merged(present: str, wanted: Iterable[str]) -> str:
    """Return the field "options" of an entry with the wanted options, and all others kept.

    + present: the field as it is, "" if the entry has none
    + wanted: options, at most one of each family. They replace the other options of their families
    """
    wanted = tuple(wanted)
    families = {family(option) for option in wanted}
    kept = [o for o in present.split(",") if o and (o in wanted or family(o) not in families)]
    return ",".join(dict.fromkeys([*kept, *wanted]))


def with_mount_options(text: str, target: str, wanted: Iterable[str]) -> str:
    """Return the text of fstab in which a target's entry has the wanted mount options.

    + text: the present text
    + target: path of the mount point
    + wanted: as `merged` takes them

    All else stays as it is. Raises `NodeError` if the target does not have exactly one entry, or
    if the entry's line ends with a carriage return.
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
            "the line; remove it"
        )
    new = merged(options(line), wanted)
    if new != options(line):
        lines[number - 1] = with_options(line, new)
    return "\n".join(lines)


def restored(current: bytes, original: bytes, written: bytes) -> bytes:
    """Return fstab without the options that this package added, and with all other changes.

    + current: the file's present content
    + original: the content before this package's first change
    + written: the content that this package wrote last

    Each entry gets back the options that this package replaced. If somebody has added an entry
    between the first change and this package's edit of that entry, `original` lacks it. Such an
    entry loses all options that have a `family`.
    """
    now, before, then = (
        data.decode("utf-8", "surrogateescape") for data in (current, original, written)
    )
    was, ours = _options_by_entry(before), _options_by_entry(then)
    lines = now.split("\n")
    for entry in entries(now):
        line, key = lines[entry.number - 1], _key(entry)
        plain = ",".join(o for o in ours.get(key, "").split(",") if not family(o))
        if key in ours and was.get(key, plain) != ours[key]:
            back = _without_ours(options(line), was.get(key, plain), ours[key])
            if back != options(line):
                lines[entry.number - 1] = with_options(line, back or "defaults")
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _key(entry: Entry) -> tuple[str, str, str]:
    return entry.source, entry.target, entry.kind


def _options_by_entry(text: str) -> Mapping[tuple[str, str, str], str]:
    lines = text.split("\n")
    return {_key(entry): options(lines[entry.number - 1]) for entry in entries(text)}


def _without_ours(now: str, was: str, ours: str) -> str:
    """Return the options of an entry without those that this package added.

    + now: the entry's present options
    + was: the options before this package's first change
    + ours: the options that this package wrote last
    """
    if now == ours:
        return was
    added = {*ours.split(",")} - {*was.split(",")}
    rest = [option for option in now.split(",") if option not in added]
    present = {family(option) for option in rest} - {""}
    lost = [o for o in was.split(",") if o not in ours.split(",") and family(o) not in present]
    return ",".join(dict.fromkeys([*rest, *lost]))
