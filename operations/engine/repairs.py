"""Say what keeps coming back: what runs have fixed before, and something has changed again."""

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
from chaos_engine.operations.engine.originals import OTHERS
from chaos_engine.operations.engine.shell import quote

MOST = 4
"""How many suspects are named."""


@dataclass(frozen=True)
class Repair:
    """A thing that a run sets: a repair, if an earlier run has set it to the same.

    + thing: its name for people, and in what the node remembers
    + wanted: what it is set to; another value is a change of settings, and its count begins anew
    + kind, name: the line of the manifest that is there if an earlier run has set it
    + found: the line of kind ``wrote`` that tells that what was found is this package's too, and
      so a change of settings; "" if that cannot be
    + search: how to find who changes it
    + suspects: those that are known already, in words
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
        """What is wanted, in a form that has no tab and is no secret."""
        return hashlib.sha256(self.wanted.encode()).hexdigest()[:16]

    @property
    def line(self) -> str:
        """The argument for the shell function ``fixes`` of `chaos_engine.operations.originals`."""
        return "\t".join((self.thing, self.digest, self.kind, self.name, self.found))


def of_file(path: str, sha256: str, how: str, found: str | None) -> Repair:
    """A file that is written.

    + sha256: of what is written; how: its mode and owners
    + found: the checksum of what is there, ``None`` for no file
    """
    was = f"{found} {path}" if found else ""
    return Repair(path, f"{sha256} {how}", "wrote", f"{sha256} {path}", in_files(path), was)


def of_removal(path: str, found: str | None) -> Repair:
    """A file that is removed; `found` is its checksum."""
    was = f"{found} {path}" if found else ""
    return Repair(path, "absent", "file", path, in_files(path), was)


def of_unit(name: str, wanted: str) -> Repair:
    """A systemd unit that is started, stopped, enabled, disabled or masked."""
    stem = literal(name.rpartition(".")[0] if name.endswith(".service") else name)
    calls = r"systemctl|deb-systemd-(helper|invoke)|(update|invoke)-rc\.d|(^|[^.a-z])service"
    pattern = rf"({calls})[[:space:]].*[^a-zA-Z0-9._-]{stem}([^a-zA-Z0-9_-]|$)"
    preset = rf"(enable|disable)[[:space:]]+{literal(name)}"
    return Repair(name, wanted, "unit", name, Search(name, f"{pattern}|{preset}"))


def of_hold(package: str) -> Repair:
    """A package that is held."""
    thing = f"the hold of {package}"
    search = Search(thing, rf"apt-mark[[:space:]].*unhold.*[^a-z0-9+.-]{literal(package)}")
    return Repair(thing, "set", "hold", package, search)


def of_removed(package: str) -> Repair:
    """A package that is removed."""
    thing = f"the removal of {package}"
    install = r"(apt|apt-get|aptitude|dpkg|nala|dselect-upgrade)[[:space:]]"
    search = Search(thing, rf"{install}.*[^a-z0-9+.-]{literal(package)}([^a-z0-9+.-]|$)")
    return Repair(thing, "removed", "removed", package, search)


def of_docker(kind: Literal["network", "image"], name: str, wanted: str) -> Repair:
    """What Docker has: a network that is made, or an image that is pulled."""
    thing = f"Docker's {kind} {name}"
    removal = rf"{kind}[[:space:]]+(rm|remove).*{literal(name)}|rmi[[:space:]].*{literal(name)}"
    prune = rf"({kind}|system)[[:space:]]+prune"
    search = Search(thing, rf"docker[[:space:]]+({prune}|{removal})")
    return Repair(thing, wanted, kind, name, search)


def literal(text: str) -> str:
    r"""An extended regular expression (POSIX) for exactly this text.

    **Example:** ``literal("a.b") == r"a\.b"``
    """
    return re.sub(r"[\[.*+?(){}|^$\\]", r"\\\g<0>", text)


def in_files(path: str) -> Search:
    """How to find who writes a file."""
    return Search(path, rf"{literal(path)}([^a-zA-Z0-9._/-]|$)", path=path)


def fixes(repairs: Iterable[Repair]) -> list[str]:
    """The shell command for before the change, none if there is nothing to fix."""
    lines = [repair.line for repair in repairs]
    return [f"fixes {quote(*lines)}"] if lines else []


def tell(repairs: Iterable[Repair]) -> None:
    """Warn of the things that earlier runs have fixed for the same, and say who may undo that."""
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
    except NodeError:  # to know nothing of it is no reason to leave the node as it is
        found = {}
    for text in messages(again, found):
        warn(text)


def past_repairs() -> tuple[PastRepair, ...]:
    """What runs have fixed on the current host; nothing if that cannot be read."""
    try:
        return observe(Repairs)
    except NodeError:  # a damaged note of ours is no reason to leave the node as it is
        return ()


def messages(
    again: Mapping[Repair, PastRepair], found: Mapping[str, Iterable[Suspect]]
) -> Iterator[str]:
    """What is said of things that have changed again: a pure function.

    + again: each thing, with what is known of it
    + found: suspects by thing

    Things of which the same is said share a message.
    """
    same: dict[tuple[str, str, str], list[str]] = {}
    for repair, before in again.items():
        when = f"on {before.last}"
        if before.first != before.last:
            when = f"first on {before.first}, last {when}"
        times = {1: "once", 2: "twice"}.get(before.count, f"{before.count} times")
        mentioned = (_told(one, repair) for one in found.get(repair.search.thing, ()))
        who = _who([*repair.suspects, *mentioned], before.last)
        same.setdefault((times, when, who), []).append(repair.thing)
    for (times, when, who), things in same.items():
        them = "it" if len(things) == 1 else "them"
        yield (
            f"something keeps changing {', '.join(things)}: runs have fixed {them} {times} before "
            f"({when}, by the node's clock); {who}"
        )


def _who(suspects: list[str], since: str) -> str:
    if not suspects:
        return (
            "no unit, cron job or script of this node names it: look at what has run since "
            f"(journalctl --since '{since}'), and ask who else configures this node"
        )
    more = f"; and {len(suspects) - MOST} more" if len(suspects) > MOST else ""
    return f"suspected: {'; or '.join(suspects[:MOST])}{more}"


def _told(one: Suspect, repair: Repair) -> str:
    """A suspect in words, with what to do about it."""
    link = repair.search.link
    if one.kind == "file":
        by = f", by {one.script}" if one.script != one.name else ""
        way_out = "take it out of there"
        if "/systemd/" in one.name and ".service" in one.name:
            unit = one.timer or one.name.partition(".d/")[0].rpartition("/")[2]
            way_out = f"systemctl disable --now {unit}"
        return f"{one.name}{by} ({way_out})"
    return {
        "manager": f"{one.name}, which manages this node's configuration (change it there)",
        "ansible": f"Ansible, which has been here since ({one.name}; change its playbook)",
        "package": f"the package {one.name}, installed since (run again after its upgrades)",
        "networkd": f"systemd-networkd, which manages {link} by {one.name} (have that file match "
        "other interfaces only)",
        "networkmanager": f"NetworkManager, which manages {link} (have it leave that alone: "
        f"unmanaged-devices=interface-name:{link} under [keyfile] in a file in "
        "/etc/NetworkManager/conf.d)",
    }[one.kind]
