"""Read whether a node works in its cluster, and whether a run has cordoned it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts import api_servers, cri_dockerd, docker
from chaos_engine.facts.haproxy import ADDRESS_ANSWERS
from chaos_engine.facts.health import problems_command
from chaos_engine.facts.kernel import MEMORY_CONTROLLED
from chaos_engine.facts.kubernetes import KUBELET_ANSWERS, KUBELET_CONF
from chaos_engine.facts.log_mount import LOG_SHARE_WRITABLE
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import pairs
from chaos_engine.facts.vrrp import CAN_TAKE_OVER, VRRP_RUNS

NOTE = "/var/lib/chaos-engine/cordoned"
"""The file that a run creates when it cordons the node, and removes when it uncordons the node."""

# The key of each check is a path. A node needs the check only if this path exists on the node
_OPTIONAL = {
    "/usr/bin/docker": docker.DOCKER_ANSWERS,
    cri_dockerd.PROGRAM: cri_dockerd.CRI_DOCKERD_ANSWERS,
    "/sys/fs/cgroup/cgroup.controllers": MEMORY_CONTROLLED,
}
_ALWAYS = (
    KUBELET_ANSWERS,
    api_servers.API_SERVER_ANSWERS,
    LOG_SHARE_WRITABLE,
    ADDRESS_ANSWERS,
    # For several proxies. Without these checks, the next proxy would have its turn before this
    # proxy can take over
    VRRP_RUNS,
    CAN_TAKE_OVER,
)


@dataclass(frozen=True)
class StandingState(Value):
    """The state of a node in its cluster.

    + joined: whether the node has joined a cluster. If not, the other fields are empty
    + cordoned: whether a run has cordoned the node and has not uncordoned it yet
    + problems: the messages of failed checks, by the check's name. The checks are about services
      that the node's pods need
    """

    joined: bool = False
    cordoned: bool = False
    problems: dict[str, str] = field(default_factory=dict)


class Standing(NodeFact[StandingState]):
    """Whether the node has joined a cluster and works there.

    A node works if Docker, cri-dockerd and kubelet answer, the memory cgroup exists, and
    ``/var/log`` is writable. On a controller the API server must be ready too. On a proxy the
    API's address must answer too. If there are several proxies, each proxy must also be able to
    take over this address.

    **Example:** ``host.get_fact(Standing)``
    """

    @override
    def command(self) -> StringCommand:
        return StringCommand(
            f"if [ -e {KUBELET_CONF} ]; then echo joined; test ! -e {NOTE} || echo cordoned;",
            *(
                StringCommand(f"if [ -e {path} ]; then", problems_command([check]), "; fi;")
                for path, check in _OPTIONAL.items()
            ),
            problems_command(_ALWAYS),
            "; else echo alone; fi",
        )

    @override
    def parse(self, lines: list[str]) -> StandingState:
        """Read a line ``alone`` or ``joined``.

        After ``joined`` there may be a line ``cordoned``, and a line ``CHECK PROBLEM`` for each
        failed check.
        """
        first, *rest = lines
        if first not in ("joined", "alone"):
            raise ValueError(first)
        if first == "alone":
            return StandingState()
        return StandingState(
            joined=True,
            cordoned="cordoned" in rest,
            problems=pairs(line for line in rest if line != "cordoned"),
        )
