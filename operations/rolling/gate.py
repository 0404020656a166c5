"""Decide which nodes may be down at the same time in a run.

The time in which a node may be down is its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal
from weakref import WeakKeyDictionary

from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]
from pyinfra.api.state import State

Lane = Literal["", "controller", "proxy"]
"""A group of nodes. Only one node of a group may be down at a time. "" is for nodes without a
group."""


class Gate:
    """The turns of one run, for all its hosts.

    + batch: how many nodes of a cluster may be down at the same time
    + failed: the problem of the turn that failed; "" while no turn has failed
    + problems: the problems of the cluster's nodes, by the host's name
    + to_uncordon: names of the hosts that an operation of this run is going to uncordon
    + down: names of the hosts that have their turn now

    A gate has `batch` slots, and a lock for each lane. A turn first takes the lock of the node's
    lane, then a slot. All turns use this order, so no two hosts wait for each other.

    A barrier for all hosts would not work, because each waiting host occupies a greenlet of
    pyinfra's pool. The pool may have fewer greenlets than there are hosts.
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
        """Wait for a node's turn. The turn lasts until the ``with`` block ends.

        + name: the host's name
        + lane: the node's group. A proxy waits until no other node of the cluster has a turn.
          During the proxy's turn, all other nodes of the cluster wait
        + joined: whether the node has joined a cluster. A node without a cluster waits only if its
          lane is "proxy"
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
        """Return what a waiting host prints: the names of the hosts that have their turn now."""
        return f"waiting for its turn; it is now the turn of {', '.join(self.down) or 'nobody'}"

    def remember(self, name: str, problems: Mapping[str, str]) -> None:
        """Store the present problems of a node, and forget the node's earlier problems.

        + name: the host's name
        + problems: the node's problems, by the check's name; empty if the node works
        """
        self.problems.pop(name, None)
        if problems:
            self.problems[name] = "; ".join(problems.values())

    def why_closed(self, name: str) -> str:
        """Return why a node of the cluster must not take its turn, "" if it may.

        + name: the host's name

        After a turn has failed, no node may take a turn. While a node of the cluster has problems,
        only nodes with problems may take a turn, because the turn may fix them.
        """
        if self.failed:
            return self.failed
        if name in self.problems:
            return ""
        return next((f"{other}: {why}" for other, why in self.problems.items()), "")


_GATES: WeakKeyDictionary[State, Gate] = WeakKeyDictionary()


def gate(state: State, batch: int) -> Gate:
    """Return the gate of a run.

    + batch: how many nodes of a cluster may be down at the same time; the same in all calls of a
      run, because the first call creates the gate
    """
    return _GATES.setdefault(state, Gate(batch))
