"""Take the Leases of a cluster that a node's turn needs, so that turns hold between runs.

`gate` decides within one run. Several runs on several computers share these Leases in the namespace
kube-system:

- ``chaos-engine.turn-1`` to ``chaos-engine.turn-N``, with N the batch. Every turn needs one. The
  proxy's turn needs all
- ``chaos-engine.controller``. A turn of a controller or a proxy needs it too
- ``chaos-engine.next``. A turn holds it only while it takes the other ones. So the turn that waits
  is the next one, and a run with many nodes does not keep the nodes of other runs waiting. Without
  it, the run whose turn ends would be the first to know, and would take the Lease again

A turn takes ``chaos-engine.next``, ``chaos-engine.controller`` and the others, in this order. So no
two turns wait for each other.

Each Lease names the batch of its run. Turns of runs with different batches exclude each other. A
run looks for Leases with another batch before it takes its own, and once more when it has taken
it. So of two runs that take their first Lease at the same time, at least one sees the other, and
gives its Lease back.

A holder that cannot renew its Leases cannot know whether it has lost them. So right before the work
on the node it renews them once more (`ClusterTurn.confirm`), and without an answer it does not
start. Work that has started goes on: half of it would be worse. If another run has taken over a
Lease meanwhile, the turn has a problem, and the run starts no other turn.
"""

from __future__ import annotations

import getpass
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TypeVar

import gevent  # type: ignore[import-untyped]
from pyinfra.api.host import Host

from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.text import printable, setting
from chaos_engine.operations.rolling.cordon import Rolling
from chaos_engine.operations.rolling.kubectl import API_SECONDS, ClusterError
from chaos_engine.operations.rolling.lease import (
    LEASE_SECONDS,
    NAMESPACE,
    NODE,
    RENEW_SECONDS,
    Lease,
    Leases,
    Observer,
)

T = TypeVar("T")

PREFIX = "chaos-engine."
CONTROLLER = f"{PREFIX}controller"
NEXT = f"{PREFIX}next"
SLOT = f"{PREFIX}turn-"

BATCH = "chaos-engine/batch"
"""The annotation of a Lease that has the batch of its run."""

AWAY_SECONDS = 600.0
"""Seconds that a waiting node waits for an API that has answered before. In the turn of another
run's proxy, the API is away as long as the proxy's reboot takes."""

GIVE_BACK_SECONDS = 20.0
"""Seconds to try to give Leases back. After that, they expire."""

PAUSE = 2.0
"""Seconds between two attempts, at least. A random half is added, so that two runs that have met
once do not meet again."""


