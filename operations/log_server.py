"""Ask the log server whether it has received a node's message.

This computer asks, not the node. Only the deploys `verify` and `report` use this module. The module
writes nothing on the log server.
"""

from __future__ import annotations

import secrets
import shlex
import time
from dataclasses import dataclass, field

import gevent  # type: ignore[import-untyped]
from gevent import subprocess
from gevent.lock import BoundedSemaphore  # type: ignore[import-untyped]

from chaos_engine.facts.text import printable

ARRIVES_SECONDS = 60
"""How many seconds a message may take to arrive. rsyslog reconnects within 30 seconds."""

PAUSE_SECONDS = 1.0
"""Seconds between two questions to the log server."""

_ASK_SECONDS = 20
_NEWEST_MIB = 4

RUN = f"chaos-engine-{secrets.token_hex(8)}"
"""The beginning of all tokens of this run. A token is a word that marks one message."""


class LogServerError(Exception):
    """The log server cannot be asked."""


@dataclass
class LogServer:
    """A log server, and the files in which it keeps the nodes' messages.

    + destination: where ssh finds the log server, such as ``admin@192.168.1.42``; "" if the files
      are on this computer
    + files: shell pattern of the files' paths
    + seen: the tokens of this run that were found so far. A token marks one message
    + problem: why the log server cannot be asked, "" if it can. All hosts share this text, so
      only the first host waits for a server that does not respond
    """

    destination: str
    files: str
    seen: set[str] = field(default_factory=set)
    problem: str = ""
    _asked_at: float = field(default=float("-inf"), repr=False)
    _asking: BoundedSemaphore = field(default_factory=BoundedSemaphore, repr=False)

    def has(self, token: str) -> bool:
        """Tell whether a message with this token has arrived.

        All hosts of a run share the answers, so the log server is asked at most once every
        `PAUSE_SECONDS`. Raises `LogServerError` if the log server cannot be asked.
        """
        with self._asking:
            due = time.monotonic() - self._asked_at >= PAUSE_SECONDS
            if token not in self.seen and due and not self.problem:
                try:
                    self.seen |= self._ask()
                except LogServerError as error:
                    self.problem = str(error)
                self._asked_at = time.monotonic()
        if self.problem and token not in self.seen:
            raise LogServerError(self.problem)
        return token in self.seen

    def _ask(self) -> set[str]:
        script = search(self.files)
        command = ["sh", "-c", script]
        if self.destination:
            ssh = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", self.destination]
            command = [*ssh, f"sh -c {shlex.quote(script)}"]
        where = self.destination or "this computer"
        try:
            ran = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_SECONDS
            )
        except FileNotFoundError as error:
            raise LogServerError(f"the program {error.filename} is missing here") from None
        except subprocess.TimeoutExpired:
            raise LogServerError(f"{where} gave no answer within {_ASK_SECONDS} s") from None
        if ran.returncode:
            why = printable(ran.stderr.decode(errors="replace").strip().rpartition("\n")[2])
            raise LogServerError(f"{where}: {why or f'exit status {ran.returncode}'}")
        return {*ran.stdout.decode(errors="replace").split()}


def search(files: str) -> str:
    """Return a shell script that finds tokens of this run at the end of files, and prints them.

    + files: shell pattern of the files' paths. The pattern may have wildcards such as ``*``, but no
      other characters that are special to a shell

    The script fails if no file matches, or if one of the files cannot be read.
    """
    return f"""\
set -- {files}
for file; do
  [ -r "$file" ] || {{ echo "there is no file $file that this user can read" >&2; exit 1; }}
done
find "$@" -mmin -60 -exec tail -q -c {_NEWEST_MIB << 20} {{}} + |
  grep -oE '{RUN}-[0-9a-f]+' | sort -u"""


def not_arrived(server: LogServer, token: str) -> str:
    """Wait up to `ARRIVES_SECONDS` for a message.

    + token: the word that marks the message

    Returns the problem if the message does not arrive, "" if the message arrives.
    """
    deadline = time.monotonic() + ARRIVES_SECONDS
    try:
        while not server.has(token):
            if time.monotonic() >= deadline:
                return (
                    f"a message of this node has not arrived at the log server within "
                    f"{ARRIVES_SECONDS} s (looked for {token} in {server.files}); on the log "
                    "server, check the firewall and the open port: ss -lun 'sport = 514'"
                )
            gevent.sleep(PAUSE_SECONDS)
    except LogServerError as error:
        return f"the log server cannot be asked whether messages arrive: {error}; {_fix(server)}"
    return ""


def _fix(server: LogServer) -> str:
    """Return what to do if the log server cannot be asked."""
    if server.destination:
        return (
            "make this work on this computer, without a question: "
            f"ssh {server.destination} ls {server.files}"
        )
    return f"make this work on this computer: ls {server.files}"
