"""Print every few seconds what a slow step is doing, and how long it has taken so far.

A first deploy of a node spends minutes in apt and Docker, and waits for locks, other nodes and
reboots. Without ``-vvv`` pyinfra prints nothing in this time. So a step that takes longer than
`INTERVAL_SECONDS` prints lines such as::

    [pi1] Run Docker, 38 s: Unpacking docker.io (26.1.5)
    [pi1] Reboot node, 45 s: waiting until it is back, 42 s of 600 s

pyinfra's logger prints these lines like all other lines of the log. Only lines of known form are
shown from a command's output (`progress_of`), because other lines may contain a secret.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gevent  # type: ignore[import-untyped]
from pyinfra import logger
from pyinfra.api import output as pyinfra_output
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host
from pyinfra.api.output import is_output_active, set_echo
from pyinfra.connectors.util import CommandOutput

from chaos_engine.facts.text import printable, title_of

INTERVAL_SECONDS = 5.0
"""The time in seconds before a step's first line, and between two lines of a step."""

HOST_INTERVAL_SECONDS = 2.0
"""The average time in seconds between two lines if many hosts print lines. With ten hosts, each
host gets a line every 20 s."""

MAX_LINE_LENGTH = 200
"""The maximum length of a line from a node, in characters. Longer lines are cut."""

MARK = "chaos-engine: "
"""The beginning of a line in which a script of this package says what the script does now. The
function ``tell`` in ``templates/shell/prelude.sh`` prints such lines."""

_TICK = 0.5
_STATE = "chaos_engine_progress"

_LIMIT = re.compile(r"(.*), at most ([0-9]{1,6}) s")
_NAME = r"[a-z0-9][a-z0-9+.:-]*"
_VERSION = r"[A-Za-z0-9.+:~-]+"

# The progress that dpkg, apt-get and docker print. apt-get's line has the repository's address
# between "Get:1" and the suite. This address may contain a password
_DPKG = re.compile(
    rf"(?:Unpacking|Setting up|Removing|Processing triggers for) {_NAME}(?: \({_VERSION}\))?"
)
_FETCH = re.compile(rf"Get:[0-9]+ \S+ \S+ \S+ ({_NAME}) \S+ ({_VERSION}) (\[[0-9.,]+ ?[kMG]?B\])")
_LAYER = re.compile(r"[0-9a-f]{12}: (?:Download|Pull) complete")


def progress_of(line: str) -> tuple[str, float | None]:
    """Return what a command does now, according to a line of the command's output.

    The result is a description, and the maximum time in seconds. The time is ``None`` if it is
    unknown. For a line of unknown form the result is ``("", None)``, because such a line may
    contain a secret.

    **Example:** ``progress_of("Unpacking runc (1.1.15) ...") == ("Unpacking runc (1.1.15)", None)``
    """
    line = line[: 2 * MAX_LINE_LENGTH]
    if line.startswith(MARK):
        text = line.removeprefix(MARK)
        if limited := _LIMIT.fullmatch(text):
            return printable(limited[1][:MAX_LINE_LENGTH]), float(limited[2])
        return printable(text[:MAX_LINE_LENGTH]), None
    if fetched := _FETCH.match(line):
        return f"fetching {' '.join(fetched.groups())}", None
    for pattern in (_DPKG, _LAYER):
        if found := pattern.match(line):
            return found[0], None
    return "", None


