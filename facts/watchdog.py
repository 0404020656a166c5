"""Read the node's hardware watchdog, and systemd's settings for it."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override

from chaos_engine.facts.files import Texts
from chaos_engine.facts.health import Check
from chaos_engine.facts.observe import ComposedFact, NodeFact, Read, Value
from chaos_engine.facts.systemd_files import effective, files_in, folders, settings, texts_of

FOLDERS = folders("systemd/system.conf.d")
KERNEL = "/proc/cmdline"

DROP_IN = "/etc/systemd/system.conf.d/90-chaos-engine.conf"
"""This package's drop-in for systemd itself."""
FLUSH = "chaos-engine-flush.service"
"""The unit that writes all data to the card at a reboot, before the watchdog begins to count."""
LINK_TIMER = "chaos-engine-link-check.timer"
"""The timer that checks whether the node reaches any other machine."""

RUNTIME, REBOOT = "RuntimeWatchdogSec", "RebootWatchdogSec"

# systemd reads this word of the kernel's command line after all files (kernel-command-line(7))
_WORD = "systemd.watchdog_sec"

Setting = tuple[str, str, str]
"""The path of a file, and the name and the value of a setting in this file."""


@dataclass(frozen=True)
class WatchdogState(Value):
    """A node's hardware watchdog, and how the running systemd uses it.

    + device: whether the node has a watchdog device
    + held: whether systemd has opened the device, which starts the watchdog
    + ping: whether the program ping is installed
    + runtime, reboot: RuntimeWatchdogSec and RebootWatchdogSec of the running systemd, such as
      "15s" or "0"
    """

    device: bool
    held: bool
    ping: bool
    runtime: str
    reboot: str


class Watchdog(NodeFact[WatchdogState]):
    """The node's hardware watchdog, and the running systemd's settings for it.

    **Example:** ``host.get_fact(Watchdog).device``
    """

    @override
    def command(self) -> str:
        return f"""\
[ ! -c /dev/watchdog0 ] || echo device
{HELD} && echo held
command -v ping >/dev/null && echo ping
systemctl show --property=RuntimeWatchdogUSec,RebootWatchdogUSec"""

    @override
    def parse(self, lines: list[str]) -> WatchdogState:
        values = dict(line.partition("=")[::2] for line in lines if "=" in line)
        return WatchdogState(
            device="device" in lines,
            held="held" in lines,
            ping="ping" in lines,
            runtime=values["RuntimeWatchdogUSec"],
            reboot=values["RebootWatchdogUSec"],
        )


class WatchdogDropIns(ComposedFact[tuple[Setting, ...]]):
    """The watchdog's settings in systemd's drop-ins and on the kernel's command line.

    The settings are in the order in which systemd applies them.

    **Example:** ``host.get_fact(WatchdogDropIns)``
    """

    @override
    def reads(self) -> tuple[Read, ...]:
        return (Read.of(Texts, patterns=(*files_in(FOLDERS), KERNEL)),)

    @override
    def compose(self, texts: dict[str, bytes | None]) -> tuple[Setting, ...]:
        files = texts_of(texts)
        found = [
            (path, name, value)
            for path, text in effective(files, FOLDERS)
            for section, name, value in settings(text)
            if section == "Manager" and name in (RUNTIME, REBOOT)
        ]
        for word in files.get(KERNEL, "").split():
            key, equals, value = word.partition("=")
            if equals and key.replace("-", "_") == _WORD:
                found.append((KERNEL, RUNTIME, value))
        return tuple(found)


HELD = "find /proc/1/fd -lname '/dev/watchdog*' 2>/dev/null | grep -q ."
"""A shell command that succeeds if systemd has opened a watchdog device."""

WATCHDOG_HELD = Check(
    "watchdog",
    f"! grep -q '^{RUNTIME}=[1-9]' {DROP_IN} || {HELD}",
    "systemd has not opened the hardware watchdog, so nothing resets this node if it hangs; look "
    "at: journalctl -b _PID=1 | grep -i watchdog",
)

LINK_CHECKED = Check(
    "link_check",
    f"test ! -e /etc/systemd/system/{LINK_TIMER} || systemctl is-active --quiet {LINK_TIMER}",
    f"the check of the network link does not run; look at: systemctl status {LINK_TIMER}",
)
