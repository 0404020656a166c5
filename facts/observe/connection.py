"""Limit how long a connection may be silent, and explain why a command cannot run as root.

pyinfra waits for a command without a limit, and paramiko does not notice that a node has become
silent. If this computer has sent something that the node does not acknowledge, its kernel gives up
after a quarter of an hour (tcp(7), tcp_retries2). If it has sent nothing, the run waits for ever.

The user's login shell starts each command. The shell may print something first, read the command's
input, or exit. sudo, doas and su print different messages when they refuse a command. pyinfra runs
these programs without a terminal. Debian's packages were seen to print this:

- sudo 1.9.16p2 and 1.9.17p2: ``sudo -n`` prints "sudo: a password is required", in the node's
  language. It also prints this if the user may not use sudo at all. If the message is English,
  pyinfra 3.10 asks for the password. It gives the password to sudo by a helper program (``-A``).
- sudo-rs 0.2.5 prints "sudo-rs: interactive authentication is required". pyinfra asks for the
  password and uses ``-A``. sudo-rs 0.2.5 answers "invalid option provided", because only 0.2.11
  and later have ``-A`` (CHANGELOG of sudo-rs).
- sudo-rs 0.2.15 prints "sudo: interactive authentication is required". pyinfra does not know this
  message, so pyinfra does not ask for the password. ``-A`` works.
- sudo-rs accepts ``-H``, ``-k``, ``-n``, ``-S`` and ``-u`` as sudo does. It ignores ``-E`` and
  ``Defaults requiretty``, and prints a warning.
- ``sudo -i`` of all these versions removes the line breaks of a command, and root's shell expands
  the variables in the command. So no script arrives unchanged.
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
"""The time in seconds after which a connection counts as lost, if the node acknowledges no packet.
A network switch restarts in less time. A node that is only busy still acknowledges packets."""

_LOST = (
    "the connection to the node was lost, and a change there may be incomplete; run again when the "
    "node is reachable"
)
_NO_PASSWORD = (
    "sudo asks for a password, and pyinfra has no terminal to ask you for it; run pyinfra at a "
    "terminal, or allow sudo without a password on the node (NOPASSWD in /etc/sudoers.d)"
)
_LOGIN_SHELL = (
    "the login shell did not run the command; its start files, such as ~/.bashrc, must do nothing "
    "without a terminal. Begin them with: case $- in *i*) ;; *) return ;; esac"
)
_ASKS = re.compile(r"^sudo(-rs)?: (a password|interactive authentication) is required")
_HELPER = re.compile(r"/\S*/pyinfra-sudo-askpass-\w+")

_REFUSALS = (
    (
        r"^invalid option provided$",
        "the node's sudo is sudo-rs before 0.2.11, which lacks the option -A for a password; allow "
        "sudo without a password for this user (NOPASSWD in /etc/sudoers.d), or use the original "
        "sudo. On Ubuntu: update-alternatives --set sudo /usr/bin/sudo.ws",
    ),
    (
        r"^sudo: (unable to run .*pyinfra-sudo-askpass|Failed to run askpass program)",
        "the node cannot run pyinfra's helper program, which gives sudo the password; set TEMP_DIR "
        "in config.py to a folder on the node from which programs may run (not mounted noexec)",
    ),
    (
        r"^sudo: .*you must have a tty",
        "sudo requires a terminal, and a deploy has none; add this line with visudo: "
        "Defaults:USER !requiretty",
    ),
    (
        r"^sudo: .*incorrect (password|authentication) attempt",
        "the password for sudo is wrong; run again with the right password",
    ),
    (
        r"is not in the sudoers file|^Sorry, user .* (is not|may not)|afraid I can't do that",
        "sudo must allow this user all commands; add this line with visudo: USER ALL=(ALL) ALL",
    ),
    (
        r"^sudo: .*not allowed to preserve the environment",
        "remove the setting _preserve_sudo_env; this package does not need it",
    ),
    (
        _ASKS.pattern,
        "sudo asks for a password; run pyinfra at a terminal, or with --same-sudo-password, or "
        "allow sudo without a password on the node (NOPASSWD in /etc/sudoers.d)",
    ),
    (
        r"^doas: ",
        "doas must let this user become root without a password; add this line to /etc/doas.conf: "
        "permit nopass USER",
    ),
    (
        r"^(Password: ?)?su: ",
        "su refuses this user, or asks for a password; use sudo instead: set _sudo = True and "
        "remove _su_user",
    ),
    (
        r"\b(sudo|doas|su): (command )?not found$|nknown command:? '?(sudo|doas|su)\b",
        "install the missing program on the node, or remove the program's setting (_sudo, _doas or "
        "_su_user)",
    ),
)


def limit_silence(host: Host) -> None:
    """Make the connection end when the node has been silent for `SILENT_SECONDS`.

    The limit applies only if this process itself has opened the TCP socket to the node. A
    connection through ssh's ProxyCommand or ProxyJump has no limit. A connection without paramiko
    has no limit either.
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
    """Limit how long the connection may be silent, and create the helper program for sudo.

    + arguments: pyinfra's global arguments of the next command

    The helper program gives sudo the password. pyinfra can create the program too. But pyinfra
    uses the first line of the output as the program's path. The first line may instead be a
    greeting that the login shell prints. Returns whether this call has created the program.
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
    if paths:  # otherwise pyinfra tries to create the helper, and prints why that fails
        host.connector_data[key] = paths[-1]
    return bool(paths)


def unsupported_arguments(arguments: Mapping[str, Any]) -> str:
    """Return why this package cannot work with a global argument, and what to do.

    + arguments: pyinfra's global arguments

    Returns "" if this package can work with all global arguments that are set.
    """
    if arguments.get("_use_sudo_login"):
        return (
            "_use_sudo_login is set, but sudo -i removes line breaks from scripts and expands "
            "their variables; remove _use_sudo_login. With _sudo alone, HOME is root's home too"
        )
    if arguments.get("_su_user") and arguments.get("_su_password"):
        return (
            "_su_password is set, but this package needs standard input for scripts, and pyinfra "
            "would send the password there; use sudo instead: set _sudo = True and remove _su_user"
        )
    if arguments.get("_get_pty"):
        return (
            "_get_pty is set, but a terminal changes the data that pyinfra sends; remove _get_pty. "
            "If sudo requires a terminal, add this line with visudo: Defaults:USER !requiretty"
        )
    return ""


def clear_obstacle(host: Host, arguments: Mapping[str, Any], output: CommandOutput) -> bool:
    """Give sudo the password that a command lacked. Return whether to run the command again.

    The command must not change the node.

    + arguments: pyinfra's global arguments of the command
    + output: the output of the command

    If the password is known, this function creates the helper program that gives it to sudo.
    Otherwise the function asks the user for the password. pyinfra itself asks only if it recognizes
    sudo's message. Raises ``EOFError`` if there is no terminal.
    """
    if prepare(host, arguments):
        return True
    if not arguments.get("_sudo") or _has_password(host, arguments):
        return False
    if not _refusal(output.stderr_lines):  # the message may be in another language
        who = arguments.get("_sudo_user") or "root"
        # The command must not fail. Otherwise both pyinfra and this function would ask for the
        # password
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

    Returns "" if none of these has stopped the command, even if the command itself failed.

    + error: the exception that the command raised
    + output: the output of the command
    """
    transport = _transport(host)
    if transport is not None and not transport.is_active():
        return _LOST
    if isinstance(error, EOFError):  # no terminal to read the password from
        return _NO_PASSWORD
    if error is not None:
        return f"{error or type(error).__name__}; fix this error and run again"
    return _refusal(output.stderr_lines) if output is not None else ""


