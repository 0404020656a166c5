"""Set the time servers of a node, and keep kubelet back at boot until the clock is right."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, field_validator

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.deploys.values import Number
from chaos_engine.facts.clock import NOT_SYNCHRONISED, ClockSynchronised
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.operations.clock import hold_kubelet, set_time_servers
from chaos_engine.operations.engine.arguments import DomainName


class ClockSettings(Settings):
    """Settings of `clock`."""

    ntp_servers: tuple[DomainName, ...] = Field(
        (),
        description="names or IPv4 addresses of the servers that the node asks for the time; if "
        "empty, the node asks the servers of its distribution",
    )
    clock_wait: Number = Field(
        120,
        ge=0,
        le=600,
        description="seconds, up to 600, for which kubelet is kept back at boot, at most, until a "
        "time server has set the clock; with 0, kubelet does not wait",
    )

    @field_validator("ntp_servers")
    @classmethod
    def _once(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse a server that is listed twice."""
        if len(set(servers)) < len(servers):
            raise ValueError("a server is in the list twice; remove one of the two")
        return servers


def _problems(settings: ClockSettings) -> Iterator[str]:
    """Yield a message if no time server has set the current host's clock.

    Without time servers and with ``chaos_clock_wait = 0``, the time comes from elsewhere.
    """
    if not (settings.ntp_servers or settings.clock_wait):
        return
    try:
        if not observe(ClockSynchronised):
            yield NOT_SYNCHRONISED
    except NodeError as error:
        yield str(error)


@concern(
    "Clock",
    ClockSettings,
    reads=lambda settings: [Read.of(ClockSynchronised)],
    problems=_problems,
)
def clock(settings: ClockSettings) -> None:
    """Set the time servers of the node, and keep kubelet back at boot until the clock is right.

    The time service is the node's own: systemd-timesyncd or chrony. No service is installed. A node
    on which none runs gets a warning.
    """
    set_time_servers(name="Set the time servers", servers=settings.ntp_servers)
    hold_kubelet(
        name="Keep kubelet back until the clock is right",
        seconds=settings.clock_wait,
    )
