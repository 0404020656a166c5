"""How a node stands in its cluster: whether it does a node's work, and what a run left on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyinfra.api.command import StringCommand
from typing_extensions import override

from chaos_engine.facts import api_servers, cri_dockerd, docker
from chaos_engine.facts.haproxy import ADDRESS_ANSWERS
from chaos_engine.facts.health import ask
from chaos_engine.facts.kernel import MEMORY_CONTROLLED
from chaos_engine.facts.kubernetes import KUBELET_ANSWERS, KUBELET_CONF
from chaos_engine.facts.log_mount import WRITABLE
from chaos_engine.facts.observe import NodeFact, Value
from chaos_engine.facts.text import pairs

NOTE = "/var/lib/chaos-engine/cordoned"
"""Says that a run has cordoned the node and has yet to uncordon it."""

# by what is there only where the concern is
_OPTIONAL = {
    "/usr/bin/docker": docker.ANSWERS,
    "/usr/local/bin/cri-dockerd": cri_dockerd.ANSWERS,
    "/sys/fs/cgroup/cgroup.controllers": MEMORY_CONTROLLED,
}
_ALWAYS = (KUBELET_ANSWERS, api_servers.ANSWERS, WRITABLE, ADDRESS_ANSWERS)


@dataclass(frozen=True)
class StandingState(Value):
    """How a node stands.

    + joined: whether it has joined a cluster; of one that has not nothing else is known
    + cordoned: whether a run has noted that it cordoned the node
    + problems: what does not work of that which its pods need, by concern
    """

    joined: bool = False
    cordoned: bool = False
    problems: dict[str, str] = field(default_factory=dict)


class Standing(NodeFact[StandingState]):
    """Whether the node has joined a cluster and does its work there: Docker and the shim answer,
    kubelet too, on a controller its API server is ready, the memory cgroup is there, ``/var/log``
    can be written, and on the proxy the API's address answers.

    **Example:** ``host.get_fact(Standing)``
    """

    @override
    def command(self) -> StringCommand:
        return StringCommand(
            f"if [ -e {KUBELET_CONF} ]; then echo joined; test ! -e {NOTE} || echo cordoned;",
            *(
                StringCommand(f"if [ -e {path} ]; then", ask([check]), "; fi;")
                for path, check in _OPTIONAL.items()
            ),
            ask(_ALWAYS),
            "; else echo alone; fi",
        )

    @override
    def parse(self, lines: list[str]) -> StandingState:
        return parse_standing(lines)


def parse_standing(lines: list[str]) -> StandingState:
    """Read what `Standing` prints."""
    first, *rest = lines
    if not {"joined": True, "alone": False}[first]:
        return StandingState()
    return StandingState(
        joined=True,
        cordoned="cordoned" in rest,
        problems=pairs(line for line in rest if line != "cordoned"),
    )
