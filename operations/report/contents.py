"""Collect what a report tells of each node, for its JSON file and its page. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from chaos_engine.facts.card import Card
from chaos_engine.facts.certificates import CertificateState
from chaos_engine.facts.haproxy import ServerState
from chaos_engine.facts.observe import Value
from chaos_engine.facts.openpgp import parse_keys
from chaos_engine.facts.thermal import ThermalState
from chaos_engine.facts.writers import Writer
from chaos_engine.operations.report import fixes
from chaos_engine.operations.report.wear import DAY, Point, Sample, Wear, points, wear

EXPIRES_SOON_DAYS = 30
"""A key of apt that expires in fewer days is a problem."""

SHOWN_POINTS = 90
"""A node's diagram shows at most this many reports, the newest ones."""

WORN = 9
"""An eMMC whose `life_time` has this value or more counts as worn. 9 means that 80 % to 90 % of the
eMMC's life is used."""


@dataclass(frozen=True)
class Problem(Value):
    """Something that is wrong with a node.

    + text: what is wrong
    + place: where the documents tell how to fix it, such as "start.md#real-pis"
    """

    text: str
    place: str


@dataclass(frozen=True)
class Validity(Value):
    """The expiry date of a certificate or of apt's key.

    + path: path of the certificate or keyring on the node
    + subject: the certificate's name, or "apt's key"
    + expires: the expiry date, such as "2027-03-01", or "never"; "" if the file cannot be read
    + days: whole days from now until the expiry date, negative for a date in the past; ``None`` if
      there is no date
    """

    path: str
    subject: str
    expires: str
    days: int | None


