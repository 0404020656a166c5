"""Log messages at a steady rate on a node: ``python3 - SOURCE SECONDS [WORD]``.

SOURCE is ``syslog`` (1000 messages a second by syslog), ``container`` (200 lines a second on the
standard output of a container), ``running`` (the same, by the container bench-running, which runs
already) or ``service`` (100 lines a second into a file below /var/log). WORD begins each line, by
default ``load``. Prints how many were written.

The node's programs run before other work of the computer, so that they keep the rate beside it.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

Write = Callable[[bytes], object]

TICK = 0.1
PRIORITY = -10
LINE = b"%s %08d the quick brown fox jumps over the lazy dog, again and again and again, all day"


@contextmanager
def syslog() -> Iterator[Write]:
    """Write messages to the node's syslog socket, with facility user and severity info."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.connect("/dev/log")
        yield lambda line: server.send(b"<14>bench: " + line)


@contextmanager
def container() -> Iterator[Write]:
    """Write lines by a container, whose log Docker keeps. It stays, for its files to be seen."""
    subprocess.run(["docker", "rm", "-f", "bench-load"], capture_output=True, check=True)
    echo = 'while read -r line; do echo "$line"; done'
    command = ["docker", "run", "-i", "--name", "bench-load", "bench-shell", "/bin/sh", "-c", echo]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        lines = process.stdin
        assert lines is not None
        yield lambda line: (lines.write(line + b"\n"), lines.flush())


@contextmanager
def running() -> Iterator[Write]:
    """Write lines by a container that runs already, and goes on running."""
    command = ["docker", "attach", "--sig-proxy=false", "bench-running"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        lines = process.stdin
        assert lines is not None
        yield lambda line: (lines.write(line + b"\n"), lines.flush())
        process.terminate()


@contextmanager
def service() -> Iterator[Write]:
    """Write lines to a log file, as a program with its own file does."""
    path = Path("/var/log/bench/service.log")
    path.parent.mkdir(exist_ok=True)
    with path.open("ab", buffering=0) as file:
        yield lambda line: file.write(line + b"\n")


SOURCES: dict[str, tuple[int, Callable[[], AbstractContextManager[Write]]]] = {
    "syslog": (1000, syslog),
    "container": (200, container),
    "running": (200, running),
    "service": (100, service),
}


def hurry() -> None:
    """Give all processes of the node a higher priority than other work of the computer has.

    Where the kernel groups processes by session, the priority of the group counts (sched(7)).
    """
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile, or a kernel without such groups
            (process / "autogroup").write_text(str(PRIORITY))
        with contextlib.suppress(OSError):
            for thread in (process / "task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), PRIORITY)


def main(source: str, seconds: float, word: str = "load") -> None:
    """Write at the source's rate, some messages each tenth of a second."""
    hurry()
    rate, opened = SOURCES[source]
    written = 0
    with opened() as write:
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < seconds:
            while written < now * rate:
                write(LINE % (word.encode(), written))
                written += 1
            time.sleep(TICK)
    print(written)


main(sys.argv[1], float(sys.argv[2]), *sys.argv[3:])
