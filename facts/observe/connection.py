"""Limit how long a connection may be silent, and explain what keeps commands from running as root.

pyinfra waits for a command without a limit, and paramiko does not notice that a node has become
silent. So a run would wait for as long as the kernel does: a quarter of an hour if the kernel has
sent something to the node (tcp(7), tcp_retries2), for ever otherwise.

The user's login shell starts each command. It may print something first, read the command's input,
or exit. sudo, doas and su have messages of their own when they refuse a command. pyinfra runs them
without a terminal. In that case, Debian's packages were seen to do this:

- sudo 1.9.16p2 and 1.9.17p2: ``sudo -n`` prints "sudo: a password is required", in the node's
  language. It prints this also to a user who may not use sudo at all. If the message is English,
  pyinfra 3.10 asks for the password. It gives the password to sudo by a helper program (``-A``).
- sudo-rs 0.2.5 prints "sudo-rs: interactive authentication is required". pyinfra asks for the
  password, but sudo-rs has ``-A`` only since 0.2.11 (its CHANGELOG): 0.2.5 says "invalid
  option provided".
- sudo-rs 0.2.15 prints the same message with "sudo:" before it, which pyinfra does not know. So
  pyinfra does not ask. ``-A`` works.
- sudo-rs takes ``-H``, ``-k``, ``-n``, ``-S`` and ``-u`` as sudo does. It ignores ``-E`` and
  ``Defaults requiretty`` with a warning.
- ``sudo -i`` of all these versions removes the line breaks of a command, and root's shell expands
  its variables. No script survives that.
- opendoas 6.8.2: ``doas -n`` prints "doas: Authentication required" and takes no password.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from getpass import getpass
from typing import Any

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.host import Host
from pyinfra.connectors.util import ASKPASS_COMMAND, SUDO_ASKPASS_ENV_VAR, CommandOutput

SILENT_SECONDS = 90
"""How long a node may acknowledge no packet before its connection counts as lost. A switch restarts
faster than that, and a node that is only busy still acknowledges."""

_LOST = (
    "the connection to the node was lost; its last change may be incomplete. Run again when the "
    "node answers"
)
_NO_PASSWORD = (
    "sudo asks for a password, and there is no terminal to ask you at; run at a terminal, or allow "
    "sudo without a password on the node (NOPASSWD in /etc/sudoers.d)"
)
_LOGIN_SHELL = (
    "the login shell has not run what it was given; its start files, such as ~/.bashrc, must do "
    "nothing without a terminal. Begin them with: case $- in *i*) ;; *) return ;; esac"
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
        "doas has to let this user be root without a password; add a line to /etc/doas.conf: "
        "permit nopass USER",
    ),
    (
        r"^(Password: ?)?su: ",
        "su has to make this user root without a password; use sudo instead of su: _sudo = True "
        "without _su_user",
    ),
    (
        r"\b(sudo|doas|su): (command )?not found$|nknown command:? '?(sudo|doas|su)\b",
        "install it on the node, or take its setting out: _sudo, _doas, _su_user",
    ),
)


def limit_silence(host: Host) -> None:
    """Make the connection end when the node has been silent for `SILENT_SECONDS`.

    Only a TCP socket of this process has the limit: other connectors do not, nor does ssh through a
    ProxyCommand or ProxyJump.
    """
    sock = getattr(_transport(host), "sock", None)
    if not isinstance(sock, socket.socket):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Each system has only some of these options. macOS calls the first one TCP_KEEPALIVE
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
    """Limit the connection's silence, and create the helper that gives sudo its password.

    + arguments: pyinfra's global arguments of the next command

    Returns whether the helper was created now. pyinfra would create it too, but would take the
    first line of output as the helper's path, and that line may be a login shell's greeting.
    """
    limit_silence(host)
    if not (arguments.get("_sudo") and _has_password(host, arguments)):
        return False
    folder = arguments.get("_temp_dir") or host.get_temp_dir_config()  # type: ignore[no-untyped-call]
    key = f"sudo_askpass_path__{folder}"  # pyinfra/connectors/util.py
    if _HELPER.fullmatch(host.connector_data.get(key) or ""):
        return False
    command = StringCommand("echo;", ASKPASS_COMMAND.format(folder, SUDO_ASKPASS_ENV_VAR))
    output = host.run_shell_command(command)[1]
    paths = [line for line in output.stdout_lines if _HELPER.fullmatch(line)]
    if paths:  # otherwise pyinfra tries to create it, and prints why that fails
        host.connector_data[key] = paths[-1]
    return bool(paths)


def unsupported_arguments(arguments: Mapping[str, Any]) -> str:
    """Return why this package cannot work with one of these global arguments, and what to do.

    "" if it can work with all of them.
    """
    if arguments.get("_use_sudo_login"):
        return (
            "_use_sudo_login is set: sudo -i takes the line breaks out of scripts and expands "
            "their variables; take it out: with _sudo alone, HOME is root's already"
        )
    if arguments.get("_su_user") and arguments.get("_su_password"):
        return (
            "_su_password is set: pyinfra gives it to su by standard input, but this package sends "
            "scripts and files there; use sudo instead of su: _sudo = True without _su_user"
        )
    if arguments.get("_get_pty"):
        return (
            "_get_pty is set: a terminal changes what is sent through it; take it out. Where sudo "
            "wants a terminal, add a line in visudo: Defaults:USER !requiretty"
        )
    return ""


def clear_obstacle(host: Host, arguments: Mapping[str, Any], output: CommandOutput) -> bool:
    """Remove what kept a command from running, and tell whether to run the command again.

    + arguments: pyinfra's global arguments of the command, which must be one that changes nothing
    + output: the output of the command

    Creates the helper for sudo's password. Asks the user for the password if sudo wants it and it
    is not known: pyinfra itself asks only if it recognizes sudo's message. Raises ``EOFError`` if
    there is no terminal to ask at.
    """
    if prepare(host, arguments):
        return True
    if not arguments.get("_sudo") or _has_password(host, arguments):
        return False
    if not _refusal(output.stderr_lines):  # the message may be in another language
        who = arguments.get("_sudo_user") or "root"
        # The command must not fail: pyinfra would ask for the password, and then this function too
        command = StringCommand("LC_ALL=C sudo -H -n -u", QuoteString(who), "true || :")
        output.combined_lines += host.run_shell_command(command)[1].combined_lines
    if not any(_ASKS.search(line) for line in output.stderr_lines):
        return False
    host.connector_data["prompted_sudo_password"] = getpass(f"{host.print_prefix}sudo password: ")
    return True


def problem_of(
    host: Host, error: Exception | None = None, output: CommandOutput | None = None
) -> str:
    """Return why the connection, sudo, doas or su has stopped a command, and what to do.

    "" if none of them has stopped it, even if the command itself failed.

    + error: the exception that the command raised
    + output: the output of the command
    """
    transport = _transport(host)
    if transport is not None and not transport.is_active():
        return _LOST
    if isinstance(error, EOFError):  # no terminal to read the password from
        return _NO_PASSWORD
    if error is not None:
        return f"{error or type(error).__name__}; fix that and run again"
    return _refusal(output.stderr_lines) if output is not None else ""


def silence_problem(output: CommandOutput) -> str:
    """Return why a command did not print the answer that it always prints, and what to do."""
    if refusal := _refusal(output.stderr_lines):
        return refusal
    message = " / ".join(_messages(output.stderr_lines)[-3:] or _messages(output.stdout_lines)[-3:])
    if not message:
        return _LOGIN_SHELL
    return f"it said only: {message[:300]}. If that is not a refusal by sudo, {_LOGIN_SHELL}"


def _refusal(lines: Iterable[str]) -> str:
    """Return how sudo, doas or su refused a command, and what to do; "" if none did."""
    messages = _messages(lines)
    for pattern, advice in _REFUSALS:
        for line in messages:
            if re.search(pattern, line):
                return f"{line[:200]}: {advice}"
    return ""


def _messages(lines: Iterable[str]) -> list[str]:
    """Return the lines that are not empty, without sudo's warning about the node's own name.

    sudo warns if that name has no address, but it runs the command.
    """
    return [line.strip() for line in lines if line.strip() and "unable to resolve host" not in line]


def _has_password(host: Host, arguments: Mapping[str, Any]) -> bool:
    """Tell whether sudo's password is known."""
    known = arguments.get("_sudo_password") or host.connector_data.get("prompted_sudo_password")
    return bool(known)


def _transport(host: Host) -> Any:
    """Return paramiko's transport of the host's connection, ``None`` for other connections."""
    client = getattr(host.connector, "client", None)
    return client.get_transport() if client is not None else None
