"""What becomes of the API's address while nodes take turns, and which turns they take.

Turns are read off what kubectl asked the API for: from `cordon` to `uncordon`. On the LAN there is
a request a second to the API's address meanwhile, and there are open streams. A request has failed
if it got no answer in two seconds; but in the turn of the proxy's own node, when the address is
away, in ten. So long kubelet tries again what it has to tell (its nodeStatusUpdateFrequency).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from tests.cluster.joined import audit, cordoned
from tests.cluster.lan_client import API, CONTROLLERS, Json, client, readyz
from tests.cluster.seen import PROXY
from tests.cluster.virtual_cluster import Cluster
from tests.lab.control_plane.store import parse_stamp

PATIENCE = 10
"""Seconds that a request has in the turn of the proxy's node."""
PROMPT = 2
"""Seconds that it has otherwise."""


@dataclass(frozen=True)
class Turn:
    """A node's turn, in seconds since 1970."""

    node: str
    began: float
    ended: float

    def overlaps(self, other: Turn) -> bool:
        return self.began < other.ended and other.began < self.ended


@dataclass
class Watch:
    """What was seen beside a change."""

    turns: list[Turn]
    beats: Json
    streams: Json
    states: Json
    """What the controllers' own ``/readyz`` said, twice a second."""


def turns(events: list[Json]) -> list[Turn]:
    """The turns that kubectl's requests tell of; the drain lies within each, and evicts pods."""
    steps: dict[str, list[tuple[str, Json]]] = {}
    for event in events:
        if (step := parse_step(event)) and event["responseStatus"]["code"] == 200:
            steps.setdefault(step[1], []).append((step[0], event))
    found = []
    for node, own in steps.items():
        assert [name for name, _ in own] == ["cordon", "drain", "uncordon"], (node, own)
        began, ended = own[0][1]["requestReceivedTimestamp"], own[-1][1]["stageTimestamp"]
        evicted = [e for e in events if began <= e["requestReceivedTimestamp"] <= ended
                   and e["objectRef"].get("subresource") == "eviction"]  # fmt: skip
        assert evicted, f"no pod was evicted in the turn of {node}"
        found.append(Turn(node, parse_stamp(began), parse_stamp(ended)))
    return sorted(found, key=lambda turn: turn.began)


def parse_step(event: Json) -> tuple[str, str] | None:
    """Which of cordon, drain and uncordon a request of kubectl belongs to, and of which node.

    Only a drain lists the pods of one node; what it does to the node first has been done already.
    """
    reference = event["objectRef"]
    if event["verb"] == "patch" and reference["resource"] == "nodes":
        wanted = event["requestObject"]["spec"]["unschedulable"]
        return "cordon" if wanted else "uncordon", reference["name"]
    query = dict(parse_qsl(urlsplit(event["requestURI"]).query))
    field, _, node = query.get("fieldSelector", "").partition("=")
    if event["verb"] == "list" and field == "spec.nodeName":
        return "drain", node
    return None


@contextmanager
def watched(cluster: Cluster) -> Iterator[Watch]:
    """See what becomes of requests, streams and turns while this lasts."""
    before, watch = len(audit(cluster)), Watch([], {}, {}, {})
    with (
        client(
            cluster, "beats", API, "--timeout", str(PROMPT), "--patience", str(PATIENCE)
        ) as beats,
        client(cluster, "streams", API, "--count", "9", "--timeout", "5") as streams,
        client(cluster, *readyz(cluster, CONTROLLERS), "--timeout", "2") as states,
    ):
        streams.until("ready")
        yield watch
        watch.beats, watch.streams, watch.states = beats.stop(), streams.stop(), states.stop()
    watch.turns = turns(audit(cluster)[before:])
    print(
        f"{watch.beats['count']} requests, {watch.beats['failures']} failed; the slowest took "
        f"{slowest(watch, False)} s, in the turn of the proxy's node {slowest(watch, True)} s; "
        f"{watch.streams['broke']} of {watch.streams['opened']} streams broke; of "
        f"{len(CONTROLLERS)} API servers {watch.states['fewest']} were ready at worst; turns took "
        f"{[round(turn.ended - turn.began, 1) for turn in watch.turns]} s"
    )
    assert not cordoned(cluster)


def in_proxys_turn(watch: Watch, beat: Json) -> bool:
    """Whether a request was under way in the turn of the proxy's node."""
    began = watch.beats["began"] + beat["at"]
    ended = began + beat.get("took", PATIENCE)
    return any(t.began <= ended and began <= t.ended for t in watch.turns if t.node == PROXY)


def slowest(watch: Watch, in_it: bool) -> float:
    """The seconds that the slowest answer took, in the turn of the proxy's node or out of it."""
    answered = watch.beats["answered"]
    return max((b["took"] for b in answered if in_proxys_turn(watch, b) is in_it), default=0.0)


def most_together(watch: Watch) -> int:
    """How many nodes were in their turns at the same time, at most."""
    return max(sum(t.began <= one.began < t.ended for t in watch.turns) for one in watch.turns)


def are_apart(watch: Watch, *nodes: str) -> None:
    """These go one by one, and the proxy alone."""
    for n, one in enumerate(watch.turns):
        for other in watch.turns[n + 1 :]:
            if PROXY in (one.node, other.node) or {one.node, other.node} <= set(nodes):
                assert not one.overlaps(other), watch.turns


def nobody_was_cut_off(watch: Watch) -> None:
    """No request failed, and a stream broke only with its own server or the address's node."""
    assert watch.beats["count"] >= 5
    assert watch.beats["failures"] == 0, watch.beats["failed"]
    assert slowest(watch, in_it=False) <= PROMPT, watch.beats["answered"]
    assert (watch.streams["opened"], watch.streams["failed"]) == (9, 0)
    assert set(watch.streams["servers"]) == CONTROLLERS
    for stream in watch.streams["streams"]:
        if stream["broke"] is None:
            continue
        at = watch.streams["began"] + stream["broke"]
        down = {turn.node for turn in watch.turns if turn.began <= at <= turn.ended + 2}
        assert down & {stream["server"], PROXY}, (stream, watch.turns)


def at_least_two_were_ready(watch: Watch) -> None:
    """Never were fewer than two of the three API servers ready."""
    assert watch.states["count"] >= 5
    assert watch.states["fewest"] >= 2, (watch.states["samples"], watch.turns)


def in_proxys_turn_only(watch: Watch) -> None:
    """A request to the API's address failed, if any, in the turn of the proxy's own node."""
    assert watch.beats["count"] >= 5
    for failure in watch.beats["failed"]:
        assert in_proxys_turn(watch, failure), (failure, watch.turns)
    assert slowest(watch, in_it=False) <= PROMPT, watch.beats["answered"]
