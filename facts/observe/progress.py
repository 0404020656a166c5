"""Show that a long step is alive: a line each few seconds with what is done and for how long.

A first deploy of a node takes minutes in apt and Docker, and waits for locks, other nodes and
reboots. pyinfra prints nothing meanwhile, unless ``-vvv`` has it print all output. A step that
takes longer than `EVERY` seconds prints lines such as::

    [pi1] Run Docker, 38 s: Unpacking docker.io (26.1.5)
    [pi1] Reboot node, 45 s: waiting until it is back, 42 s of 600 s

They are lines of pyinfra's log, so they go where all its others go, without colour where that is no
terminal. Only lines of known form are taken from what a command prints (`heard`): nothing else of
its output is shown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gevent  # type: ignore[import-untyped]
from pyinfra import logger
from pyinfra.api import output as pyinfra_output
from pyinfra.api.output import is_output_active, set_echo

from chaos_engine.facts.text import printable, title_of

if TYPE_CHECKING:
    from pyinfra.api.command import StringCommand
    from pyinfra.api.host import Host
    from pyinfra.connectors.util import CommandOutput

EVERY = 5.0
"""Seconds until a step prints its first line, and between two of its lines."""

EACH_HOST = 2.0
"""Seconds between the lines of all hosts together: with ten hosts each prints one in 20 s."""

LONGEST = 200
"""A line that a node sends is cut after so many characters."""

MARK = "chaos-engine: "
"""How a line of this package's own begins that a script prints to say what it does (`TELL`)."""

TELL = f"""\
tell() {{ # WHAT: say what is done now; ", at most N s" at its end says how long that may take
  printf '%s\\n' "{MARK}$*"
}}"""
"""Shell function for scripts whose standard output is the command's."""

_TICK = 0.5
_STATE = "chaos_engine_progress"

_LIMIT = re.compile(r"(.*), at most ([0-9]{1,6}) s")
_NAME = r"[a-z0-9][a-z0-9+.:-]*"
_VERSION = r"[A-Za-z0-9.+:~-]+"

# What dpkg, apt-get and docker print of their work. apt-get's line has the address that it asks,
# which may hold a password, between "Get:1" and the suite
_DPKG = re.compile(
    rf"(?:Unpacking|Setting up|Removing|Processing triggers for) {_NAME}(?: \({_VERSION}\))?"
)
_FETCH = re.compile(rf"Get:[0-9]+ \S+ \S+ \S+ ({_NAME}) \S+ ({_VERSION}) (\[[0-9.,]+ ?[kMG]?B\])")
_LAYER = re.compile(r"[0-9a-f]{12}: (?:Download|Pull) complete")


def heard(line: str) -> tuple[str, float | None]:
    """What a line that a command printed tells of its progress, and how long that may take in
    seconds; "" for a line of no known form, which may be a secret: a pure function.

    **Example:** ``heard("Unpacking runc (1.1.15) ...") == ("Unpacking runc (1.1.15)", None)``
    """
    line = line[: 2 * LONGEST]
    if line.startswith(MARK):
        text = line.removeprefix(MARK)
        limited = _LIMIT.fullmatch(text)
        if limited:
            return printable(limited[1][:LONGEST]), float(limited[2])
        return printable(text[:LONGEST]), None
    fetched = _FETCH.match(line)
    if fetched:
        return f"fetching {' '.join(fetched.groups())}", None
    for pattern in (_DPKG, _LAYER):
        if found := pattern.match(line):
            return found[0], None
    return "", None


