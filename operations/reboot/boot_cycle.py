"""Reboot one node, wait until it is back, and say how to repair it if it does not come back."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import gevent  # type: ignore[import-untyped]
from paramiko import SSHException
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.util import clear_askpass_cache

from chaos_engine.facts.kernel import BACKUP_SUFFIX, RECORD, Cmdline
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.operations.engine.remote import run_script
from chaos_engine.operations.engine.shell import PRELUDE, quote

if TYPE_CHECKING:
    from pyinfra.api.host import Host

PAUSE = 0.5
"""Seconds between two attempts to reach a node that is rebooting."""

GOING_DOWN = 3.0
"""Seconds from the start of a reboot to the first attempt to connect. During this time, a node is
still shutting down."""

SETTLE = 60.0
"""Seconds that a node may take from its first answer until it has finished booting. After this time
the deploy goes on anyway."""

# This command runs without sudo, because pyinfra's askpass helper in /tmp is gone after a reboot.
# /boot/firmware/new/state tells whether Ubuntu 25.10 or later is still trying out a new kernel. If
# it is, the node boots a second time. The printed line begins with _MARK, because a login shell may
# print other lines.
_MARK = "chaos-engine"
_LOOK = (
    f"boot=$(cat /proc/sys/kernel/random/boot_id) && echo {_MARK} $boot "
    "$(systemctl is-system-running 2>/dev/null) $(cat /boot/firmware/new/state 2>/dev/null)"
)


def reboot_and_wait(host: Host, found: Cmdline, rebooted: Mapping[str, str], seconds: int) -> str:
    """Reboot the node and wait until it has finished booting.

    + found: the node's boot ID and kernel command line, as read before. If the node's boot ID has
      changed since, the node is not rebooted
    + rebooted: the reboots to list in the node's file `RECORD`, including this reboot. A key is the
      cause of a reboot, and the value is the ID of the boot before the reboot
    + seconds: how long the node may take to come back

    Returns the problem, "" if there is none. Call this only while an operation runs on the host.
    """
    problem = run_script(host, reboot_script(found.boot_id, rebooted))
    if problem is not None:
        return f"could not be rebooted: {problem}"
    with waiting(host, "waiting until it is back", seconds):
        return _wait(host, found, seconds)


def remove_note(host: Host) -> str:
    """Remove the node's file `RECORD`, which lists the causes of its reboots.

    While a cause is in this file, later runs do not reboot the node for this cause again. So call
    this function when the causes are gone. Call it only while an operation runs on the host.
    Returns the problem, "" if there is none.
    """
    problem = run_script(host, f"{PRELUDE}rm -f -- {RECORD}; sync {posixpath.dirname(RECORD)}")
    return "" if problem is None else f"{RECORD} could not be removed: {problem}"


def reboot_script(boot_id: str, rebooted: Mapping[str, str]) -> str:
    """Return the shell script that lists reboots in `RECORD`, and reboots the node after 1 s.

    + boot_id: ID of the node's boot, as read before. If the node has rebooted since, the script
      fails
    + rebooted: the reboots to list, as `reboot_and_wait` takes them
    """
    lines = quote(*(f"{cause} {boot}" for cause, boot in rebooted.items()))
    folder = posixpath.dirname(RECORD)
    return f"""\
{PRELUDE}if [ "$(cat /proc/sys/kernel/random/boot_id)" != {quote(boot_id)} ]; then
  echo 'somebody else has rebooted the node meanwhile; run again' >&2; exit 1
fi
jot {RECORD}.chaos-new {lines}
mv -f {RECORD}.chaos-new {RECORD}; sync {folder}
# With a timer, this command returns before the reboot, and the reboot does not need the connection
systemd-run --quiet --collect --on-active=1 --timer-property=AccuracySec=100ms systemctl reboot
"""


def _wait(host: Host, found: Cmdline, seconds: int) -> str:
    """Wait until the node has rebooted and finished booting.

    Returns the problem, "" if there is none.
    """
    # The reboot removes pyinfra's askpass helper in /tmp, so pyinfra has to make a new one
    clear_askpass_cache(host)
    _hang_up(host)
    began = time.monotonic()
    gevent.sleep(GOING_DOWN)
    answered, boot_id = None, ""
    while time.monotonic() - began < seconds:
        gevent.sleep(PAUSE)
        boot_id, finished = _look(host) or ("", False)
        if boot_id in ("", found.boot_id):
            _hang_up(host)
            answered = None
            continue
        answered = answered or time.monotonic()
        if finished or time.monotonic() - answered > SETTLE:
            host.log(f"Back after {time.monotonic() - began:.0f} s")
            return ""
    if boot_id == found.boot_id:
        return f"the node did not shut down within {seconds} s; look at: systemctl list-jobs"
    return "" if boot_id else f"the node did not come back within {seconds} s; {_rescue(found)}"


def _look(host: Host) -> tuple[str, bool] | None:
    """Return the ID of the node's boot, and whether the node has finished booting.

    Returns ``None`` if the node does not answer.
    """
    try:
        with gevent.Timeout(20, TimeoutError):  # paramiko waits an hour for a peer that is gone
            if not host.connected:
                # host.connect would print each success, even while the node still shuts down
                host.connector.connect()
                host.connected = True
            done, output = host.run_shell_command(StringCommand(_LOOK))
    except (ConnectError, OSError, SSHException, EOFError):
        return None
    found = [line.split() for line in output.stdout_lines if line.startswith(f"{_MARK} ")]
    if not done or not found:
        return None
    _, boot, *words = found[-1]
    boots_again = "unknown" in words[1:] or "trying" in words[1:]
    return boot, not boots_again and words[:1] in (["running"], ["degraded"], ["maintenance"])


def _hang_up(host: Host) -> None:
    """Close the connection to the host, and paramiko's client.

    pyinfra does not close the client, so paramiko would print an error after the reboot.
    """
    host.connector.disconnect()
    host.connected = False
    client = getattr(host.connector, "client", None)
    if client is not None:
        client.close()


def _rescue(found: Cmdline) -> str:
    """Return advice on how to repair a node that does not come back from a reboot."""
    advice = "look at the node's power supply and screen"
    if found.file is None:
        return f"{advice}. If the node does not boot, edit its kernel command line in GRUB's menu"
    folder, name = posixpath.split(found.file.path)
    return (
        f"{advice}. If the node does not boot, switch it off and put its card into another "
        f"computer. In the node's folder {folder}, copy {name}{BACKUP_SUFFIX} over {name}. Then "
        "start the node and run again"
    )
