"""Take, renew and give back Leases of a cluster, as locks between runs on several computers.

A Lease (coordination.k8s.io/v1) is an object that names its holder. Every write of a Lease sends
the ``resourceVersion`` that was read before. If somebody else has written the Lease meanwhile, the
API refuses the write with the reason ``Conflict``. So of two runs that write at the same time, only
one succeeds.

The holder renews its Lease again and again. A run that is killed renews no more, and its Lease
expires. Computers have different clocks, so nobody compares a Lease's times with a clock. As in
client-go (tools/leaderelection/leaderelection.go), a Lease has expired if it has not changed while
the observer's own monotonic clock has counted `leaseDurationSeconds`.

One rule is not client-go's. The API may be away for minutes, because it is away in the turn of the
only proxy. Meanwhile the holder cannot renew its Lease, although it is at work, and no other run
can take the Lease. So `Observer` counts only time in which it can read the Lease. When the API is
back, the holder has a whole lease duration to renew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from typing_extensions import Self

from chaos_engine.facts.text import printable
from chaos_engine.operations.rolling.kubectl import ClusterError, Json, Kubectl

NAMESPACE = "kube-system"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"

LEASE_SECONDS = 60
"""Seconds after which a Lease that is not renewed has expired. After a run was killed, the others
wait so long. A holder whose connection fails has as much time to renew."""

RENEW_SECONDS = 15.0
"""Seconds between two renewals. Three renewals in a row may fail before the Lease expires."""

BLIND_SECONDS = 15.0
"""The longest time in seconds between two looks at a Lease that count as observing it. kubectl
gives up a request after 10 s."""

NODE = "chaos-engine/node"
"""The annotation of a Lease that names the node whose turn it is."""

_TAKEN = ("Conflict", "AlreadyExists", "NotFound")
"""The API's reasons for refusing a write because somebody else has written before."""


@dataclass(frozen=True)
class Lease:
    """A Lease as the API shows it.

    + holder: who holds the Lease, "" for nobody
    + seconds: the time in seconds after which the Lease has expired if it is not renewed
    + since: when the holder has taken the Lease, as the holder's clock says
    + notes: the Lease's annotations
    + item: the whole object. A write sends it back with changes
    """

    name: str
    holder: str = ""
    seconds: int = LEASE_SECONDS
    since: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    item: Json = field(default_factory=dict)

    @classmethod
    def parse(cls, item: Json) -> Self:
        """Read an object of the API. Raises `ClusterError` if it has not the form of a Lease."""
        try:
            name, spec = item["metadata"]["name"], item.get("spec") or {}
            # Whoever edits the object may have removed the duration; the API refuses 0 and less
            seconds = int(spec.get("leaseDurationSeconds") or LEASE_SECONDS)
            since = str(spec.get("acquireTime") or "").partition(".")[0].removesuffix("Z")
            notes = dict(item["metadata"].get("annotations") or {})
            return cls(name, spec.get("holderIdentity") or "", seconds, since, notes, item)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ClusterError(f"kubectl's answer is not a Lease: {error}") from None

    @property
    def version(self) -> str:
        """Return the version of the object, "" if the API does not have the object yet."""
        return str(self.item.get("metadata", {}).get("resourceVersion", ""))

    def __str__(self) -> str:
        node = f" for node {self.notes[NODE]}" if NODE in self.notes else ""
        since = f" since {self.since.replace('T', ' ')} UTC" if self.since else ""
        # Everybody who may write Leases may have put any text there
        return printable(f"Lease {self.name} is held by {self.holder or 'nobody'}{node}{since}")


@dataclass(frozen=True)
class Leases:
    """The Leases of one cluster, and the one that takes them.

    + holder: the holder that is written into the Leases. It must be another one in each turn
    + notes: annotations for the Leases that are taken
    """

    kubectl: Kubectl
    holder: str
    notes: Mapping[str, str] = field(default_factory=dict)

    def all(self, prefix: str) -> dict[str, Lease]:
        """Return the Leases whose names begin with `prefix`, by name."""
        items = self.kubectl.request("get", LEASES).get("items") or []
        found = [Lease.parse(item) for item in items]
        return {lease.name: lease for lease in found if lease.name.startswith(prefix)}

    def get(self, name: str) -> Lease:
        """Return one Lease. A Lease that does not exist is held by nobody."""
        try:
            return Lease.parse(self.kubectl.request("get", f"{LEASES}/{name}"))
        except ClusterError as error:
            if error.reason == "NotFound":
                return Lease(name)
            raise

    def take(self, lease: Lease) -> Lease | None:
        """Take a Lease that nobody holds.

        + lease: the Lease as it was read before

        Returns the Lease, ``None`` if somebody else has written it meanwhile.
        """
        spec, now = lease.item.get("spec") or {}, stamp()
        wanted = {
            **spec,
            "holderIdentity": self.holder,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + bool(lease.version),
        }
        return self._write(lease, wanted, {**lease.notes, **self.notes})

    def renew(self, lease: Lease) -> Lease | None:
        """Renew a Lease of `holder`.

        + lease: the Lease as it was written last

        Returns the Lease, ``None`` if somebody else has written it meanwhile.
        """
        return self._write(lease, {**lease.item["spec"], "renewTime": stamp()}, lease.notes)

    def give_back(self, lease: Lease) -> Lease | None:
        """Write that nobody holds a Lease. The object stays.

        + lease: the Lease as it was read or written last

        kubectl cannot delete an object only if it still has a certain version, so a Lease is
        written and not deleted. Returns the Lease, ``None`` if somebody else has written it
        meanwhile.
        """
        spec = {key: value for key, value in lease.item["spec"].items() if key != "holderIdentity"}
        notes = {key: value for key, value in lease.notes.items() if key not in self.notes}
        return self._write(lease, {**spec, "renewTime": stamp()}, notes)

    def _write(self, lease: Lease, spec: Json, notes: Mapping[str, str]) -> Lease | None:
        """Create a Lease, or replace the version of it that was read before."""
        metadata: dict[str, Any] = dict(lease.item.get("metadata") or {})
        metadata |= {"name": lease.name, "namespace": NAMESPACE, "annotations": dict(notes)}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }
        try:
            if lease.version:
                answer = self.kubectl.request("replace", f"{LEASES}/{lease.name}", body)
            else:
                answer = self.kubectl.request("create", LEASES, body)
        except ClusterError as error:
            if error.reason in _TAKEN:
                return None
            raise
        return Lease.parse(answer)


class Observer:
    """Tells which Leases have expired, from what was seen of them so far."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, float]] = {}
        self._looked_at = 0.0

    def see(self, leases: Iterable[Lease], now: float) -> None:
        """Store the versions that Leases have now.

        + now: the time of a monotonic clock in seconds

        If the last look was too long ago, all Leases count as seen for the first time. That is so
        after the API was away, and after the computer was suspended.
        """
        observed = now - self._looked_at <= BLIND_SECONDS
        before = self._seen if observed else {}
        self._looked_at = now
        self._seen = {}
        for lease in leases:
            version, since = before.get(lease.name, ("", now))
            self._seen[lease.name] = (lease.version, since if version == lease.version else now)

    def has_expired(self, lease: Lease) -> bool:
        """Tell whether a Lease of the last look has not changed for its whole duration."""
        version, since = self._seen.get(lease.name, ("", self._looked_at))
        return version == lease.version and self._looked_at - since >= lease.seconds


def stamp() -> str:
    """Return the time now in the API's form for Leases (MicroTime)."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
