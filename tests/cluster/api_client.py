"""Measure the Kubernetes API's address as a client: requests, open streams, an outage.

It needs Python 3.9 and nothing else. So it runs on the computer on the LAN and, without being
installed, on nodes (with `python3 -c "$(cat tests/cluster/api_client.py)"` standard input stays
free):

    tests/lab/lab run -- python3 tests/cluster/api_client.py requests 192.168.1.60:6443 --count 5000
    tests/lab/lab exec pi5 -- python3 - wait 192.168.1.60:6443 < tests/cluster/api_client.py

The lab's stand-in for kube-apiserver answers, and says its name. It also says from which address
the connection came: that is `through`, the proxy's address. A client without certificate may ask
for its version and its state. Every line of output is JSON. Times are in seconds, and `at` counts
from `began` (seconds since 1970). The exit status is 0 whenever something was measured, also if
nothing answered.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_POLL = 0.05
_BEAT = 0.5
_SHOWN = 20
_STDIN = 0


class Failure(Exception):
    """An error of a request or stream: the stage in which it failed, and what happened."""


@dataclass(frozen=True)
class Target:
    """A server to connect to."""

    host: str
    port: int
    context: ssl.SSLContext
    timeout: float
    """Seconds that a connection, a handshake and each part of an answer may take."""

    @classmethod
    def parse(cls, text: str, *, ca: str | None = None, timeout: float = 5) -> Target:
        """Return the target `ADDRESS:PORT`; its certificate is checked if a file of CAs is given.

        Raises `ValueError` if TEXT is none.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{text!r} is not ADDRESS:PORT")
        if ca is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context(cafile=ca)
        return cls(host, int(port), context, timeout)


class Connection:
    """A TLS connection on which one request was answered. It may have become a stream."""

    def __init__(self, target: Target, path: str, *, upgrade: bool = False) -> None:
        """Ask TARGET for PATH. Raise `Failure` unless the answer is 200 or, to UPGRADE, 101."""
        self._timeout = target.timeout
        self._received = b""
        with _stage("connect"):
            self._socket = socket.create_connection((target.host, target.port), target.timeout)
        try:
            with _stage("handshake"):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket = target.context.wrap_socket(self._socket, server_hostname=target.host)
            with _stage("answer"):
                connection = "Upgrade\r\nUpgrade: echo" if upgrade else "close"
                self.send(
                    f"GET {path} HTTP/1.1\r\nHost: {target.host}\r\nConnection: {connection}\r\n\r"
                )
                status, self.server, self.through = parse_head(iter(self.read_line, ""))
                if status != (101 if upgrade else 200):
                    raise ValueError(f"status {status} of {self.server}")
        except BaseException:
            self.close()
            raise

    def send(self, line: str) -> None:
        """Send a line."""
        self._socket.sendall(line.encode() + b"\n")

    def read_line(self) -> str:
        """Return the next line, without its end."""
        self._socket.settimeout(self._timeout)
        while b"\n" not in self._received:
            self._receive()
        line, _, self._received = self._received.partition(b"\n")
        return line.decode("latin-1").rstrip("\r")

    def rest(self, seconds: float) -> None:
        """Wait SECONDS in which nothing must come. Raise `OSError` at once if it is closed."""
        # Zero would mean: do not wait
        self._socket.settimeout(max(seconds, 0.001))
        # Not TimeoutError: before Python 3.10 that is another class
        with contextlib.suppress(socket.timeout):
            self._receive()
            raise ConnectionError(f"unasked: {self._received!r}")

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _receive(self) -> None:
        data = self._socket.recv(4096)
        if not data:
            raise ConnectionError("closed by the other side")
        self._received += data


