"""Say what keeps coming back: what runs have fixed before, and something has changed again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from chaos_engine.facts.observe import current, observe, warn
from chaos_engine.facts.repairs import PastRepair, Repairs
from chaos_engine.facts.suspects import Search, Suspect, Suspects
from chaos_engine.operations.shell import quote

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
    """Warn of each thing that earlier runs have fixed for the same, and say who may undo that."""
    repairs = tuple(repairs)
    past = {(one.concern, one.thing, one.wanted): one for one in observe(Repairs)}
    concern = current()[2].concern
    again = [
        (repair, past[key])
        for repair in repairs
        if (key := (concern, repair.thing, repair.digest)) in past
    ]
    if not again:
        return
    found = observe(Suspects, searches=tuple(repair.search for repair, _ in again))
    for repair, before in again:
        warn(message(repair, before, found.get(repair.search.thing, ())))


def message(repair: Repair, before: PastRepair, found: Iterable[Suspect]) -> str:
    """What is said of a thing that has changed again: a pure function."""
    when = f"on {before.last}"
    if before.count > 1:
        when = f"first on {before.first}, last {when}"
    times = {1: "once", 2: "twice"}.get(before.count, f"{before.count} times")
    suspects = [*repair.suspects, *(word for one in found for word in _suspected(one, repair))]
    if suspects:
        named = "; or ".join(suspects[:MOST])
        more = f"; and {len(suspects) - MOST} more" if len(suspects) > MOST else ""
        who = f"suspected: {named}{more}"
    else:
        who = (
            "no unit, cron job or script here that names it was found: ask who else configures "
            f"this node, and look at what it did before: journalctl --since '{before.last}'"
        )
    return (
        f"{repair.thing} is not as wanted again: runs have fixed it {times} before ({when}, by the "
        f"node's clock), and something undoes that; {who}"
    )


def _suspected(one: Suspect, repair: Repair) -> Iterator[str]:
    """A suspect in words, with what to do about it."""
    match one.kind:
        case "file" if "/systemd/" in one.name and ".service" in one.name:
            unit = one.timer or one.name.partition(".d/")[0].rpartition("/")[2]
            by = f", by {one.script}" if one.script != one.name else ""
            yield f"{one.name}{by} (to stop it: systemctl disable --now {unit})"
        case "file":
            by = f", by {one.script}" if one.script != one.name else ""
            yield f"{one.name}{by} (take it out of there)"
        case "manager":
            yield f"{one.name}, which manages this node's configuration (change it there)"
        case "ansible":
            yield f"Ansible, which was here since then ({one.name}; change its playbook)"
        case "package":
            yield f"the package {one.name}, installed since then (run again after its upgrades)"
        case "networkd":
            yield (
                f"systemd-networkd, which manages {repair.search.link} by {one.name} (have that "
                "match other interfaces only)"
            )
        case "networkmanager":
            yield (
                f"NetworkManager, which manages {repair.search.link} (in "
                "/etc/NetworkManager/conf.d/: [keyfile] unmanaged-devices=interface-name:"
                f"{repair.search.link})"
            )
