"""Reset a node that hangs, and restart a node that reaches no other machine."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated

from pydantic import AfterValidator, Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import SettingsError
from chaos_engine.deploys.site import LOG_SERVER, NodesSettings, StorageSettings
from chaos_engine.deploys.values import MachineAddressOrNone, Number
from chaos_engine.facts.observe import LOCK
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
"""Bounds of the hardware's time in seconds. systemd gives a sign of life after half the time. The
driver of the Raspberry Pi (bcm2835_wdt) counts to 15. Before Linux 6.8 it refuses a larger value.
Since then it may count another time than that value (raspberrypi/linux issue 7432)."""


def _hardware_time(seconds: int) -> int:
    """Refuse a time that is too short or too long for the hardware; 0 is accepted."""
    if seconds and not SHORTEST <= seconds <= LONGEST:
        raise ValueError(
            f"it has to be from {SHORTEST} to {LONGEST}, or 0; the hardware of a Raspberry Pi "
            f"counts to {LONGEST}"
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
        description="whether a node that hangs, or that reaches no other machine, restarts by "
        "itself; if False, nothing of this is read or changed",
    )
    watchdog_seconds: HardwareTime = Field(
        15,
        description="seconds without a sign of life from systemd after which the hardware resets "
        "the node, from 5 to 15; with 0, the node's own value is not changed",
    )
    watchdog_reboot_seconds: HardwareTime = Field(
        15,
        description="seconds that the end of a reboot may take, after all services have stopped, "
        "before the hardware resets the node, from 5 to 15; with 0, the node's own value is not "
        "changed",
    )
    watchdog_link_minutes: Number = Field(
        5,
        ge=0,
        le=1440,
        description="minutes until the network link is restarted if neither the gateway nor any "
        "other machine answers; after as many more, the node reboots, but only if the settings "
        "name a machine besides the gateway and this node; 0 turns this off",
    )
    watchdog_reboot_proxy: bool = Field(
        False,
        description="whether the proxy too reboots if no other machine answers; while it reboots, "
        "nobody has the address of the Kubernetes API",
    )


@concern("Watchdog", WatchdogSettings, health=[WATCHDOG_HELD, LINK_CHECKED], undo=UNDO)
def watchdog(settings: WatchdogSettings) -> None:
    """Have the hardware reset a node that hangs, and check that the node reaches other machines.

    Does nothing unless ``chaos_watchdog`` is set. If it is unset later, the node stays as it is; to
    restore it, undo this concern. If neither the gateway nor another machine answers, a timer
    restarts the network link, and then the node, at most three times without an answer in between.
    A node that knows no other machine than the gateway restarts only its link.
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
        wanted=link_files(settings, own_address(settings)),
        on=settings.watchdog_link_minutes > 0,
    )


def own_address(settings: WatchdogSettings) -> IPv4Address | None:
    """Return the current host's address in the settings, ``None`` if they do not have it."""
    try:
        return settings.nodes.get(settings.node_name())
    except SettingsError:
        return None


def link_files(settings: WatchdogSettings, own: IPv4Address | None = None) -> list[File]:
    """Return the script that checks the network link, and the units that call it.

    + own: the node's own address, which the script must not ask. The script skips each address that
      the node has now, but a node without network loses the address that DHCP gave it

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
