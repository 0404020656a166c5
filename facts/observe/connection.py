"""The ssh connection to a node, and what stands between it and root's shell: sudo and the like.

pyinfra waits for a command without a limit, and paramiko does not notice that a node has fallen
silent: a run would stand still for as long as the kernel does, which takes a quarter of an hour to
give up what it has sent (tcp(7), tcp_retries2), and for ever if it has sent nothing.

The user's login shell starts each command. It may print something first, read what is meant for the
command, or end. sudo, doas and su refuse in words of their own. Seen without a terminal, as pyinfra
runs them, in Debian's packages:

- sudo 1.9.16p2 and 1.9.17p2: ``sudo -n`` says "sudo: a password is required", in the node's
  language, also to a user whom it would refuse with a password. pyinfra 3.10 asks for the password
  if that is in English, and gives it by ``-A``, a helper program.
- sudo-rs 0.2.5: "sudo-rs: interactive authentication is required"; pyinfra asks, but ``-A`` is an
  "invalid option provided". sudo-rs has it since 0.2.11 (its CHANGELOG).
- sudo-rs 0.2.15: "sudo: interactive authentication is required", which pyinfra does not know, so it
  does not ask. ``-A`` works.
- sudo-rs takes ``-H``, ``-k``, ``-n``, ``-S`` and ``-u`` as sudo does, and ignores ``-E`` and
  ``Defaults requiretty`` with a warning.
- ``sudo -i`` of all of them gives root's shell the command without its line breaks, and has it
  expand variables: no script survives that.
- opendoas 6.8.2: ``doas -n`` says "doas: Authentication required"; it takes no password then.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from getpass import getpass
from typing import TYPE_CHECKING, Any

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.connectors.util import ASKPASS_COMMAND, SUDO_ASKPASS_ENV_VAR

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.connectors.util import CommandOutput

SILENT_SECONDS = 90
"""A node that has not even acknowledged a packet for so long is lost. A switch that restarts is
back sooner; a node that is only busy acknowledges."""

_LOST = (
    "the connection to the node was lost; what was being done there may be done in part. Run again "
    "when it answers"
)
_NO_PASSWORD = (
    "sudo asks for a password, and there is no terminal to ask you at; run at a terminal, or allow "
    "sudo without a password on the node (NOPASSWD in /etc/sudoers.d)"
)
_LOGIN_SHELL = (
    "the login shell has not run what it was given; have ~/.bashrc, or what else it runs, do "
    "nothing without a terminal, by a first line: case $- in *i*) ;; *) return ;; esac"
)
_ASKS = re.compile(r"^sudo(-rs)?: (a password|interactive authentication) is required")
_HELPER = re.compile(r"/\S*/pyinfra-sudo-askpass-\w+")

_REFUSALS = (
    (
        r"^invalid option provided$",
        "its sudo is a sudo-rs before 0.2.11, which cannot be given a password by -A; allow sudo "
        "without a password for this user (NOPASSWD in /etc/sudoers.d), or install GNU's sudo, on "
        "Ubuntu: update-alternatives --set sudo /usr/bin/sudo.ws",
    ),
    (
        r"^sudo: (unable to run .*pyinfra-sudo-askpass|Failed to run askpass program)",
        "pyinfra's helper that gives sudo the password cannot be run there; set TEMP_DIR in "
        "config.py to a folder of the node whose programs may be run",
    ),
    (
        r"^sudo: .*you must have a tty",
        "its sudo wants a terminal, and a deploy has none; add a line in visudo: "
        "Defaults:USER !requiretty",
    ),
    (
        r"^sudo: .*incorrect (password|authentication) attempt",
        "the password for sudo is wrong; run again with the right one",
    ),
    (
        r"is not in the sudoers file|^Sorry, user .* (is not|may not)|afraid I can't do that",
        "sudo has to allow this user all commands; add a line in visudo: USER ALL=(ALL) ALL",
    ),
    (
        r"^sudo: .*not allowed to preserve the environment",
        "take _preserve_sudo_env out: nothing here needs it",
    ),
    (
        _ASKS.pattern,
        "sudo asks for a password; run at a terminal, or with --same-sudo-password, or allow sudo "
        "without one on the node (NOPASSWD in /etc/sudoers.d)",
    ),
    (
        r"^doas: ",
        "doas has to let this user be root without a password; have a line in /etc/doas.conf: "
        "permit nopass USER",
    ),
    (
        r"^(Password: ?)?su: ",
        "su has to make this user root without a password; use sudo in its place: _sudo = True "
        "without _su_user",
    ),
    (
        r"\b(sudo|doas|su): (command )?not found$|nknown command:? '?(sudo|doas|su)\b",
        "install it on the node, or take its setting out: _sudo, _doas, _su_user",
    ),
)


def bound(host: Host) -> None:
    """Have the connection end when the node has been silent for `SILENT_SECONDS`.

    Nothing is done to connections that are no TCP socket of this process: other connectors, and
    ssh through a ProxyCommand or ProxyJump.
    """
    sock = getattr(_transport(host), "sock", None)
    if not isinstance(sock, socket.socket):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Each system has some of them; macOS calls the first one TCP_KEEPALIVE
    for name, value in (
        ("TCP_KEEPIDLE", SILENT_SECONDS // 3),
        ("TCP_KEEPALIVE", SILENT_SECONDS // 3),
        ("TCP_KEEPINTVL", SILENT_SECONDS // 6),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", SILENT_SECONDS * 1000),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def prepare(host: Host, arguments: Mapping[str, Any]) -> bool:
    """Make the connection ready for a command: `bound`, and with a helper for sudo's password.

    + arguments: pyinfra's of the command

    Returns whether the helper was made now. pyinfra makes it too, but takes the first line that
    comes for its path, which may be the greeting of a login shell.
    """
    bound(host)
    if not (arguments.get("_sudo") and _password(host, arguments)):
        return False
    folder = arguments.get("_temp_dir") or host.get_temp_dir_config()  # type: ignore[no-untyped-call]
    key = f"sudo_askpass_path__{folder}"  # pyinfra/connectors/util.py
    if _HELPER.fullmatch(host.connector_data.get(key) or ""):
        return False
    command = StringCommand("echo;", ASKPASS_COMMAND.format(folder, SUDO_ASKPASS_ENV_VAR))
    output = host.run_shell_command(command)[1]
    paths = [line for line in output.stdout_lines if _HELPER.fullmatch(line)]
    if paths:  # else pyinfra tries itself, and says why it cannot
        host.connector_data[key] = paths[-1]
    return bool(paths)


def unsupported(arguments: Mapping[str, Any]) -> str:
    """Why commands cannot run with these arguments of pyinfra's, and what to do; "" if they can."""
    if arguments.get("_use_sudo_login"):
        return (
            "_use_sudo_login is set: sudo -i takes the line breaks out of scripts and expands "
            "their variables; take it out: with _sudo alone, HOME is root's already"
        )
    if arguments.get("_su_user") and arguments.get("_su_password"):
        return (
            "_su_password is set: it is given to su by standard input, where scripts and files "
            "come too; use sudo in its place: _sudo = True without _su_user"
        )
    if arguments.get("_get_pty"):
        return (
            "_get_pty is set: a terminal changes what is sent through it; take it out. Where sudo "
            "wants a terminal, add a line in visudo: Defaults:USER !requiretty"
        )
    return ""