def parse_head(lines: Iterator[str]) -> tuple[int, str, str]:
    """Return the status of an answer, the name of the server that gave it, and the address from
    which the connection reached that server ("" if it does not say).

    Raises `ValueError` if LINES, up to the empty one, are no head of an answer, or name no server.
    """
    first = next(lines, "")
    words = first.split(" ")
    if not words[0].startswith("HTTP/1.") or not words[1:2] or not words[1].isdecimal():
        raise ValueError(f"not HTTP: {first!r}")
    headers = {
        key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    if "server-name" not in headers:
        raise ValueError(f"no server's name: {first!r}")
    return int(words[1]), headers["server-name"], headers.get("client-address", "")


def ask(target: Target, path: str = "/version") -> str:
    """Make a request on a new connection. Return the server's name, or raise `Failure`."""
    return answer(target, path).server


def answer(target: Target, path: str = "/version") -> Connection:
    """Make a request on a new connection. Return it, closed, or raise `Failure`."""
    connection = Connection(target, path)
    connection.close()
    return connection


def requests(
    target: Target,
    *,
    count: int | None = None,
    threads: int = 1,
    seconds: float | None = None,
    pace: float | None = None,
    path: str = "/version",
) -> Json:
    """Make COUNT requests, or as many as go into SECONDS, and return what became of them.

    PACE is the most that begin in a second. `gap` is the longest time without any answer, `order`
    who gave the first answers. Only the first failures are listed, all are counted by reason.
    """
    clock = _Clock()
    numbers = itertools.count()
    answers: list[tuple[float, float, str]] = []
    failures: list[Json] = []

    def work() -> None:
        for number in numbers:
            start = max(clock.now(), number / pace if pace else 0)
            if (count is not None and number >= count) or (
                seconds is not None and start >= seconds
            ):
                return
            time.sleep(max(start - clock.now(), 0))
            at = clock.now()
            try:
                server = ask(target, path)
            except Failure as failure:
                took = round(clock.now() - at, 3)
                failures.append({"at": round(at, 3), "after": took, "reason": str(failure)})
            else:
                answers.append((at, clock.now(), server))

    _run_all([threading.Thread(target=work) for _ in range(threads)])
    elapsed = clock.now()
    failures.sort(key=lambda failure: failure["at"])
    return {
        "began": clock.began,
        "elapsed": round(elapsed, 3),
        "count": len(answers) + len(failures),
        "failures": len(failures),
        "reasons": dict(Counter(failure["reason"] for failure in failures).most_common(_SHOWN)),
        "failed": failures[:_SHOWN],
        "servers": dict(sorted(Counter(server for *_, server in answers).items())),
        "order": [server for _, _, server in sorted(answers, key=lambda each: each[1])[:_SHOWN]],
        "latency": round(max((end - at for at, end, _ in answers), default=0), 3),
        "gap": longest_gap([end for _, end, _ in answers], elapsed),
    }


def longest_gap(ends: Sequence[float], elapsed: float) -> Json:
    """Return the longest time without the end of an answer, from 0 to ELAPSED: when and how long.

    + ends: when each answer came, in any order
    """
    times = [0.0, *sorted(ends), elapsed]
    gap, since = max((times[n + 1] - times[n], times[n]) for n in range(len(times) - 1))
    return {"at": round(since, 3), "seconds": round(gap, 3)}


def streams(
    target: Target,
    *,
    count: int,
    until: Callable[[], None],
    report: Callable[[Json], None],
    beat: float = _BEAT,
) -> Json:
    """Hold COUNT echo streams open until UNTIL returns, and return what became of each.

    A line goes over each stream every BEAT seconds, and has to come back. `report` is given an
    event as soon as it happens: `open`, `failed` (to open), `broke`, and `ready` once when every
    stream was opened or failed to. A stream ends as good when it echoes once more after UNTIL.
    """
    clock = _Clock()
    ending = threading.Event()
    lock = threading.Lock()
    found: list[Json] = []
    echoes: list[float] = []

    def tell(event: str, **values: Any) -> None:
        report({"event": event, "at": clock.now(), **values})

    def hold(number: int) -> None:
        stream: Json = {"stream": number, "server": None, "broke": None, "reason": None}
        try:
            connection = Connection(target, "/echo", upgrade=True)
            stream["server"] = connection.server
            opened = "open"
        except Failure as failure:
            stream["reason"] = str(failure)
            opened = "failed"
        with lock:
            found.append(stream)
            tell(opened, **stream)
            if len(found) == count:
                tell("ready")
        if opened == "failed":
            return
        try:
            with _stage("stream"):
                pulse(connection, number, stream)
        except Failure as failure:
            stream.update(broke=clock.now(), reason=str(failure))
            with lock:
                tell("broke", **stream)
        finally:
            connection.close()

    def pulse(connection: Connection, number: int, stream: Json) -> None:
        for turn in itertools.count():
            last = ending.is_set()
            sent = clock.now()
            connection.send(f"{number} {turn}")
            line = connection.read_line()
            if line != f"{connection.server}: {number} {turn}":
                raise ValueError(f"wrong echo: {line!r}")
            stream["echoed"] = clock.now()
            echoes.append(clock.now() - sent)
            if last:
                return
            connection.rest(sent + beat - clock.now())

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    until()
    ending.set()
    for thread in threads:
        thread.join()
    opened = [stream for stream in found if stream["server"]]
    broke = [stream for stream in opened if stream["broke"] is not None]
    return {
        "event": "end",
        "began": clock.began,
        "at": clock.now(),
        "opened": len(opened),
        "failed": len(found) - len(opened),
        "broke": len(broke),
        "servers": dict(sorted(Counter(stream["server"] for stream in opened).items())),
        "broke_servers": dict(sorted(Counter(stream["server"] for stream in broke).items())),
        "echoes": len(echoes),
        "slowest_echo": round(max(echoes, default=0), 3),
        "streams": sorted(found, key=lambda stream: int(stream["stream"])),
    }


def wait(target: Target, *, seconds: float = 120) -> Json:
    """Ask TARGET until it answers, for at most SECONDS, and return how long that took.

    A new attempt begins every 50 ms, also while earlier ones hang. So none of them hides the moment
    of the first answer.
    """
    clock = _Clock()
    answered = threading.Event()
    first: Json = {"seconds": None, "server": None, "through": None}
    lock = threading.Lock()
    reasons: Counter[str] = Counter()

    def attempt() -> None:
        try:
            by = answer(target)
        except Failure as failure:
            reasons[str(failure)] += 1
            return
        with lock:
            if not answered.is_set():
                first.update(seconds=clock.now(), server=by.server, through=by.through)
                answered.set()

    attempts = 0
    while clock.now() < seconds and not answered.is_set():
        threading.Thread(target=attempt, daemon=True).start()
        attempts += 1
        answered.wait(_POLL)
    with lock:
        return {
            "began": clock.began,
            "answered": answered.is_set(),
            **first,
            "attempts": attempts,
            "reasons": dict(reasons.most_common(_SHOWN)),
        }


def _at_pace(
    pace: float,
    clock: _Clock,
    until: Callable[[], None],
    act: Callable[[int, float], None],
    once_more: bool = False,
) -> None:
    """Call ACT, PACE times a second, until UNTIL returns, and wait until all calls have ended.

    ACT gets the number of the call from 0, and its time. A call does not wait for earlier ones.
    With ONCE_MORE the last call begins when UNTIL has returned.
    """
    ending = threading.Event()

    def work() -> None:
        threads = []
        for number in itertools.count():
            ended = ending.wait(max(number / pace - clock.now(), 0))
            if ended and not once_more:
                break
            threads.append(threading.Thread(target=act, args=(number, clock.now())))
            threads[-1].start()
            if ended:
                break
        for thread in threads:
            thread.join()

    worker = threading.Thread(target=work)
    worker.start()
    until()
    ending.set()
    worker.join()


def beats(
    target: Target,
    *,
    until: Callable[[], None],
    pace: float = 1,
    patience: float = 10,
    report: Callable[[Json], None] = lambda event: None,
) -> Json:
    """Make PACE requests a second until UNTIL returns, and return what became of them.

    A request that fails is tried again for PATIENCE seconds, as kubelet does with its heartbeats.
    It counts as failed only then; with a PATIENCE of 0 it is never tried again. A request does not
    wait for earlier ones. `gap` is the longest time without any answer until UNTIL returned. REPORT
    is given an event `answered` at the first answer.
    """
    clock = _Clock()
    answers: list[Json] = []
    failures: list[Json] = []
    lock = threading.Lock()
    ended: list[float] = []

    def ends() -> None:
        until()
        ended.append(clock.now())

    def beat(at: float) -> None:
        tries = 0
        while True:
            tries += 1
            try:
                answered = answer(target)
            except Failure as failure:
                if clock.now() - at < patience:
                    time.sleep(_POLL)
                    continue
                failures.append({"at": at, "tries": tries, "reason": str(failure)})
                return
            took = round(clock.now() - at, 3)
            said = {"server": answered.server, "through": answered.through}
            with lock:
                answers.append({"at": at, "took": took, "tries": tries, **said})
                if len(answers) == 1:
                    report({"event": "answered", "at": clock.now(), **said})
            return

    _at_pace(pace, clock, ends, lambda number, at: beat(at))
    # After that time only the slow ones came, and those that failed were waited for
    times = [each["at"] + each["took"] for each in answers]
    gap = longest_gap([each for each in times if each <= ended[0]], ended[0])
    return {
        "began": clock.began,
        "elapsed": clock.now(),
        "count": len(answers) + len(failures),
        "failures": len(failures),
        "failed": sorted(failures, key=lambda failure: float(failure["at"])),
        "answered": sorted(answers, key=lambda each: float(each["at"])),
        "servers": dict(sorted(Counter(each["server"] for each in answers).items())),
        "through": dict(sorted(Counter(each["through"] for each in answers).items())),
        "gap": gap,
    }


def readyz(targets: Mapping[str, Target], *, until: Callable[[], None], pace: float = 2) -> Json:
    """Ask servers, by name, PACE times a second until UNTIL returns, whether they are ready.

    A sample has the status of each server's ``/readyz``, 0 if it gave none. A sample that equals
    the one before is left out. The last one begins when UNTIL has returned.
    """
    clock = _Clock()
    samples: dict[int, Json] = {}

    def status(target: Target) -> int:
        try:
            ask(target, "/readyz")
        except Failure as failure:
            found = re.search(r"status (\d+)", str(failure))
            return int(found[1]) if found else 0
        return 200

    def sample(number: int, at: float) -> None:
        statuses: dict[str, int] = {}
        _run_all(
            [
                threading.Thread(target=lambda n=name, t=each: statuses.update({n: status(t)}))
                for name, each in targets.items()
            ]
        )
        samples[number] = {"at": at, "statuses": dict(sorted(statuses.items()))}

    _at_pace(pace, clock, until, sample, once_more=True)
    kept: list[Json] = []
    for _, found in sorted(samples.items()):
        if not kept or found["statuses"] != kept[-1]["statuses"]:
            kept.append(found)
    return {
        "began": clock.began,
        "elapsed": clock.now(),
        "count": len(samples),
        "fewest": min(list(one["statuses"].values()).count(200) for one in kept),
        "samples": kept,
    }


def until_stopped(seconds: float | None, source: int = _STDIN) -> None:
    """Return at a line `stop` from the file descriptor SOURCE, at a signal, or after SECONDS.

    Without SECONDS, return at the end of the input too.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    inputs, received = [source], b""
    with contextlib.suppress(KeyboardInterrupt):
        while b"stop" not in received.split(b"\n")[:-1]:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not select.select(inputs, [], [], left)[0]:
                return
            data = os.read(source, 4096)
            received += data
            if not data and deadline is None:
                return
            inputs = [source] if data else []


class _Clock:
    def __init__(self) -> None:
        self.began = round(time.time(), 3)
        self._start = time.monotonic()

    def now(self) -> float:
        return round(time.monotonic() - self._start, 4)


@contextlib.contextmanager
def _stage(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise Failure(f"{name}: {type(error).__name__}: {error}") from error


def _run_all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _print(line: Json) -> None:
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:
        # Whoever started this program has ended. Nor is Python to complain when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = {
        name: commands.add_parser(name, help=text)
        for name, text in (
            ("requests", "make requests, each on a connection of its own; without --count: one"),
            ("streams", "hold streams open until a line `stop` or the end of standard input"),
            ("beats", "make requests and try again, until a line `stop` as for streams"),
            ("wait", "ask until there is an answer"),
            ("readyz", "ask servers for their state, until a line `stop` as for streams"),
        )
    }
    for name, each in command.items():
        if name == "readyz":
            each.add_argument("addresses", metavar="NAME=ADDRESS:PORT", nargs="+")
        else:
            each.add_argument("address", metavar="ADDRESS:PORT")
        each.add_argument("--ca", metavar="FILE", help="check the certificate by these CAs")
        each.add_argument("--timeout", type=float, default=5, metavar="SECONDS")
    for each in (command["requests"], command["streams"]):
        each.add_argument("--count", type=int)
        each.add_argument("--seconds", type=float, help="how long; default: no limit")
    command["beats"].add_argument("--pace", type=float, default=1, help="requests in a second")
    command["beats"].add_argument("--patience", type=float, default=10, metavar="SECONDS")
    command["beats"].add_argument("--seconds", type=float, help="how long; default: no limit")
    command["readyz"].add_argument("--pace", type=float, default=2, help="times in a second")
    command["readyz"].add_argument("--seconds", type=float, help="how long; default: no limit")
    command["requests"].add_argument("--threads", type=int, default=1)
    command["requests"].add_argument("--pace", type=float, help="requests in a second, at most")
    command["requests"].add_argument("--path", default="/version")
    command["wait"].add_argument("--seconds", type=float, default=120)
    options = top.parse_args(arguments)
    try:
        if options.command == "readyz":
            pairs = (text.partition("=") for text in options.addresses)
            targets = {
                name: Target.parse(address, ca=options.ca, timeout=options.timeout)
                for name, _, address in pairs
            }
        else:
            target = Target.parse(options.address, ca=options.ca, timeout=options.timeout)
    except (OSError, ValueError) as error:
        top.error(str(error))
    if options.command == "readyz":
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _print(readyz(targets, until=lambda: until_stopped(options.seconds), pace=options.pace))
        return
    if options.command == "wait":
        _print(wait(target, seconds=options.seconds))
        return
    if options.command == "beats":
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _print(
            beats(
                target,
                until=lambda: until_stopped(options.seconds),
                pace=options.pace,
                patience=options.patience,
                report=_print,
            )
        )
        return
    limited = options.count is not None or options.seconds is not None
    if options.command == "requests":
        _print(
            requests(
                target,
                count=options.count if limited else 1,
                threads=options.threads,
                seconds=options.seconds,
                pace=options.pace,
                path=options.path,
            )
        )
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _print(
        streams(
            target,
            count=1 if options.count is None else options.count,
            until=lambda: until_stopped(options.seconds),
            report=_print,
        )
    )


if __name__ == "__main__":
    main()
