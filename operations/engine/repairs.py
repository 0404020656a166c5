"""Warn if something else on a node keeps changing the things that this package sets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from chaos_engine.facts.observe import NodeError, observe, warn
from chaos_engine.facts.observe.host import concern_at_work
from chaos_engine.facts.repairs import PastRepair, Repairs
from chaos_engine.facts.suspects import Search, Suspect, Suspects
from chaos_engine.operations.engine.shell import OTHERS, quote

MAX_SUSPECTS = 4
"""A warning names at most this many suspected files and programs."""


@dataclass(frozen=True)
class Repair:
    """A thing that a run sets, such as a file or the state of a unit.

    Setting the thing is a repair only if an earlier run has already set it, and something else has
    changed it since.

    + thing: the thing's name, in messages and in the node's notes
    + wanted: the value that the run sets. If the settings change this value, the node counts the
      repairs from 0 again
    + kind, name: two fields of the thing's line in the manifest. The manifest is a file on the node
      that lists what this package has changed. If the manifest has this line, an earlier run has
      set the thing
    + search: how to find the files and programs that may change the thing
    + found: for a file, the text ``CHECKSUM PATH`` with the checksum of the old content; "" if the
      checksum is unknown. If the manifest has a line of kind ``wrote`` with this text as its name,
      this package wrote the old content. A different new content then comes from changed settings.
      So writing the new content is no repair
    + suspects: descriptions of files and programs that may change the thing, and that are known
      without a search
    """

    thing: str
    wanted: str
    kind: str
    name: str
    search: Search
    found: str = ""
    suspects: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Return 16 hex digits of the SHA-256 of `wanted`. The value itself may be secret."""
        return hashlib.sha256(self.wanted.encode()).hexdigest()[:16]

    @property
    def line(self) -> str:
        """Return this repair as an argument for the shell function ``will_set`` of `NOTES`."""
        return "\t".join((self.thing, self.digest, self.kind, self.name, self.found))


def of_file(path: str, sha256: str, how: str, found: str | None) -> Repair:
    """Return the `Repair` for a file that this run writes.

    + sha256: checksum of the new content
    + how: mode, owner and group of the new file, such as ``644 root:root``
    + found: checksum of the old content, ``None`` if there was no regular file
    """
    was = f"{found} {path}" if found else ""
    return Repair(path, f"{sha256} {how}", "wrote", f"{sha256} {path}", in_files(path), was)


def of_removal(path: str, found: str | None) -> Repair:
    """Return the `Repair` for a file that this run removes.

    + found: the file's checksum, ``None`` if it is unknown
    """
    was = f"{found} {path}" if found else ""
    return Repair(path, "absent", "file", path, in_files(path), was)


def of_unit(name: str, wanted: str) -> Repair:
    """Return the `Repair` for a unit that this run starts, stops, enables, disables or masks.

    + wanted: the unit's new state, in words
    """
    stem = literal(name.rpartition(".")[0] if name.endswith(".service") else name)
    calls = r"systemctl|deb-systemd-(helper|invoke)|(update|invoke)-rc\.d|(^|[^.a-z])service"
    pattern = rf"({calls})[[:space:]].*[^a-zA-Z0-9._-]{stem}([^a-zA-Z0-9_-]|$)"
    preset = rf"(enable|disable)[[:space:]]+{literal(name)}"
    return Repair(name, wanted, "unit", name, Search(name, f"{pattern}|{preset}"))


def of_hold(package: str) -> Repair:
    """Return the `Repair` for a package that this run holds, as ``apt-mark hold`` does."""
    thing = f"the hold of {package}"
    search = Search(thing, rf"apt-mark[[:space:]].*unhold.*[^a-z0-9+.-]{literal(package)}")
    return Repair(thing, "set", "hold", package, search)


def of_removed(package: str) -> Repair:
    """Return the `Repair` for a package that this run removes."""
    thing = f"the removal of {package}"
    install = r"(apt|apt-get|aptitude|dpkg|nala|dselect-upgrade)[[:space:]]"
    search = Search(thing, rf"{install}.*[^a-z0-9+.-]{literal(package)}([^a-z0-9+.-]|$)")
    return Repair(thing, "removed", "removed", package, search)


def of_docker(kind: Literal["network", "image"], name: str, wanted: str) -> Repair:
    """Return the `Repair` for a Docker network or a Docker image that this run sets up.

    + wanted: the command that makes the network, or the image's name
    """
    thing = f"Docker's {kind} {name}"
    removal = rf"{kind}[[:space:]]+(rm|remove).*{literal(name)}|rmi[[:space:]].*{literal(name)}"
    prune = rf"({kind}|system)[[:space:]]+prune"
    search = Search(thing, rf"docker[[:space:]]+({prune}|{removal})")
    return Repair(thing, wanted, kind, name, search)


