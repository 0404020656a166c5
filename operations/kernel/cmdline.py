"""Edit kernel command lines: pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from chaos_engine.facts.kernel import split_words
from chaos_engine.facts.observe import NodeError

LIMIT = 2048
"""Bytes of a command line that the kernel reads on arm64 and x86 (COMMAND_LINE_SIZE)."""

# Words of a first boot only: init= of Raspberry Pi OS, its imager's script, its "resize"
_FIRST_BOOT = re.compile(r"init=\S*(firstboot|init_resize)|systemd\.run=|resize$")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
# Characters at the end of a word that was copied from a web page or a README
_STRAY = "`'\"\u00b4\u2018\u2019\u201c\u201d"


def ineffective(words: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """Return the wanted words that have no effect on a kernel with this command line.

    + words: the words of the command line

    A later word wins: a ``cgroup_disable=memory`` after ``cgroup_enable=memory`` undoes it. Before
    it, ``cgroup_disable=memory`` is harmless; the firmware of current Raspberry Pis puts it there
    (https://github.com/raspberrypi/linux/issues/6980). Words after ``--`` are for init.
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
    """Return the command line with the wanted words in effect; the same text if they already are.

    + path: of the file, for messages
    + text: its whole content
    + wanted: words that shall be there
    + root: whether to raise `NodeError` for a line without ``root=``

    Missing words are added at the end. A stray quote or backtick behind a wanted word in the text
    is removed. If a later word undoes a wanted word, the wanted word moves to the end. All other
    words stay, in their order. Raises `NodeError` for a file that is not one line of words, because
    nobody can tell what it means.

    **Example:** ``edit("/boot/cmdline.txt", "root=/dev/sda1", ["quiet"]) == "root=/dev/sda1
    quiet\\n"``
    """
    wanted = list(wanted)
    line = _only_line(path, text)
    words = _without_stray_characters(line, wanted)
    if '"' in "".join(words) and "".join(words).count('"') % 2:
        raise NodeError(f"{path}: a double quote is not closed; fix the line")
    if root and not any(word.startswith("root=") for word in words):
        what = "there is no root= in it" if words else "it is empty"
        raise NodeError(f"{path}: {what}; put the node's own command line back")
    if "--" in words:
        raise NodeError(f"{path}: words follow a --, which are for init; remove them")
    for word in words:
        if _FIRST_BOOT.match(word):
            raise NodeError(f"{path}: {word}: the first boot has not finished; wait for it")
    lost = ineffective(words, wanted)
    result = [*(word for word in words if word not in lost), *lost]
    if result == split_words(text):
        return text
    edited = " ".join(result)
    if len(edited.encode("utf-8", "surrogateescape")) >= LIMIT:
        raise NodeError(f"{path}: longer than the {LIMIT} bytes that the kernel takes; shorten it")
    return edited + "\n"


def warnings(path: str, text: str, wanted: Iterable[str]) -> list[str]:
    """Say which words of the text `edit` moves or changes. Both take the same arguments."""
    wanted = list(wanted)
    words = split_words(text)
    undone = [word for word in ineffective(words, wanted) if word in words]
    stray = [w for w in _words(text) if w not in wanted and w.rstrip(_STRAY) in wanted]
    return [
        *(f"{path}: {word} is undone by a later word and moves behind it" for word in undone),
        *(f"{path}: {word} loses the stray character at its end" for word in stray),
    ]


def _only_line(path: str, text: str) -> str:
    """Return the text's one line without its end. Raises `NodeError` if it is not one line."""
    if "DO NOT EDIT" in text:
        raise NodeError(f"{path}: it says that the real file is elsewhere; look for that file")
    if _CONTROL.search(text):
        raise NodeError(f"{path}: there are control characters in it; write the line anew")
    first, *rest = re.split(r"\r\n|\n|\r", text)
    if any(line.strip() for line in rest):
        raise NodeError(
            f"{path}: it has more than one line, of which only the first would be read; "
            "join them or remove the wrong ones"
        )
    return first


def _without_stray_characters(line: str, wanted: Sequence[str]) -> list[str]:
    """Return the words of the line; wanted words lose the stray characters at their end.

    A word that would then be there twice is left out.
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
    """Return the words of a line, with quotes taken for ordinary characters if one is unpaired.

    The kernel would take all words behind an unpaired quote for one word.
    """
    return re.findall(r"[^ \t\v\f\r\n]+", line) if line.count('"') % 2 else split_words(line)


def without_words(current: bytes, original: bytes, written: bytes) -> bytes:
    """Return a command line without the words that are in `written` and not in `original`.

    + current: the content of the file as it is now
    + original: as it was before the first change
    + written: as this package wrote it last
    """
    now, before, then = (
        split_words(data.decode("utf-8", "surrogateescape"))
        for data in (current, original, written)
    )
    ours = {*then} - {*before}
    if not ours & {*now}:
        return current
    end = "\n" if current.endswith(b"\n") else ""
    rest = " ".join(word for word in now if word not in ours) + end
    return rest.encode("utf-8", "surrogateescape")
