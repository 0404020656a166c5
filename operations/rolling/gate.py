"""Hand out turns: say which nodes may be down at the same time within one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pyinfra.api.state import State

Lane = Literal["", "controller", "proxy"]
"""Nodes of one lane are never down together."""


class Gate:
    """The turns of one run, for all its hosts.

    + batch: how many nodes of a cluster may be down at the same time
    + failed: why no further node of the cluster may take its turn; "" while all went well
    + problems: what does not work on nodes of the cluster, by host
    + to_uncordon: hosts that an operation of this run is going to uncordon
    + down: hosts that are in their turn now

    It uses locks, and takes a lane's lock before slots, so that no two hosts wait for each other.
    A barrier would not do: a host that waits holds a place in pyinfra's pool, and where the pool is
    smaller than the inventory, a barrier would wait for ever.
    """

    def __init__(self, batch: int) -> None:
        self.failed = ""
        self.problems: dict[str, str] = {}
        self.to_uncordon: set[str] = set()
        self.down: list[str] = []
        self._batch = batch
        self._slots = BoundedSemaphore(batch)
        self._lanes = {"controller": BoundedSemaphore(1), "proxy": BoundedSemaphore(1)}

    @contextmanager
    def turn(self, name: str, lane: Lane, joined: bool) -> Iterator[None]:
        """Wait for the node's turn; within the context it may be down.

        + name: the host's name
        + lane: the node's lane. The proxy waits until no other node of the cluster is down, and
          the others wait for it
        + joined: whether the node has joined a cluster; a node that has not waits for nobody,
          unless it is the proxy
        """
        with ExitStack() as held:
            if lane == "proxy" or (lane and joined):
                held.enter_context(self._lanes[lane])
            for _ in range(self._batch if lane == "proxy" else int(joined)):
                held.enter_context(self._slots)
            self.down.append(name)
            try:
                yield
            finally:
                self.down.remove(name)

    def what_it_waits_for(self) -> str:
        """Say what a host waits for while it is not its turn."""
        return f"waiting for its turn, which {', '.join(self.down) or 'nobody'} has now"

    def remember(self, name: str, problems: Mapping[str, str]) -> None:
        """Remember what does not work on a node of the cluster.

        + name: the host's name
        + problems: what does not work, by concern; empty if all works
        """
        self.problems.pop(name, None)
        if problems:
            self.problems[name] = "; ".join(problems.values())

    def why_closed(self, name: str) -> str:
        """Say why a node of the cluster may not take its turn, "" if it may.

        + name: the host's name

        After a turn went wrong, no node may. While one node does not work, the nodes that work are
        left alone; the broken node may take its turn, since that may fix it.
        """
        if self.failed or name in self.problems:
            return self.failed
        return next((f"{other}: {why}" for other, why in self.problems.items()), "")


_GATES: WeakKeyDictionary[State, Gate] = WeakKeyDictionary()


def gate(state: State, batch: int) -> Gate:
    """Return the one gate of a run; the first call sets its batch."""
    return _GATES.setdefault(state, Gate(batch))