def literal(text: str) -> str:
    r"""Return a POSIX extended regular expression that matches exactly this text.

    **Example:** ``literal("a.b") == r"a\.b"``
    """
    return re.sub(r"[\[.*+?(){}|^$\\]", r"\\\g<0>", text)


def in_files(path: str) -> Search:
    """Return the `Search` for files and programs that may write a file."""
    return Search(path, rf"{literal(path)}([^a-zA-Z0-9._/-]|$)", path=path)


def will_set(repairs: Iterable[Repair]) -> list[str]:
    """Return a list with one line of shell, which calls ``will_set``; [] if there are no repairs.

    The shell function ``will_set`` remembers the things, so that the node can count their repairs.
    """
    lines = [repair.line for repair in repairs]
    return [f"will_set {quote(*lines)}"] if lines else []


def warn_of_repeats(repairs: Iterable[Repair]) -> None:
    """Warn if this run sets things that earlier runs have already repaired.

    A warning names the suspects: the files and programs that may keep changing the thing.

    + repairs: a `Repair` for each thing that this run sets
    """
    repairs = tuple(repairs)
    past = {(one.concern, one.thing, one.wanted): one for one in past_repairs()}
    concern = concern_at_work() or OTHERS
    again = {
        repair: past[key]
        for repair in repairs
        if (key := (concern, repair.thing, repair.digest)) in past
    }
    if not again:
        return
    try:
        found = observe(Suspects, searches=tuple(repair.search for repair in again))
    except NodeError:  # the node is repaired even if the search for suspects fails
        found = {}
    for text in messages(again, found):
        warn(text)


def past_repairs() -> tuple[PastRepair, ...]:
    """Return the repairs of earlier runs on the current host, () if they cannot be read."""
    try:
        return observe(Repairs)
    except NodeError:  # even then the run has to repair the node
        return ()


def messages(
    again: Mapping[Repair, PastRepair], found: Mapping[str, Iterable[Suspect]]
) -> Iterator[str]:
    """Yield the warnings about things that this run repairs again.

    + again: the things that this run repairs, each with its past repairs
    + found: the files and programs that may keep changing each thing, by the thing's name

    If two warnings differ only in the thing's name, they become one warning that names both things.
    This is a pure function.
    """
    same: dict[tuple[str, str, str], list[str]] = {}
    for repair, before in again.items():
        when = f"on {before.last}"
        if before.first != before.last:
            when = f"first on {before.first}, last {when}"
        times = {1: "once", 2: "twice"}.get(before.count, f"{before.count} times")
        mentioned = (_described(one, repair) for one in found.get(repair.search.thing, ()))
        who = _who([*repair.suspects, *mentioned], before.last)
        same.setdefault((times, when, who), []).append(repair.thing)
    for (times, when, who), things in same.items():
        them = "it" if len(things) == 1 else "them"
        yield (
            f"something keeps changing {', '.join(things)}: runs have fixed {them} {times} before "
            f"({when}, by the node's clock); {who}"
        )


def _who(suspects: list[str], since: str) -> str:
    """Return the end of a warning: the suspects or, if there are none, how to find the cause.

    + suspects: descriptions of the files and programs that may be the cause
    + since: time of the last repair, as ``2026-11-02 10:00``
    """
    if not suspects:
        return (
            "no suspect was found among this node's units, cron jobs and scripts; look at what has "
            f"run since the last fix (journalctl --since '{since}'), and ask who else configures "
            "this node"
        )
    more = f"; and {len(suspects) - MAX_SUSPECTS} more" if len(suspects) > MAX_SUSPECTS else ""
    return f"suspected: {'; or '.join(suspects[:MAX_SUSPECTS])}{more}"


def _described(one: Suspect, repair: Repair) -> str:
    """Return a description of a suspect, with advice for the user.

    + one: a file or program that may keep changing a thing
    + repair: the `Repair` of this thing
    """
    link = repair.search.link
    if one.kind == "file":
        calls = f", which calls {one.script}" if one.script != one.name else ""
        advice = "remove the lines that cause this"
        if "/systemd/" in one.name and ".service" in one.name:
            unit = one.timer or one.name.partition(".d/")[0].rpartition("/")[2]
            advice = f"systemctl disable --now {unit}"
        return f"{one.name}{calls} ({advice})"
    return {
        "manager": f"{one.name}, which manages this node's configuration (correct its settings)",
        "ansible": f"Ansible, which has used {one.name} since the last fix (correct the playbook)",
        "package": f"the package {one.name}, installed or upgraded since the last fix (run again "
        f"after each upgrade of {one.name})",
        "networkd": f"systemd-networkd, which manages {link} because of {one.name} (edit this file "
        f"so that it does not match {link})",
        "networkmanager": f"NetworkManager, which manages {link} (to prevent this, add "
        f"unmanaged-devices=interface-name:{link} to the section [keyfile] of a file in "
        "/etc/NetworkManager/conf.d)",
    }[one.kind]
