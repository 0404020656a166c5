"""What a cluster keeps: the stand-in for etcd, a folder that all nodes of a lab have mounted.

objects.json   every object of the API by its key (`nodes/pi1`, `pods/default/web-x2k4p`)
leases/NODE    touched by the node's kubelet every second while it runs
audit.log      a line of JSON for each request that API servers answered, as their audit logs
start-seconds  how long a kube-apiserver takes from its start until it listens
node-monitor-grace-period  seconds without a lease after which a node's state is Unknown
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Json = dict[str, Any]

START_SECONDS = 30.0
"""A real one on a Pi's like: 21 to 39 s were seen from Docker's restart to the first answer."""
GRACE_SECONDS = 40.0
"""kube-controller-manager's default of --node-monitor-grace-period (50 s from 1.32 on)."""

_OBJECTS = "objects.json"


class Objects(dict[str, Json]):
    """The objects of a cluster by their keys; whoever changes one calls `put` or `remove`."""

    def __init__(self, revision: int, objects: dict[str, Json]) -> None:
        super().__init__(objects)
        self.before = self.revision = revision

    def put(self, key: str, item: Json) -> Json:
        """Keep an object, new or changed, as the next revision; return it."""
        self.revision += 1
        metadata = item.setdefault("metadata", {})
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", stamp(time.time()))
        metadata["resourceVersion"] = str(self.revision)
        self[key] = item
        return item

    def remove(self, key: str) -> None:
        """Forget an object."""
        self.revision += 1
        del self[key]

    def of(self, resource: str, namespace: str = "") -> list[Json]:
        """Return the objects of a resource (`pods`), of one namespace or of all, by key."""
        prefix = f"{resource}/{namespace}/" if namespace else f"{resource}/"
        return [self[key] for key in sorted(self) if key.startswith(prefix)]


class Store:
    """A cluster's store in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def transaction(self) -> Iterator[Objects]:
        """Read the objects, and write them if they were changed; nobody else does meanwhile."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            file = self.folder / _OBJECTS
            empty: Json = {"revision": 1, "objects": {}}
            kept: Json = json.loads(file.read_text()) if file.exists() else empty
            objects = Objects(kept["revision"], kept["objects"])
            yield objects
            if objects.revision == objects.before:
                return
            draft = self.folder / f".{_OBJECTS}"
            draft.write_text(
                json.dumps({"revision": objects.revision, "objects": objects}, indent=1)
            )
            draft.rename(file)

    def beat(self, node: str) -> None:
        """Renew a node's lease."""
        lease = self.folder / "leases" / node
        lease.parent.mkdir(exist_ok=True)
        lease.touch()

    def silence(self, node: str, now: float) -> float:
        """Return for how many seconds a node's lease has not been renewed."""
        try:
            return now - (self.folder / "leases" / node).stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def forget(self, node: str) -> None:
        """Remove a node's lease."""
        (self.folder / "leases" / node).unlink(missing_ok=True)

    def seconds(self, name: str, default: float) -> float:
        """Return a setting, which is a file of that name with a number of seconds."""
        try:
            return float((self.folder / name).read_text())
        except (FileNotFoundError, ValueError):
            return default

    def record(self, event: Json) -> None:
        """Add a line to the audit log; one write, so that no other server's is in it."""
        log = os.open(
            self.folder / "audit.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(log, json.dumps(event).encode() + b"\n")
        finally:
            os.close(log)

    def audit(self) -> list[Json]:
        """Return the audit log, as it was written."""
        file = self.folder / "audit.log"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]


def stamp(seconds: float) -> str:
    """Return a time, in seconds since 1970, as the API has it: to the second, in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def fine_stamp(seconds: float) -> str:
    """Return a time as audit logs have it: to the microsecond."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_stamp(text: str) -> float:
    """Read a time of the API or of an audit log."""
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if "." in text else "%Y-%m-%dT%H:%M:%SZ"
    return datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp()