def silence_problem(output: CommandOutput) -> str:
    """Return why the script that reads facts has printed no answer, and what to do.

    + output: the output that the node sent instead
    """
    if refusal := _refusal(output.stderr_lines):
        return refusal
    message = " / ".join(_messages(output.stderr_lines)[-3:] or _messages(output.stdout_lines)[-3:])
    if not message:
        return _LOGIN_SHELL
    return f"the node printed only: {message[:300]}. If sudo did not print this, {_LOGIN_SHELL}"


def _refusal(lines: Iterable[str]) -> str:
    """Return the message with which sudo, doas or su refused a command, and what to do.

    Returns "" if none of these programs refused the command.
    """
    messages = _messages(lines)
    for pattern, advice in _REFUSALS:
        for line in messages:
            if re.search(pattern, line):
                return f"{line[:200]}: {advice}"
    return ""


def _messages(lines: Iterable[str]) -> list[str]:
    """Remove empty lines and sudo's warning "unable to resolve host" from a command's output.

    sudo prints the warning if the node's own name has no address. sudo runs the command anyway.
    """
    return [line.strip() for line in lines if line.strip() and "unable to resolve host" not in line]


def _has_password(host: Host, arguments: Mapping[str, Any]) -> bool:
    """Return whether sudo's password is known."""
    known = arguments.get("_sudo_password") or host.connector_data.get("prompted_sudo_password")
    return bool(known)


def _transport(host: Host) -> Any:
    """Return paramiko's transport, ``None`` if the host's connection does not use paramiko."""
    client = getattr(host.connector, "client", None)
    return client.get_transport() if client is not None else None
