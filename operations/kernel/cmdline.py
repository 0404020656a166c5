"""Edit kernel command lines. All functions are pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from chaos_engine.facts.kernel import split_words
from chaos_engine.facts.observe import NodeError

LIMIT = 2048
"""The kernel's limit for a command line on arm64 and x86, in bytes (COMMAND_LINE_SIZE)."""

# Words that are only for the first boot. Raspberry Pi OS adds init= and "resize", its imager adds
# systemd.run=
_FIRST_BOOT = re.compile(r"init=\S*(firstboot|init_resize)|systemd\.run=|resize$")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
# Characters at the end of a word that was copied from a web page or a README
_STRAY = "`'\"\u00b4\u2018\u2019\u201c\u201d"


def ineffective(words: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """Return the wanted words that a command line lacks, or that a later word undoes.

    + words: the words of the command line, in their order
    + wanted: words that should have effect

    ``cgroup_disable=memory`` undoes an earlier ``cgroup_enable=memory``, but not a later one. The
    firmware of current Raspberry Pis begins the command line with ``cgroup_disable=memory``, which
    is harmless (https://github.com/raspberrypi/linux/issues/6980). Words after ``--`` are for init,
    and do not count.
    """
    kernel = words[: words.index("--")] if "--" in words else words
    return [word for word in wanted if not _has_effect(kernel, word)]


def _has_effect(words: Sequence[str], wanted: str) -> bool:
    if wanted not in words:
        return False
    key, _, controller = wanted.partition("=")
    if key != "cgroup_enable":
        return True
    enabled = False
    for word in words:
        key, _, value = word.partition("=")
        if controller in value.split(","):
            enabled = {"cgroup_enable": True, "cgroup_disable": False}.get(key, enabled)
    return enabled


def edit(path: str, text: str, wanted: Iterable[str], root: bool = True) -> str:
    """Return the content of a command line file, edited so that all wanted words have effect.

    + path: path of the file, for messages
    + text: content of the whole file
    + wanted: words that should have effect
    + root: whether to raise `NodeError` for a line without ``root=``

    Missing words are added at the end. If a later word undoes a wanted word, the wanted word moves
    to the end. A stray quote or backtick at the end of a wanted word is removed. All other words
    stay, in their order. If nothing has to change, the same text is returned. Raises `NodeError`
    for a file that cannot be edited safely, such as a file of several lines.

    **Example:** ``edit("/boot/cmdline.txt", "root=/dev/sda1", ["quiet"]) == "root=/dev/sda1
    quiet\\n"``
    """
    wanted = list(wanted)
    line = _only_line(path, text)
    words = _without_stray_characters(line, wanted)
    if '"' in "".join(words) and "".join(words).count('"') % 2:
        raise NodeError(f"{path}: a double quote is not closed; close or remove it")
    if root and not any(word.startswith("root=") for word in words):
        what = "the file has no root=" if words else "the file is empty"
        raise NodeError(f"{path}: {what}; restore the node's original command line")
    if "--" in words:
        raise NodeError(f"{path}: words after -- are for init; remove the -- and these words")
    for word in words:
        if _FIRST_BOOT.match(word):
            raise NodeError(
                f"{path}: {word} shows that the first boot has not finished; wait for its end"
            )
    lost = ineffective(words, wanted)
    result = [*(word for word in words if word not in lost), *lost]
    if result == split_words(text):
        return text
    edited = " ".join(result)
    if len(edited.encode("utf-8", "surrogateescape")) >= LIMIT:
        raise NodeError(
            f"{path}: the command line would be too long for the kernel, whose limit is {LIMIT} "
            "bytes; remove words from the file"
        )
    return edited + "\n"


def warnings(path: str, text: str, wanted: Iterable[str]) -> list[str]:
    """Return a warning for each word that `edit` with these arguments would move or change."""
    wanted = list(wanted)
    words = split_words(text)
    undone = [word for word in ineffective(words, wanted) if word in words]
    stray = [w for w in _words(text) if w not in wanted and w.rstrip(_STRAY) in wanted]
    return [
        *(f"{path}: a later word undoes {word}, so {word} moves to the end" for word in undone),
        *(f"{path}: the stray character at the end of {word} is removed" for word in stray),
    ]


def _only_line(path: str, text: str) -> str:
    """Return the only line of a file, without the line feed.

    Raises `NodeError` if the file has several lines, if it has control characters, or if it says
    that the real file is elsewhere.
    """
    if "DO NOT EDIT" in text:
        raise NodeError(
            f"{path}: this file says that the real file is elsewhere; find the real file"
        )
    if _CONTROL.search(text):
        raise NodeError(f"{path}: the file has control characters; rewrite the line without them")
    first, *rest = re.split(r"\r\n|\n|\r", text)
    if any(line.strip() for line in rest):
        raise NodeError(
            f"{path}: the file has more than one line, but only the first line would be read; "
            "join the lines, or remove the wrong ones"
        )
    return first


def _without_stray_characters(line: str, wanted: Sequence[str]) -> list[str]:
    """Return the words of a line, and remove stray quotes at the end of wanted words.

    A word that was repaired in this way is left out if the line already has the wanted word.
    """
    words = _words(line)
    known, result = {*words}, []
    for word in words:
        bare = word if word in wanted else word.rstrip(_STRAY)
        if bare == word or bare not in wanted:
            result.append(word)
        elif bare not in known:
            result.append(bare)
            known.add(bare)
    return result


def _words(line: str) -> list[str]:
    """Split a line into words. If a double quote is unpaired, quotes are ordinary characters.

    The kernel itself would read everything after an unpaired quote as one word.
    """
    return re.findall(r"[^ \t\v\f\r\n]+", line) if line.count('"') % 2 else split_words(line)


def without_words(current: bytes, original: bytes, written: bytes) -> bytes:
    """Remove the words that this package has added to a command line.

    + current: the file's present content
    + original: the content before this package's first change
    + written: the content that this package wrote last

    The words that are in `written` but not in `original` are removed.
    """
    now, before, then = (
        split_words(data.decode("utf-8", "surrogateescape"))
        for data in (current, original, written)
    )
    ours = {*then} - {*before}
    if not ours & {*now}:
        return current
    kept = [word for word in now if word not in ours]
    if before and kept == before:
        return original
    rest = " ".join(kept) + ("\n" if current.endswith(b"\n") else "")
    return rest.encode("utf-8", "surrogateescape")