@dataclass(frozen=True)
class Found:
    """What was read on a node.

    A value is ``None`` if the node does not have the thing, or if the thing could not be read.

    + concerns: the problems of each concern, by the concern's name
    + versions: version of each program, by the program's name
    + joined: whether the node has joined a cluster
    + servers: the state of each controller as HAProxy sees it, if HAProxy runs on the node
    + owner: the name of the proxy that has the API's address, "" if the name is unknown. The value
      is ``None`` on a worker, and on the inventory's only proxy
    + reboot: the reasons why a reboot is due; empty if none is due
    + skew: how many seconds the node's clock is ahead of this computer's clock
    + synchronised: whether a time server has set the node's clock
    + keyring: content of apt's keyring for the Kubernetes repository
    + keyring_path: path of that keyring
    + unread: what could not be read. A key is the name of a thing, and the value is the reason
    """

    concerns: Mapping[str, Sequence[str]]
    versions: Mapping[str, str | None] = field(default_factory=dict)
    joined: bool = False
    servers: Sequence[ServerState] | None = None
    owner: str | None = None
    reboot: Sequence[str] = ()
    skew: int | None = None
    synchronised: bool | None = None
    card: Card | None = None
    writers: Sequence[Writer] | None = None
    thermal: ThermalState | None = None
    certificates: Sequence[CertificateState] | None = None
    keyring: bytes | None = None
    keyring_path: str = ""
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeReport(Value):
    """What a report tells of a node.

    + name: the node's name in the inventory
    + unread: why the node was not read, "" if it was. A node that was not read has a `name`,
      `problems` and a `line`, and no other values
    + problems: what is wrong with the node
    + booted: when the node booted, in seconds since 1970, by the clock of the user's computer
    + rating_tb: how many TB can be written to the card according to its maker, ``None`` if unknown
    + wear: how fast the card is written to, ``None`` if the card is unknown
    + line: the points of the node's diagram, one for each report, oldest first. The points show how
      much was written per day
    + gaps: what could not be read. A key is the name of a thing, and the value is the reason

    The other values are as in `Found`.
    """

    name: str
    unread: str = ""
    problems: tuple[Problem, ...] = ()
    concerns: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    booted: int | None = None
    servers: tuple[ServerState, ...] | None = None
    owner: str | None = None
    reboot: tuple[str, ...] = ()
    skew: int | None = None
    synchronised: bool | None = None
    thermal: ThermalState | None = None
    validities: tuple[Validity, ...] | None = None
    card: Card | None = None
    rating_tb: float | None = None
    wear: Wear | None = None
    writers: tuple[Writer, ...] | None = None
    line: tuple[Point, ...] = ()
    gaps: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report(Value):
    """A report about all nodes.

    + time: when it was made, in seconds since 1970
    + nodes: the nodes, in the order of the inventory
    + warnings: a warning for each damaged line of the history
    """

    time: int
    nodes: tuple[NodeReport, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as a value for JSON, with the version number of the format."""
        return {"form": 1, **super().to_json()}


def sample_of(card: Card, now: int) -> Sample:
    """Return a card's counters at the time of this report, to add to the history.

    + now: the time of this report, in seconds since 1970
    """
    identity = " ".join(filter(None, (card.device, card.model, card.serial)))
    return Sample(now, identity, card.boot_id, card.written, card.uptime)


def node_report(
    name: str,
    found: Found,
    earlier: Sequence[Sample],
    now: int,
    rating_tb: float | None,
) -> NodeReport:
    """Return what the report tells of a node that was read.

    + name: the node's name
    + found: what was read
    + earlier: the counters of the node's card in earlier reports, oldest first
    + now: the time of this report, in seconds since 1970
    + rating_tb: how many TB can be written to the card according to its maker, ``None`` if unknown
    """
    card = found.card
    samples = [*earlier, sample_of(card, now)] if card else list(earlier)
    worn = wear(samples, rating_tb) if card else None
    valid = validities(found.certificates, found.keyring, found.keyring_path, now)
    return NodeReport(
        name=name,
        problems=tuple(problems(found, valid, worn)),
        concerns={concern: list(lines) for concern, lines in found.concerns.items()},
        versions=dict(found.versions),
        booted=round(now - card.uptime) if card else None,
        servers=None if found.servers is None else tuple(found.servers),
        owner=found.owner,
        reboot=tuple(found.reboot),
        skew=found.skew,
        synchronised=found.synchronised,
        thermal=found.thermal,
        validities=valid,
        card=card,
        rating_tb=rating_tb,
        wear=worn,
        writers=None if found.writers is None else tuple(found.writers),
        line=tuple(points(samples)[-SHOWN_POINTS:]),
        gaps=dict(found.unread),
    )


def unread_report(name: str, why: str, earlier: Sequence[Sample]) -> NodeReport:
    """Return what the report tells of a node that was not read.

    + why: why the node was not read
    + earlier: the counters of the node's card in earlier reports, oldest first
    """
    place = fixes.place_of(why)
    problem = Problem(why, fixes.NOT_REACHED if place == fixes.NOT_AS_WANTED else place)
    line = tuple(points(earlier)[-SHOWN_POINTS:])
    return NodeReport(name, unread=why, problems=(problem,), line=line)


def problems(
    found: Found, valid: Iterable[Validity] | None, worn: Wear | None
) -> Iterable[Problem]:
    """Yield all that is wrong with a node, the most urgent first."""
    for concern, lines in found.concerns.items():
        for line in lines:
            yield Problem(f"{concern}: {line}", fixes.place_of(line))
    # Only for joined nodes, because no controller answers before `kubeadm init`
    for server in (found.servers or ()) if found.joined else ():
        if not server.status.startswith("UP"):
            text = f"HAProxy sees the controller {server.name} as {server.status}"
            yield Problem(text, fixes.CONTROLLERS)
    for why in found.reboot:
        yield Problem(f"a reboot is due: {why}", fixes.REBOOT)
    thermal = found.thermal
    if thermal and (thermal.undervoltage or thermal.throttled):
        words = [*(thermal.throttled or ())]
        if thermal.undervoltage and not words:
            words = ["too low voltage now"]
        yield Problem(f"power or cooling: {'; '.join(words)}", fixes.POWER)
    card = found.card
    if card and (max(card.life_time, default=0) >= WORN or card.reserve > 1):
        yield Problem(f"the card says that it is worn: {worn_words(card)}", fixes.CARD)
    if worn and worn.years_least is not None and worn.years_least < 1:
        yield Problem(f"the card reaches its rating in {worn.years_least:.1f} years", fixes.WRITES)
    # The concern kubernetes tells of certificates
    for one in valid or ():
        if one.path != found.keyring_path:
            continue
        if one.expires == "":
            yield Problem(f"{one.path} has no key that can be read", fixes.CERTIFICATES)
        elif one.days is not None and one.days < EXPIRES_SOON_DAYS:
            verb = "expired" if one.days < 0 else "expires"
            yield Problem(f"{one.path} {verb} on {one.expires}", fixes.CERTIFICATES)


def validities(
    certificates: Sequence[CertificateState] | None,
    keyring: bytes | None,
    keyring_path: str,
    now: int,
) -> tuple[Validity, ...] | None:
    """Return the expiry dates of certificates and of apt's key; ``None`` if none was read.

    + certificates, keyring, keyring_path: as in `Found`
    + now: the present time, in seconds since 1970
    """
    if certificates is None and keyring is None:
        return None
    found = [_validity(one.path, one.subject, one.expires, now) for one in certificates or ()]
    if keyring is not None:
        try:
            keys = parse_keys(keyring)
        except ValueError:
            found.append(Validity(keyring_path, "apt's key", "", None))
        else:
            # An old key may lie beside its successor, so the key that expires last counts
            lasting = [key.expires for key in keys if key.expires is not None]
            last = max(lasting) if len(lasting) == len(keys) else None
            one = _validity(keyring_path, "apt's key", last, now)
            found.append(one if last else Validity(keyring_path, "apt's key", "never", None))
    return tuple(found)


def _validity(path: str, subject: str, expires: int | None, now: int) -> Validity:
    if expires is None:
        return Validity(path, subject, "", None)
    date = datetime.fromtimestamp(expires, timezone.utc).strftime("%Y-%m-%d")
    return Validity(path, subject, date, (expires - now) // DAY)


def worn_words(card: Card) -> str:
    """Return a text about the wear that an eMMC itself reports, "" if the eMMC reports none.

    **Example:** "10 % to 20 % of its life is used, the spare blocks are normal"
    """
    words = []
    if card.life_time:
        tenth = max(card.life_time)
        words.append(
            "its life is over"
            if tenth > 10
            else f"{(tenth - 1) * 10} % to {tenth * 10} % of its life is used"
        )
    if card.reserve:
        state = {1: "normal", 2: "used to 80 %", 3: "used to 90 %"}
        words.append(f"the spare blocks are {state.get(card.reserve, 'in an unknown state')}")
    return ", ".join(words)
