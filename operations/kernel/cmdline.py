"""The editor of kernel command lines: pure functions, no node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from chaos_engine.facts.kernel import split_words
from chaos_engine.facts.observe import NodeError

LIMIT = 2048
"""What the kernel takes of a command line on arm64 and x86 (COMMAND_LINE_SIZE), in bytes."""

# What only the first boot has: init= of Raspberry Pi OS, its imager's script, its "resize"
_FIRST_BOOT = re.compile(r"init=\S*(firstboot|init_resize)|systemd\.run=|resize$")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
# What a word copied from a web page or a README ends in
_STRAY = "`'\"\u00b4\u2018\u2019\u201c\u201d"


def ineffective(words: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """Those of the wanted words that a kernel with this command line would not obey.

    A later word wins: ``cgroup_disable=memory`` behind ``cgroup_enable=memory`` undoes it, and is
    harmless before it, where the firmware of current Raspberry Pis puts it
    (https://github.com/raspberrypi/linux/issues/6980). What follows ``--`` is for init.
    """
    kernel = words[: words.index("--")] if "--" in words else words
    return [word for word in wanted if not _obeyed(kernel, word)]


def _obeyed(words: Sequence[str], wanted: str) -> bool:
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
    """The command line with the wanted words in effect; the same text if they already are.

    + path: of the file, for messages
    + text: all that is in it
    + wanted: words that shall be there
    + root: whether a line without ``root=`` is refused

    All other words stay, in their order; missing ones come last. A wanted word with a stray quote
    or backtick behind it is mended, one that a later word undoes is moved to the end. Raises
    `NodeError` for a file that is not one line of words, since nobody can say what was meant.
    """
    wanted = list(wanted)
    line = _only_line(path, text)
    words = _mend(line, wanted)
    if '"' in "".join(words) and "".join(words).count('"') % 2:
        raise NodeError(f"{path}: a double quote is not closed; mend the line")
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


def remarks(path: str, text: str, wanted: Iterable[str]) -> list[str]:
    """What `edit` does to words that are there already, for people to know."""
    wanted = list(wanted)
    words = split_words(text)
    undone = [word for word in ineffective(words, wanted) if word in words]
    stray = [w for w in _plain(text) if w not in wanted and w.rstrip(_STRAY) in wanted]
    return [
        *(f"{path}: {word} is undone by a later word and moves behind it" for word in undone),
        *(f"{path}: {word} loses the stray character at its end" for word in stray),
    ]


def _only_line(path: str, text: str) -> str:
    if "DO NOT EDIT" in text:
        raise NodeError(f"{path}: it says that it is not the real one; look for the real one")
    if _CONTROL.search(text):
        raise NodeError(f"{path}: there are control characters in it; write the line anew")
    first, *rest = re.split(r"\r\n|\n|\r", text)
    if any(line.strip() for line in rest):
        raise NodeError(
            f"{path}: it has more than one line, of which only the first would be read; "
            "join them or remove the wrong ones"
        )
    return first


def _mend(line: str, wanted: Sequence[str]) -> list[str]:
    """The line's words, wanted ones without stray characters behind them, and those only once."""
    # An unpaired quote would swallow the words behind it
    words = _plain(line) if line.count('"') % 2 else split_words(line)
    mended = {word: word.rstrip(_STRAY) for word in words if word not in wanted}
    known = {*words}
    result = []
    for word in words:
        bare = mended.get(word, word)
        if bare == word or bare not in wanted:
            result.append(word)
        elif bare not in known:
            result.append(bare)
            known.add(bare)
    return result


def _plain(text: str) -> list[str]:
    """The words, quotes being characters like others."""
    return re.findall(r"[^ \t\v\f\r\n]+", text)


def without_words(current: bytes, original: bytes, written: bytes) -> bytes:
    """Return a command line without the words that are in `written` and not in `original`."""
    now, before, then = (
        split_words(data.decode("utf-8", "surrogateescape"))
        for data in (current, original, written)
    )
    ours = {*then} - {*before}
    if not ours & {*now}:
        return current
    end = "\n" if current.endswith(b"\n") else ""
    left = " ".join(word for word in now if word not in ours) + end
    return left.encode("utf-8", "surrogateescape")
