"""Reset a node that hangs, and restart a node that reaches no other machine."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Annotated

from pydantic import AfterValidator, Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.proxy_group import other_proxies
from chaos_engine.deploys.site import LOG_SERVER, NodesSettings, StorageSettings, node_address
from chaos_engine.deploys.values import MachineAddressOrNone, Number
from chaos_engine.facts.observe import LOCK, current
from chaos_engine.facts.unit_traces import UNITS
from chaos_engine.facts.watchdog import LINK_CHECKED, LINK_TIMER, WATCHDOG_HELD
from chaos_engine.operations.files import File
from chaos_engine.operations.watchdog import (
    CHECK,
    RUN,
    STATE,
    UNDO,
    check_link,
    configure_watchdog,
)
from chaos_engine.templates import render

SHORTEST, LONGEST = 5, 15
"""The shortest and the longest timeout of the hardware watchdog, in seconds. systemd gives a sign
of life after half of the timeout. The driver of the Raspberry Pi (bcm2835_wdt) counts to 15. Before
Linux 6.8 the driver refuses a larger value. Since Linux 6.8 it accepts a larger value, but may
count a different time (raspberrypi/linux issue 7432)."""


def _hardware_time(seconds: int) -> int:
    """Refuse a timeout that is too short or too long for the hardware watchdog. Accept 0."""
    if seconds and not SHORTEST <= seconds <= LONGEST:
        raise ValueError(
            f"it has to be from {SHORTEST} to {LONGEST}, or 0; the watchdog of a Raspberry Pi "
            f"waits at most {LONGEST} seconds"
        )
    return seconds


HardwareTime = Annotated[Number, AfterValidator(_hardware_time)]


class WatchdogSettings(NodesSettings, StorageSettings):
    """Settings of `watchdog`."""

    log_server: MachineAddressOrNone = Field(  # type: ignore[assignment]
        "none", description=LOG_SERVER
    )
    watchdog: bool = Field(
        False,
        description="whether a node restarts by itself if it hangs, or if it reaches no other "
        "machine; if False, the concern watchdog reads and changes nothing",
    )
    watchdog_seconds: HardwareTime = Field(
        15,
        description="seconds, from 5 to 15, until the hardware resets the node if systemd gives no "
        "sign of life; with 0, the node's own value is not changed",
    )
    watchdog_reboot_seconds: HardwareTime = Field(
        15,
        description="seconds, from 5 to 15, until the hardware resets the node if a reboot hangs "
        "after all services have stopped; with 0, the node's own value is not changed",
    )
    watchdog_link_minutes: Number = Field(
        5,
        ge=0,
        le=1440,
        description="minutes without an answer from the gateway or any other machine, after "
        "which the node restarts the network link. After twice this time without an answer, the "
        "node reboots. The node does not reboot if the settings name no machine besides the "
        "gateway and this node. With 0, the node neither restarts the link nor reboots",
    )
    watchdog_reboot_proxy: bool = Field(
        False,
        description="whether a proxy, like other nodes, reboots if no other machine answers, "
        "although no other proxy is known to work; during the reboot, perhaps no machine has "
        "the address of the Kubernetes API",
    )


@concern("Watchdog", WatchdogSettings, health=[WATCHDOG_HELD, LINK_CHECKED], undo=UNDO)
def watchdog(settings: WatchdogSettings) -> None:
    """Let the hardware watchdog reset a node that hangs, and check the node's network link.

    Does nothing if ``chaos_watchdog`` is False. If it becomes False later, the node stays as it is.
    To restore the node, undo this concern.

    A timer checks every minute that the gateway or another machine answers. If none answers for
    some minutes, the check first restarts the network link, and later reboots the node. After three
    reboots without an answer in between, it does not reboot the node again. If the settings name no
    machine besides the gateway, the check only restarts the link.
    """
    if not settings.watchdog:
        return
    configure_watchdog(
        name="Use the hardware watchdog",
        config=render(
            "watchdog.conf.j2",
            seconds=settings.watchdog_seconds,
            reboot_seconds=settings.watchdog_reboot_seconds,
        ),
        flush=render("flush.service.j2"),
    )
    check_link(
        name="Check the network link",
        wanted=link_files(settings, own_address(settings), other_proxies(settings.nodes)),
        on=settings.watchdog_link_minutes > 0,
    )


def own_address(settings: WatchdogSettings) -> IPv4Address | None:
    """Return the current host's address in the settings, ``None`` if it is not in the settings."""
    host = current()[1]
    return node_address(host.name, host.data.get("ssh_hostname"), settings.nodes)


def link_files(
    settings: WatchdogSettings,
    own: IPv4Address | None = None,
    partners: Iterable[IPv4Address] = (),
) -> list[File]:
    """Return the script that checks the network link, and the systemd units that call the script.

    + own: the node's own address in the settings. The script must not ask this address. The script
      also skips all addresses that the node has when the script runs. But a node without network
      may have lost its address from DHCP, so `own` is needed
    + partners: addresses of the other proxies if the node is a proxy, otherwise empty

    The script asks the gateway, and then the other machines in the settings.
    """
    machines = {*settings.nodes.values(), *settings.storage_servers.values(), settings.log_server}
    others = {machine for machine in machines if machine is not None} - {own}
    script = render(
        "link-check.j2",
        path="/usr/sbin:/usr/bin:/sbin:/bin",
        others=sorted(others),
        minutes=settings.watchdog_link_minutes,
        reboot_proxy=settings.watchdog_reboot_proxy,
        partners=sorted(partners),
        state=STATE,
        run=RUN,
        lock=LOCK,
    )
    service = LINK_TIMER.replace("timer", "service")
    return [
        File(CHECK, script, mode="755"),
        File(f"{UNITS}/{service}", render("link-check.service.j2", program=CHECK)),
        File(f"{UNITS}/{LINK_TIMER}", render("link-check.timer.j2")),
    ]
