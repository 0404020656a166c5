"""Watch the API's address while nodes take turns, and tell which turns they took.

The turns follow from kubectl's requests to the API: each begins with `cordon` and ends with
`uncordon`. Meanwhile a client on the LAN sends a request a second to the API's address, and holds
streams open. A request fails if it gets no answer in two seconds. In the turn of the proxy's own
node, when the address is away, it has ten: so long kubelet tries again to report its state
(nodeStatusUpdateFrequency).
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
"""Seconds that a request may take in the turn of the proxy's node."""
PROMPT = 2
"""Seconds that it may take otherwise."""


@dataclass(frozen=True)
class Turn:
    """A node's turn. Times are in seconds since 1970."""

    node: str
    began: float
    ended: float

    def overlaps(self, other: Turn) -> bool:
        return self.began < other.ended and other.began < self.ended


@dataclass
class Watch:
    """What was seen during a change."""

    turns: list[Turn]
    beats: Json
    streams: Json
    states: Json
    """What the controllers' own ``/readyz`` answered, twice a second."""


def turns(events: list[Json]) -> list[Turn]:
    """Return the turns that follow from kubectl's requests, in order of time.

    A node may have several, one after the other. Fails if a turn has no drain that evicted a pod.
    """
    steps: dict[str, list[tuple[str, Json]]] = {}
    for event in events:
        if (step := parse_step(event)) and event["responseStatus"]["code"] == 200:
            steps.setdefault(step[1], []).append((step[0], event))
    found = []
    for node, all_steps in steps.items():
        for own in (all_steps[n : n + 3] for n in range(0, len(all_steps), 3)):
            assert [name for name, _ in own] == ["cordon", "drain", "uncordon"], (node, all_steps)
            began, ended = own[0][1]["requestReceivedTimestamp"], own[-1][1]["stageTimestamp"]
            evicted = [e for e in events if began <= e["requestReceivedTimestamp"] <= ended
                       and e["objectRef"].get("subresource") == "eviction"]  # fmt: skip
            assert evicted, f"no pod was evicted in the turn of {node}"
            found.append(Turn(node, parse_stamp(began), parse_stamp(ended)))
    return sorted(found, key=lambda turn: turn.began)


def parse_step(event: Json) -> tuple[str, str] | None:
    """Return whether a request of kubectl is a cordon, drain or uncordon, and of which node.

    Only a drain lists the pods of one node. It cordons the node too, but that is done by then.
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
    """Watch requests, streams and turns while the ``with`` block lasts."""
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
    """Tell whether a request was under way in the turn of the proxy's node."""
    began = watch.beats["began"] + beat["at"]
    ended = began + beat.get("took", PATIENCE)
    return any(t.began <= ended and began <= t.ended for t in watch.turns if t.node == PROXY)


def slowest(watch: Watch, in_it: bool) -> float:
    """Return the seconds that the slowest answer took, in the turn of the proxy's node or not."""
    answered = watch.beats["answered"]
    return max((b["took"] for b in answered if in_proxys_turn(watch, b) is in_it), default=0.0)


def most_together(watch: Watch) -> int:
    """Return how many nodes at most were in their turns at the same time."""
    return max(sum(t.began <= one.began < t.ended for t in watch.turns) for one in watch.turns)


def are_apart(watch: Watch, *nodes: str) -> None:
    """Check that these nodes took turns one by one, and the proxy none beside another node."""
    for n, one in enumerate(watch.turns):
        for other in watch.turns[n + 1 :]:
            if PROXY in (one.node, other.node) or {one.node, other.node} <= set(nodes):
                assert not one.overlaps(other), watch.turns


def nobody_was_cut_off(watch: Watch) -> None:
    """Check that no request failed, and streams broke only with their server or the proxy."""
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
    """Check that at any time two of the three API servers or more were ready."""
    assert watch.states["count"] >= 5
    assert watch.states["fewest"] >= 2, (watch.states["samples"], watch.turns)


def in_proxys_turn_only(watch: Watch) -> None:
    """Check that requests to the API's address failed only in the turn of the proxy's node."""
    assert watch.beats["count"] >= 5
    for failure in watch.beats["failed"]:
        assert in_proxys_turn(watch, failure), (failure, watch.turns)
    assert slowest(watch, in_it=False) <= PROMPT, watch.beats["answered"]
