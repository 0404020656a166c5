"""Who may be down at the same time: the turns that nodes take within one run."""

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
    + failed: why no further node of the cluster may take its turn; empty while all went well
    + problems: what does not work on nodes of the cluster, by host
    + to_uncordon: hosts that an operation of this run is going to uncordon
    + down: hosts that are in their turn now

    Locks only, a lane's always before slots: a host that waits holds a place in pyinfra's pool,
    so a barrier would wait for ever where that is smaller than the inventory.
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
        """While it lasts, the node may be down.

        + name: the host's
        + lane: the proxy waits until no other node of the cluster is down, and they for it
        + joined: whether the node has joined a cluster; those that have not wait for nobody
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
        """What a host waits for whose turn it is not yet, in words."""
        return f"waiting for its turn, which {', '.join(self.down) or 'nobody'} has now"

    def remember(self, name: str, problems: Mapping[str, str]) -> None:
        """Remember what does not work on the node of the cluster called NAME, by concern."""
        self.problems.pop(name, None)
        if problems:
            self.problems[name] = "; ".join(problems.values())

    def why_closed(self, name: str) -> str:
        """Why the node of the cluster called NAME may not take its turn, "" if it may.

        Nobody may once a turn went wrong. A node that does its work is left at it while another
        does not; one that does not may be mended.
        """
        if self.failed or name in self.problems:
            return self.failed
        return next((f"{other}: {why}" for other, why in self.problems.items()), "")


_GATES: WeakKeyDictionary[State, Gate] = WeakKeyDictionary()


def gate(state: State, batch: int) -> Gate:
    """The one gate of a run; the first to ask says how many may pass."""
    return _GATES.setdefault(state, Gate(batch))