@dataclass
class Doing:
    """The step that a host is in, and when the step began.

    + title: the operation's name, "" outside of an operation
    + began: the time when the operation began, in seconds of `clock`
    + what: a description of what the host does now, or a function that returns the description
    + limit: the maximum time in seconds for `what`, ``None`` for no limit
    + clock: a function that returns the time in seconds
    + since: the time when `what` began
    + last_line_at: the time when the last line was printed
    """

    title: str
    began: float
    what: str | Callable[[], str] = ""
    limit: float | None = None
    clock: Callable[[], float] = time.monotonic
    since: float = field(init=False)
    last_line_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.last_line_at = self.clock()

    def now(self, what: str, limit: float | None = None) -> None:
        """Set the description of what the host does now, and the maximum time for it.

        + what: the description
        + limit: the maximum time in seconds, ``None`` for no limit

        If the description or the limit has changed, the printed time starts again from zero.
        """
        if (what, limit) != (self.what, self.limit):
            self.what, self.limit, self.since = what, limit, self.clock()

    def follow(self, line: str) -> None:
        """Read a line of a command's output, and set the description of what the host does now.

        A line of unknown form changes nothing.
        """
        what, limit = progress_of(line)
        if what:
            self.now(what, limit)

    def line(self, hosts: int) -> str:
        """Return the line to print now, "" if the last line was printed too recently.

        + hosts: the number of hosts that are in a step
        """
        now = self.clock()
        if now - self.last_line_at < max(INTERVAL_SECONDS, HOST_INTERVAL_SECONDS * hosts):
            return ""
        self.last_line_at = now
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
    """Print every few seconds what is done on the host, until the block ends.

    + what: a description that is shown after a colon, or a function that returns the description
    + limit: the maximum time in seconds, ``None`` for no limit
    + quiet: whether to print nothing, because pyinfra already prints the command's output

    If one such block is within another block for the same host, only the outer block prints lines.

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
    # In the new greenlet pyinfra has no current host, so the greenlet gets the host's prefix
    printer = gevent.spawn(_print_lines, doing, host.print_prefix)
    try:
        yield doing
    finally:
        printer.kill(block=False)
        _at_work.remove(doing)
        known["at work"] = False


def run_shell_command(
    host: Host, command: StringCommand, arguments: Mapping[str, Any]
) -> tuple[bool, CommandOutput]:
    """Run a command on the host as pyinfra does for an operation, and show the command's progress.

    + arguments: pyinfra's global arguments for the connector

    With ``-vvv`` pyinfra prints the command's output, and this function prints no progress. With
    ``-vv`` pyinfra prints the command itself, and this function prints only how long the command
    has run.

    Returns whether the command succeeded, and its output.
    """
    state = host.state
    with waiting(host, "", quiet=state.print_output) as doing:
        if state.print_output or state.print_input or not is_output_active():
            return host.run_shell_command(
                command, print_output=state.print_output, print_input=state.print_input, **arguments
            )
        with _output_followed(host.print_prefix, doing):
            return host.run_shell_command(command, print_output=True, **arguments)


def _print_lines(doing: Doing, prefix: str) -> None:
    while True:
        gevent.sleep(_TICK)
        line = doing.line(len(_at_work))
        if line:
            logger.info(f"{prefix}{line}")


@contextmanager
def _output_followed(prefix: str, doing: Doing) -> Iterator[None]:
    """Pass a host's output to `doing` instead of printing it, until the block ends.

    + prefix: the beginning of pyinfra's lines for the host
    + doing: the host's step, whose description is set from the output

    While a command runs, pyinfra passes the command's lines only to pyinfra's function `echo`. So
    `_follow_or_echo` takes the place of `echo` until the block ends.
    """
    _followers[prefix] = doing
    if not _echo:
        _echo.append(pyinfra_output._echo)
        set_echo(_follow_or_echo)
    # The lines after `yield` are not in a `finally`. After an error, such as pyinfra's _timeout,
    # pyinfra may still read output of the command, and this output must not be printed
    yield
    del _followers[prefix]
    if not _followers:
        set_echo(_echo.pop())


def _follow_or_echo(message: Any = None, **options: Any) -> None:
    """Pass a line of a host's output to the host's step in `_followers`.

    If a host has no step in `_followers`, its line is printed. This function takes the place of
    pyinfra's function `echo`.
    """
    text = message if isinstance(message, str) else ""
    for prefix, doing in _followers.items():
        if text.startswith(prefix):
            doing.follow(text[len(prefix) :])
            return
    _echo[0](message, **options)


_at_work: list[Doing] = []
"""The steps that hosts are in now."""

_followers: dict[str, Doing] = {}
"""The steps that receive the output of their host. A key is the prefix of the host's lines."""

_echo: list[Callable[..., None]] = []
"""pyinfra's own print function, as the only item, while `_follow_or_echo` replaces that function.
Otherwise the list is empty."""
