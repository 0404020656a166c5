"""Warn if something else on the node keeps changing what runs have set."""

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
"""How many suspects a message names."""


@dataclass(frozen=True)
class Repair:
    """A thing that a run sets. It is a repair if an earlier run has set it to the same value.

    + thing: the thing's name, in messages and in the node's notes
    + wanted: the value that the run sets. The node counts repairs to this value; after a change of
      the settings the count begins anew
    + kind, name: kind and name of the manifest's line for the thing. The manifest has this line if
      an earlier run has set the thing
    + search: how to find who changes the thing
    + found: for a file, the name that the manifest's ``wrote`` line for the content that was found
      would have. If the manifest has this line, this package wrote that content. Then the settings
      have changed, and the new content is no repair. "" if the content is unknown
    + suspects: suspects that are known without a search, in words
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
        """Return a checksum of the wanted value, which may be secret."""
        return hashlib.sha256(self.wanted.encode()).hexdigest()[:16]

    @property
    def line(self) -> str:
        """Return the argument for the shell function ``will_set`` of `engine.shell.NOTES`."""
        return "\t".join((self.thing, self.digest, self.kind, self.name, self.found))


def of_file(path: str, sha256: str, how: str, found: str | None) -> Repair:
    """Return the `Repair` for a file that this run writes.

    + sha256: checksum of the new content
    + how: the new mode and owners, in words
    + found: checksum of the content that was found, ``None`` if there was no file
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
    """Return the `Repair` for a package that this run holds."""
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
    """Return the `Repair` for a Docker network that this run makes, or an image that it pulls.

    + wanted: the command that makes the network, or the image's name
    """
    thing = f"Docker's {kind} {name}"
    removal = rf"{kind}[[:space:]]+(rm|remove).*{literal(name)}|rmi[[:space:]].*{literal(name)}"
    prune = rf"({kind}|system)[[:space:]]+prune"
    search = Search(thing, rf"docker[[:space:]]+({prune}|{removal})")
    return Repair(thing, wanted, kind, name, search)


def literal(text: str) -> str:
    r"""Return an extended regular expression (POSIX) for exactly this text.

    **Example:** ``literal("a.b") == r"a\.b"``
    """
    return re.sub(r"[\[.*+?(){}|^$\\]", r"\\\g<0>", text)


def in_files(path: str) -> Search:
    """Return the search for whoever writes a file."""
    return Search(path, rf"{literal(path)}([^a-zA-Z0-9._/-]|$)", path=path)


def will_set(repairs: Iterable[Repair]) -> list[str]:
    """Return the script's line that announces what the script will set; no line without repairs."""
    lines = [repair.line for repair in repairs]
    return [f"will_set {quote(*lines)}"] if lines else []


def warn_of_repeats(repairs: Iterable[Repair]) -> None:
    """Warn if this run repairs what an earlier run has repaired, and name what keeps changing it.

    + repairs: the things that the current run sets
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
    except NodeError:  # the node is repaired even if nobody can be suspected
        found = {}
    for text in messages(again, found):
        warn(text)


def past_repairs() -> tuple[PastRepair, ...]:
    """Return what runs have repaired on the current host; nothing if its notes are damaged."""
    try:
        return observe(Repairs)
    except NodeError:  # a damaged note must not keep a run from repairing the node
        return ()


def messages(
    again: Mapping[Repair, PastRepair], found: Mapping[str, Iterable[Suspect]]
) -> Iterator[str]:
    """Return the warnings about things that have to be repaired again: a pure function.

    + again: the things that this run repairs again, each with its past repairs
    + found: suspects by the thing's name

    Things with the same dates, counts and suspects share a warning.
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
    """Return the end of a warning: who may have changed things, or how to find that out.

    + since: when the things were repaired last
    """
    if not suspects:
        return (
            "no unit, cron job or script of this node names it: look at what has run since "
            f"(journalctl --since '{since}'), and ask who else configures this node"
        )
    more = f"; and {len(suspects) - MAX_SUSPECTS} more" if len(suspects) > MAX_SUSPECTS else ""
    return f"suspected: {'; or '.join(suspects[:MAX_SUSPECTS])}{more}"


def _described(one: Suspect, repair: Repair) -> str:
    """Return a suspect in words, with what to do about it.

    + repair: the thing that the suspect may change
    """
    link = repair.search.link
    if one.kind == "file":
        by = f", by {one.script}" if one.script != one.name else ""
        advice = "take it out of there"
        if "/systemd/" in one.name and ".service" in one.name:
            unit = one.timer or one.name.partition(".d/")[0].rpartition("/")[2]
            advice = f"systemctl disable --now {unit}"
        return f"{one.name}{by} ({advice})"
    return {
        "manager": f"{one.name}, which manages this node's configuration (change it there)",
        "ansible": f"Ansible, which has been here since ({one.name}; change its playbook)",
        "package": f"the package {one.name}, installed since (run again after its upgrades)",
        "networkd": f"systemd-networkd, which manages {link} by {one.name} (have that file match "
        "other interfaces only)",
        "networkmanager": f"NetworkManager, which manages {link} (to stop that, put "
        f"unmanaged-devices=interface-name:{link} under [keyfile] in a file in "
        "/etc/NetworkManager/conf.d)",
    }[one.kind]
