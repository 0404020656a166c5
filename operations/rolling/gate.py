"""Decide which nodes may have their turn, and be down, at the same time in a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal
from weakref import WeakKeyDictionary

from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]
from pyinfra.api.state import State

Lane = Literal["", "controller", "proxy"]
"""A group of nodes of which only one may be down at a time; "" for nodes of no such group."""


class Gate:
    """The turns of one run, for all its hosts.

    + batch: how many nodes of a cluster may be down at the same time
    + failed: why no further node of the cluster may take its turn; "" while all goes well
    + problems: what does not work on nodes of the cluster, by host
    + to_uncordon: hosts that an operation of this run is going to uncordon
    + down: hosts that have their turn now

    A turn holds the lock of its lane and one slot; there are as many slots as nodes may be down. A
    turn takes the lock before the slot, so that no two hosts wait for each other. The hosts do not
    wait at a barrier, because a waiting host holds a place in pyinfra's pool. If the pool had fewer
    places than there are hosts, a barrier would wait for ever.
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
        """Wait for a node's turn, which lasts until the context ends.

        + name: the host's name
        + lane: the node's lane. The proxy takes all slots: it waits until no other node of the
          cluster is down, and the others wait for it
        + joined: whether the node has joined a cluster. A node that has not joined does not wait,
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
        """Return what a host waits for, with the names of the hosts that have their turn."""
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
        """Return why a node of the cluster must not take its turn, "" if it may.

        + name: the host's name

        After a turn has gone wrong, no node may take one. While one node does not work, the nodes
        that work must not take a turn. The broken node may, because the turn may fix it.
        """
        if self.failed or name in self.problems:
            return self.failed
        return next((f"{other}: {why}" for other, why in self.problems.items()), "")


_GATES: WeakKeyDictionary[State, Gate] = WeakKeyDictionary()


def gate(state: State, batch: int) -> Gate:
    """Return the one gate of a run; the first call sets its batch."""
    return _GATES.setdefault(state, Gate(batch))