@dataclass
class Doing:
    """Something that is done on a host, and since when.

    + title: the operation's name, "" outside of one
    + began: when the operation began
    + what: what is done now, or a function that says it; since: when that began
    + limit: seconds that it may take; ``None`` if it has no limit
    """

    title: str
    began: float
    what: str | Callable[[], str] = ""
    limit: float | None = None
    clock: Callable[[], float] = time.monotonic
    since: float = field(init=False)
    told: float = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.told = self.clock()

    def now(self, what: str, limit: float | None = None) -> None:
        """Something else is done now; its time begins, unless it is still the same."""
        if (what, limit) != (self.what, self.limit):
            self.what, self.limit, self.since = what, limit, self.clock()

    def hear(self, line: str) -> None:
        """Take what a command printed, if it tells of its progress."""
        what, limit = heard(line)
        if what:
            self.now(what, limit)

    def line(self, hosts: int) -> str:
        """The line to print now; "" if it is too early.

        + hosts: how many hosts are at work on something
        """
        now = self.clock()
        if now - self.told < max(EVERY, EACH_HOST * hosts):
            return ""
        self.told = now
        what = (self.what if isinstance(self.what, str) else self.what()) or "at work"
        if self.limit is not None:
            what = f"{what}, {now - self.since:.0f} s of {self.limit:.0f} s"
        if self.title:
            return f"{self.title}, {now - self.began:.0f} s: {what}"
        what = f"{what[0].upper()}{what[1:]}"
        return what if self.limit is not None else f"{what}, {now - self.since:.0f} s"


@contextmanager
def waiting(
    host: Host, what: str | Callable[[], str], limit: float | None = None, quiet: bool = False
) -> Iterator[Doing]:
    """While it lasts, print what is done on the host, in a line each few seconds.

    + what: what is done or waited for, in words that follow a colon, or a function that says it
    + limit: seconds that it may take
    + quiet: print nothing, for output of the command is shown as it comes

    Within another one it prints nothing: what is shown is the outer one, whose `Doing.now` says
    what is done next.

    **Example:** ``with waiting(host, "waiting until it is back", limit=600): ...``
    """
    known = host.connector_data.setdefault(_STATE, {})
    operation = host.nested_executing_op_hash or host.executing_op_hash
    if known.get("operation") != operation or operation is None:
        known |= {"operation": operation, "began": time.monotonic()}
    title = ""
    if operation:
        arguments = host.current_op_global_arguments
        own = arguments["name"] if arguments else None
        title = title_of(host.state.get_op_meta(operation).names, own)
    doing = Doing(title, known["began"], what, limit)
    if quiet or known.get("at work"):
        yield doing
        return
    known["at work"] = True
    _at_work.append(doing)
    # what prints has no current host of pyinfra's
    voice = gevent.spawn(_speak, doing, host.print_prefix)
    try:
        yield doing
    finally:
        voice.kill(block=False)
        _at_work.remove(doing)
        known["at work"] = False


def run_shell_command(
    host: Host, command: StringCommand, arguments: Mapping[str, Any]
) -> tuple[bool, CommandOutput]:
    """Run a command on the host as pyinfra does for an operation, and show that it is alive.

    + arguments: pyinfra's for the connector

    Where the command's output is shown, with ``-vvv``, that is the sign of life. With ``-vv``,
    where pyinfra prints commands but no output, lines say no more than for how long.
    """
    state = host.state
    with waiting(host, "", quiet=state.print_output) as doing:
        if state.print_output or state.print_input or not is_output_active():
            return host.run_shell_command(
                command, print_output=state.print_output, print_input=state.print_input, **arguments
            )
        with _listening(host.print_prefix, doing):
            return host.run_shell_command(command, print_output=True, **arguments)


def _speak(doing: Doing, prefix: str) -> None:
    while True:
        gevent.sleep(_TICK)
        line = doing.line(len(_at_work))
        if line:
            logger.info(f"{prefix}{line}")


@contextmanager
def _listening(prefix: str, doing: Doing) -> Iterator[None]:
    """While it lasts, take the output that pyinfra would print for the host with this prefix.

    pyinfra gives out a command's lines before its end by its `echo` alone, which can be set.
    """
    _hearers[prefix] = doing
    if not _echo:
        _echo.append(pyinfra_output._echo)
        set_echo(_overhear)
    # After an error, such as pyinfra's _timeout, its readers may be at work: they are not to print
    yield
    del _hearers[prefix]
    if not _hearers:
        set_echo(_echo.pop())


def _overhear(message: Any = None, **options: Any) -> None:
    text = message if isinstance(message, str) else ""
    for prefix, doing in _hearers.items():
        if text.startswith(prefix):
            doing.hear(text[len(prefix) :])
            return
    _echo[0](message, **options)


_at_work: list[Doing] = []
_hearers: dict[str, Doing] = {}
_echo: list[Callable[..., None]] = []
"""What pyinfra prints with, while `_overhear` stands in for it."""