class ClusterTurn:
    """The Leases of one node's turn.

    + problem: why the turn does not have its Leases any more, "" while it has them
    + waited: whether the turn had to wait for another turn
    + at_work: whether the work on the node may have started

    Without a kubeconfig, the turn needs no Lease.
    """

    def __init__(self, host: Host, rolling: Rolling) -> None:
        self.problem, self.waited, self.at_work = "", False, False
        self._host, self._rolling = host, rolling
        self._held: dict[str, Lease] = {}
        self._renewed: dict[str, float] = {}
        self._given_back: set[str] = set()
        self._observer = Observer()
        self._answered = False
        self._renewing: gevent.Greenlet | None = None
        self._waits_for = "asking the cluster for its Leases"
        if rolling.kubectl:
            notes = {NODE: rolling.node, BATCH: str(rolling.batch)}
            self._leases = Leases(rolling.kubectl, identity(rolling.node), notes)

    def take(self) -> None:
        """Wait until the turn has its Leases, and renew them from now on.

        Raises `ClusterError` if the cluster does not answer or refuses Leases.
        """
        if self._rolling.kubectl is None:
            return
        for names in wanted(self._rolling):
            self._take_one_of(names)
        self._free(NEXT)

    def what_it_waits_for(self) -> str:
        """Return what a waiting host prints: who holds the Lease, for which node, since when."""
        return self._waits_for

    def await_others(self) -> None:
        """Wait while another run has its turn on this node."""
        while True:
            others = self._look()[1].values()
            same = [lease for lease in others if lease.notes.get(NODE) == self._rolling.node]
            if not same:
                return
            self._wait_for(same)

    def confirm(self) -> str:
        """Renew the Leases right before the work on the node.

        Returns why the work must not start, "" if it may. The property `problem` says more.
        """
        if not self._held:
            return self.problem and "the work was not started"
        self._stop_renewing()
        try:
            self._ask(self._renew, API_SECONDS)
        except ClusterError as error:
            names = ", ".join(self._held)
            return f"the work was not started, because {names} cannot be renewed: {error}"
        if self.problem:
            return "the work was not started"
        self._start_renewing()
        self.at_work = True
        return ""

    def end(self) -> None:
        """Give the Leases back. A Lease that cannot be given back expires."""
        self._stop_renewing()
        now = time.monotonic()
        for name in reversed([*self._held]):
            passed = now - self._renewed[name]
            try:
                self._ask(partial(self._give_back, name), GIVE_BACK_SECONDS)
            except ClusterError as error:
                if passed > LEASE_SECONDS:
                    problem = f"its Lease {name} could not be renewed for {passed:.0f} s: {error}"
                    self.problem = self.problem or problem
                else:
                    self._host.log(
                        f"Lease {name} could not be given back, so other runs wait "
                        f"{LEASE_SECONDS} s until it has expired: {error}"
                    )

    def abandon(self) -> None:
        """Stop to renew the Leases, and let them expire. The node may still be at work."""
        self._stop_renewing()

    def _take_one_of(self, names: Sequence[str]) -> None:
        """Wait until one of these Leases is free, and take it."""
        is_slot = names[0].startswith(SLOT)
        while True:
            found, others = self._look()
            in_the_way = self._of_another_batch(others) if is_slot else []
            # A write may have taken a Lease although its answer was lost
            free = sorted(
                (found.get(name, Lease(name)) for name in names if name not in others),
                key=lambda lease: lease.holder != self._leases.holder,
            )
            if free and not in_the_way and self._took(free[0]):
                in_the_way = self._of_another_batch(self._look()[1]) if is_slot else []
                if not in_the_way:
                    return
                self._free(free[0].name)
            if self.problem:
                raise ClusterError(self.problem)
            self._wait_for(in_the_way or [others[name] for name in names if name in others])

    def _free(self, name: str) -> None:
        """Give one Lease back, and keep the others."""
        self._stop_renewing()
        if name in self._held:
            self._ask(partial(self._give_back, name), API_SECONDS)
        self._start_renewing()

    def _took(self, lease: Lease) -> bool:
        """Try to take a Lease, and tell whether that has succeeded."""
        taken = self._ask(partial(self._leases.take, lease), API_SECONDS)
        if taken is None:
            return False
        self._held[lease.name], self._renewed[lease.name] = taken, time.monotonic()
        self._start_renewing()
        return True

    def _look(self) -> tuple[Mapping[str, Lease], Mapping[str, Lease]]:
        """Return all Leases, and those that others hold, by name. Free those that have expired."""
        while True:
            patience = AWAY_SECONDS if self._answered else API_SECONDS
            found = self._ask(partial(self._leases.all, PREFIX), patience)
            self._answered = True
            self._observer.see(found.values(), time.monotonic())
            others = {
                name: lease
                for name, lease in found.items()
                if lease.holder not in ("", self._leases.holder)
            }
            expired = [lease for lease in others.values() if self._observer.has_expired(lease)]
            for lease in expired:
                # The Lease is written even if this turn does not need it: then its holder learns
                # that it has lost the Lease
                if self._ask(partial(self._leases.give_back, lease), API_SECONDS):
                    self._host.log(
                        f"{lease}; it was not renewed for {lease.seconds} s, so it has expired"
                    )
            if not expired:
                return found, others

    def _of_another_batch(self, others: Mapping[str, Lease]) -> list[Lease]:
        """Return the Leases of turns whose run has another batch."""
        own = str(self._rolling.batch)
        return [
            lease
            for name, lease in others.items()
            if name.startswith(SLOT) and lease.notes.get(BATCH) != own
        ]

    def _wait_for(self, leases: Sequence[Lease]) -> None:
        """Wait a moment until other turns may have ended.

        + leases: the Leases of these turns; empty if another turn was faster
        """
        self.waited = True
        if leases:
            lease = leases[0]
            batch, own = printable(lease.notes.get(BATCH, "")), str(self._rolling.batch)
            other = lease.name.startswith(SLOT) and batch != own
            why = f", whose run has batch {batch}, not {own}" if other else ""
            self._waits_for = f"waiting for its turn; {lease}{why}"
        gevent.sleep(_pause() if leases else _pause() / 10)

    def _start_renewing(self) -> None:
        """Renew the Leases in a greenlet of its own, unless one does."""
        if self._renewing is None:
            self._renewing = gevent.spawn(self._keep)

    def _stop_renewing(self) -> None:
        """End the greenlet that renews the Leases."""
        if self._renewing is not None:
            self._renewing.kill()
            self._renewing = None

    def _keep(self) -> None:
        """Renew the Leases again and again, more often while that fails."""
        pause = RENEW_SECONDS
        while True:
            gevent.sleep(pause)
            try:
                self._renew()
                pause = RENEW_SECONDS
            except ClusterError:
                pause = _pause()

    def _renew(self) -> None:
        """Renew all Leases of the turn. Raises `ClusterError` if the cluster does not answer."""
        for name in [*self._held]:
            renewed = self._leases.renew(self._held[name])
            if renewed is None:
                found = self._leases.get(name)
                if found.holder != self._leases.holder:
                    self._lose(name, found)
                    continue
                # An earlier write had an effect, although its answer was lost
                renewed = self._leases.renew(found)
            if renewed is None:
                raise ClusterError(f"somebody else writes Lease {name}")
            self._held[name], self._renewed[name] = renewed, time.monotonic()

    def _give_back(self, name: str) -> None:
        """Give one Lease back. Raises `ClusterError` if the cluster does not answer."""
        tried = name in self._given_back
        self._given_back.add(name)
        if self._leases.give_back(self._held[name]) is None:
            found = self._leases.get(name)
            if found.holder == self._leases.holder:
                if self._leases.give_back(found) is None:
                    raise ClusterError(f"somebody else writes Lease {name}")
            elif not tried:  # else an earlier write had an effect, although its answer was lost
                self._lose(name, found)
                return
        self._given_back.remove(name)
        del self._held[name]

    def _lose(self, name: str, found: Lease) -> None:
        """Store that another run has taken over a Lease of this turn.

        + found: the Lease as it is now
        """
        del self._held[name]
        passed = time.monotonic() - self._renewed[name]
        now = f"; now {found}" if found.holder else ""
        self.problem = self.problem or (
            f"another run has taken over its Lease {name}, which was last renewed "
            f"{passed:.0f} s ago{now}"
        )

    def _ask(self, request: Callable[[], T], seconds: float) -> T:
        """Send a request to the cluster until the cluster answers, and return the answer.

        + seconds: how long to try

        Raises `ClusterError` after that time, or at once if the user lacks a right.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return request()
            except ClusterError as error:
                if error.reason == "Forbidden":
                    raise ClusterError(
                        f"{error}; give the user of {setting('kubeconfig')} the rights to get, "
                        f"list, create and update leases of coordination.k8s.io in the namespace "
                        f"{NAMESPACE}"
                    ) from None
                if time.monotonic() > deadline:
                    raise
            gevent.sleep(_pause())


@contextmanager
def cluster_turn(host: Host, rolling: Rolling) -> Iterator[ClusterTurn]:
    """Have the Leases of a node's turn until the ``with`` block ends.

    If an exception ends the block while the node may be at work, the Leases are not given back, but
    expire. Raises `ClusterError` if the cluster does not answer or refuses Leases.
    """
    turn = ClusterTurn(host, rolling)
    try:
        with waiting(host, turn.what_it_waits_for):
            turn.take()
        yield turn
    except BaseException as error:
        if turn.at_work or not isinstance(error, Exception):
            turn.abandon()
        else:
            turn.end()
        raise
    turn.end()


def work_with_leases(host: Host, rolling: Rolling, work: Callable[[], str]) -> str:
    """Work on a node while the run holds the Leases of the turn. Return the problems, or "".

    + work: the function that does the work and returns its problem
    """
    with cluster_turn(host, rolling) as shared:
        problem = shared.confirm() or work()
    return "; ".join(filter(None, (problem, shared.problem)))


def await_others(host: Host, rolling: Rolling) -> bool:
    """Wait while another run has its turn on this node, and tell whether one had.

    Raises `ClusterError` if the cluster does not answer.
    """
    turn = ClusterTurn(host, rolling)
    if rolling.kubectl:
        with waiting(host, turn.what_it_waits_for):
            turn.await_others()
    return turn.waited


def is_of_another_run(rolling: Rolling) -> bool:
    """Tell whether another run has its turn on this node, or was killed in it a moment ago.

    Returns ``False`` if the cluster does not answer, or no kubeconfig is known.
    """
    if rolling.kubectl is None:
        return False
    own = identity(rolling.node)
    try:
        found = Leases(rolling.kubectl, own).all(PREFIX).values()
    except ClusterError:
        return False
    return any(
        lease.holder not in ("", own) and lease.notes.get(NODE) == rolling.node for lease in found
    )


def wanted(rolling: Rolling) -> list[list[str]]:
    """Return the names of the Leases that a turn needs, in the order in which it takes them.

    The turn takes one Lease of each list. This is a pure function.

    **Example:** for a worker with batch 2,
    ``[["chaos-engine.next"], ["chaos-engine.turn-1", "chaos-engine.turn-2"]]``
    """
    slots = [f"{SLOT}{number}" for number in range(1, rolling.batch + 1)]
    first = [[NEXT], [CONTROLLER]] if rolling.lane else [[NEXT]]
    return [*first, *([slot] for slot in slots)] if rolling.lane == "proxy" else [*first, slots]


def identity(node: str) -> str:
    """Return the holder of the Leases of a node's turn in this run.

    **Example:** ``anna@desk:4711-9f86d0/pi4``
    """
    return f"{_run()}/{node}"


@cache
def _run() -> str:
    """Return a text that names the user, this computer and this run."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # the user has no name on this computer
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{os.getpid()}-{secrets.token_hex(3)}"


def _pause() -> float:
    """Return the seconds until the next attempt."""
    return PAUSE * random.uniform(1, 1.5)