def repaired(host: Host, arguments: Mapping[str, Any], output: CommandOutput) -> bool:
    """Repair what kept a command that changes nothing from running; whether to run it again.

    + arguments: pyinfra's of the command
    + output: what it has put out

    Asks for the password that sudo wants where pyinfra has not understood that, by which the run
    may fail with ``EOFError`` if there is no terminal.
    """
    if prepare(host, arguments):
        return True
    if not arguments.get("_sudo") or _password(host, arguments):
        return False
    if not _refusal(output.stderr_lines):  # as in another language
        who = arguments.get("_sudo_user") or "root"
        # that never fails: else pyinfra asks already, and here once more
        command = StringCommand("LC_ALL=C sudo -H -n -u", QuoteString(who), "true || :")
        output.combined_lines += host.run_shell_command(command)[1].combined_lines
    if not any(_ASKS.search(line) for line in output.stderr_lines):
        return False
    host.connector_data["prompted_sudo_password"] = getpass(f"{host.print_prefix}sudo password: ")
    return True


def trouble(host: Host, error: Exception | None = None, output: CommandOutput | None = None) -> str:
    """Why a command on the node had no end that can be judged, and what to do; "" if it had one.

    + error: what it raised
    + output: what it has put out
    """
    transport = _transport(host)
    if transport is not None and not transport.is_active():
        return _LOST
    if isinstance(error, EOFError):  # of the terminal that the password is read from
        return _NO_PASSWORD
    if error is not None:
        return f"{error or type(error).__name__}; mend that and run again"
    return _refusal(output.stderr_lines) if output is not None else ""


def silence(output: CommandOutput) -> str:
    """Why a command that always answers has not, and what to do."""
    refusal = _refusal(output.stderr_lines)
    if refusal:
        return refusal
    said = " / ".join(_words(output.stderr_lines)[-3:] or _words(output.stdout_lines)[-3:])
    if not said:
        return _LOGIN_SHELL
    return f"it said only: {said[:300]}. If that is no refusal of sudo's, {_LOGIN_SHELL}"


def _refusal(lines: Iterable[str]) -> str:
    """What sudo or the like has said against a command, and what to do; "" if nothing known."""
    words = _words(lines)
    for pattern, advice in _REFUSALS:
        for line in words:
            if re.search(pattern, line):
                return f"{line[:200]}: {advice}"
    return ""


def _words(lines: Iterable[str]) -> list[str]:
    """The lines that say something. sudo's own on a name without address is none of the matter."""
    return [line.strip() for line in lines if line.strip() and "unable to resolve host" not in line]


def _password(host: Host, arguments: Mapping[str, Any]) -> bool:
    known = arguments.get("_sudo_password") or host.connector_data.get("prompted_sudo_password")
    return bool(known)


def _transport(host: Host) -> Any:
    client = getattr(host.connector, "client", None)
    return client.get_transport() if client is not None else None
