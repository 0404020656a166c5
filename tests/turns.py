"""What becomes of the API's address while nodes take turns, and which turns they take.

Turns are read off what kubectl was called for: from `cordon` to `uncordon`. On the LAN there is a
request a second to the API's address meanwhile, and there are open streams. A request has failed if
it got no answer in two seconds; but in the turn of the proxy's own node, when the address is away,
in ten. So long kubelet tries again what it has to tell (its nodeStatusUpdateFrequency).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.joined import calls, cordoned
from tests.lan_client import API, CONTROLLERS, Json, client
from tests.seen import PROXY
from tests.virtual_cluster import Cluster

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


def turns(done: list[Json]) -> list[Turn]:
    """The turns that calls of kubectl tell of; the drain lies within each."""
    found = []
    for node in {call["node"] for call in done if call["verb"] == "cordon"}:
        own = [call for call in done if call["node"] == node]
        assert [call["verb"] for call in own] == ["cordon", "drain", "uncordon"], own
        assert all(call["status"] == 0 for call in own), own
        found.append(Turn(node, own[0]["began"], own[-1]["ended"]))
    return sorted(found, key=lambda turn: turn.began)


@contextmanager
def watched(cluster: Cluster) -> Iterator[Watch]:
    """See what becomes of requests, streams and turns while this lasts."""
    before, watch = len(calls(cluster)), Watch([], {}, {})
    with (
        client(
            cluster, "beats", API, "--timeout", str(PROMPT), "--patience", str(PATIENCE)
        ) as beats,
        client(cluster, "streams", API, "--count", "9", "--timeout", "5") as streams,
    ):
        streams.until("ready")
        yield watch
        watch.beats, watch.streams = beats.stop(), streams.stop()
    watch.turns = turns(calls(cluster)[before:])
    print(
        f"{watch.beats['count']} requests, {watch.beats['failures']} failed; the slowest took "
        f"{slowest(watch, False)} s, in the turn of the proxy's node {slowest(watch, True)} s; "
        f"{watch.streams['broke']} of {watch.streams['opened']} streams broke; turns took "
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
