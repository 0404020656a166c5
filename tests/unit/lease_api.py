"""The Leases of a Kubernetes API in memory, with its rules and its refusals."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field

from chaos_engine.operations.rolling.kubectl import ClusterError, Json
from chaos_engine.operations.rolling.lease import LEASES


@dataclass(kw_only=True)
class LeaseApi:
    """What kubectl's `request` answers for Leases.

    + refuses: kubectl's commands that the user may not use
    + away: whether the API does not answer
    + loses: how many of the next answers to a write get lost, after the write had its effect
    """

    items: dict[str, Json] = field(default_factory=dict)
    refuses: str = ""
    away: bool = False
    loses: int = 0
    asked: list[str] = field(default_factory=list)
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def request(self, verb: str, path: str, body: Json | None = None) -> Json:
        self.asked.append(f"{verb} {path.removeprefix(LEASES).strip('/')}".strip())
        if self.away:
            raise ClusterError(f"kubectl {verb}: Unable to connect to the server: no route to host")
        if verb in self.refuses.split():
            raise refused("Forbidden", f"leases is forbidden: User anna cannot {verb}")
        assert path == LEASES or path.startswith(f"{LEASES}/"), path
        name = path.removeprefix(LEASES).strip("/")
        if verb == "get":
            if not name:
                return {"kind": "LeaseList", "items": copy.deepcopy([*self.items.values()])}
            return copy.deepcopy(self._existing(name))
        assert body is not None
        self._write(verb, name, copy.deepcopy(body))
        if self.loses:
            self.loses -= 1
            raise ClusterError(f"kubectl {verb} did not end within 20 s")
        return copy.deepcopy(self.items[body["metadata"]["name"]])

    def _write(self, verb: str, name: str, body: Json) -> None:
        metadata = body["metadata"]
        assert metadata["namespace"] == "kube-system"
        assert body["spec"]["leaseDurationSeconds"] > 0
        assert body["spec"].get("holderIdentity") != ""
        if verb == "create":
            name = metadata["name"]
            if name in self.items:
                raise refused("AlreadyExists", f'leases "{name}" already exists')
            assert "resourceVersion" not in metadata
        else:
            assert metadata["name"] == name
            if self._existing(name)["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
                raise refused("Conflict", "the object has been modified; please apply your changes")
        metadata["resourceVersion"] = str(next(self._versions))
        self.items[name] = body

    def _existing(self, name: str) -> Json:
        if name not in self.items:
            raise refused("NotFound", f'leases "{name}" not found')
        return self.items[name]

    def holders(self) -> dict[str, str]:
        """Return who holds which Lease; those that nobody holds are left out."""
        held = {name: item["spec"].get("holderIdentity") for name, item in self.items.items()}
        return {name: holder for name, holder in held.items() if holder}


def refused(reason: str, message: str) -> ClusterError:
    """Return the error for a request that the API refuses."""
    return ClusterError(f"kubectl: Error from server ({reason}): {message}", reason)
