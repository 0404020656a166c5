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
    from pyinfra.api.state import State

PAUSE = 0.5
"""Seconds between two attempts to reach a node that is rebooting."""

GOING_DOWN = 3.0
"""Seconds to wait after the reboot was started. A connection made sooner would soon be cut."""

SETTLE = 60.0
"""Seconds that an answering node may take to finish its start. After that the deploy goes on."""

# This command runs without sudo: the helper in /tmp that gives sudo its password is gone after a
# reboot. The last word tells whether Ubuntu 25.10 or later still tries a new kernel: then it boots
# a second time. The line begins with a mark, because a login shell may print other lines.
_MARK = "chaos-engine"
_LOOK = (
    f"boot=$(cat /proc/sys/kernel/random/boot_id) && echo {_MARK} $boot "
    "$(systemctl is-system-running 2>/dev/null) $(cat /boot/firmware/new/state 2>/dev/null)"
)


def reboot_and_wait(
    state: State, host: Host, found: Cmdline, rebooted: Mapping[str, str], seconds: int
) -> str:
    """Reboot the node and wait until another boot of it has finished its start.

    + found: the state of the node when it was read. A node that has been booted again since then is
      not rebooted
    + rebooted: the causes of reboots, each with the ID of the boot before it. They are noted on
      the node before it is rebooted
    + seconds: how long it may take until the node is back

    Returns what went wrong, "" if nothing did. Must be called while an operation runs on the host.
    """
    problem = run_script(host, reboot_script(found.boot_id, rebooted))
    if problem is not None:
        return f"could not be rebooted: {problem}"
    with waiting(host, "waiting until it is back", seconds):
        return _wait(host, found, seconds)


def remove_note(state: State, host: Host) -> str:
    """Remove the node's note of why it was rebooted, after a reboot that has removed the causes.

    With the note, a later run would not reboot the node for the same cause again. Returns
    what went wrong, "" if nothing did. Must be called while an operation runs on the host.
    """
    problem = run_script(host, f"{PRELUDE}rm -f -- {RECORD}; sync {posixpath.dirname(RECORD)}")
    return "" if problem is None else f"{RECORD} could not be removed: {problem}"


def reboot_script(boot_id: str, rebooted: Mapping[str, str]) -> str:
    """Return the shell script that notes why the node reboots, and reboots it a second later.

    + boot_id: id of the boot that shall end
    + rebooted: as `reboot_and_wait` takes it
    """
    lines = quote(*(f"{cause} {boot}" for cause, boot in rebooted.items()))
    folder = posixpath.dirname(RECORD)
    return f"""\
{PRELUDE}if [ "$(cat /proc/sys/kernel/random/boot_id)" != {quote(boot_id)} ]; then
  echo 'it was rebooted by someone else meanwhile; run again' >&2; exit 1
fi
jot {RECORD}.chaos-new {lines}
mv -f {RECORD}.chaos-new {RECORD}; sync {folder}
# by a timer of systemd: the reboot outlives this connection, and this command can return first
systemd-run --quiet --collect --on-active=1 --timer-property=AccuracySec=100ms systemctl reboot
"""


def _wait(host: Host, found: Cmdline, seconds: int) -> str:
    """Wait until the node runs another boot and has finished its start.

    Returns what went wrong, "" if nothing did.
    """
    # The reboot removes the helper in /tmp that gives sudo its password: pyinfra has to make a new
    # one
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
        return f"has not gone down within {seconds} s; look at: systemctl list-jobs"
    return "" if boot_id else f"did not come back within {seconds} s; {_rescue(found)}"


def _look(host: Host) -> tuple[str, bool] | None:
    """Return the id of the node's boot, and whether its start has finished.

    Returns ``None`` if the node does not answer.
    """
    try:
        with gevent.Timeout(20, TimeoutError):  # paramiko waits an hour for a lost peer
            if not host.connected:
                # host.connect would print each success, also those before the node goes down
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
    """Close the connection. pyinfra only forgets it, and paramiko then prints an error."""
    host.connector.disconnect()
    host.connected = False
    client = getattr(host.connector, "client", None)
    if client is not None:
        client.close()


def _rescue(found: Cmdline) -> str:
    """Say how to repair a node that does not boot, with its card in another computer."""
    advice = "look at its power and its screen"
    if found.file is None:
        return f"{advice}; its old kernel command line can be chosen or edited in GRUB's menu"
    folder, name = posixpath.split(found.file.path)
    return (
        f"{advice}. If it does not boot: switch it off, put its card into another computer, and "
        f"in what is {folder} on the node copy {name}{BACKUP_SUFFIX} over {name}; then start it "
        "and run again"
    )
