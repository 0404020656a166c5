"""Relay TCP connections, delay them and count bytes, where the kernel has no netem.

python -m tests.bench.relay MILLISECONDS COUNTS LISTEN=TARGET...

Each of LISTEN and TARGET is ADDRESS:PORT. A round trip takes MILLISECONDS more: half of them each
direction. A new connection takes a whole round trip, as TCP's handshake would. Order and bandwidth
are kept. Prints ``ready`` when it listens on all. When it is terminated, it writes the file COUNTS:
JSON with the bytes to and from each TARGET.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_CHUNK = 64 * 1024
_UNDERWAY = 256
"""Most chunks on their way in one direction: 16 MiB, more than fits into 20 ms."""


@dataclass
class Traffic:
    """Number of bytes that went to a target, and that came back."""

    sent: int = 0
    received: int = 0

    def add_sent(self, size: int) -> None:
        """Count bytes that went to the target."""
        self.sent += size

    def add_received(self, size: int) -> None:
        """Count bytes that came back."""
        self.received += size


async def delay(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    seconds: float,
    passed: Callable[[int], None],
) -> None:
    """Pass on each chunk from SOURCE, and its end, so many seconds after it came.

    + passed: is told the size of each chunk, as a connection may stay open forever
    """
    loop = asyncio.get_running_loop()
    underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDERWAY)

    async def deliver() -> None:
        while True:
            at, chunk = await underway.get()
            # Never too early, or less than the delay would be measured
            while (left := at - loop.time()) > 0:
                await asyncio.sleep(left)
            if not chunk:
                break
            sink.write(chunk)
            passed(len(chunk))
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()

    async def collect() -> None:
        try:
            while chunk := await source.read(_CHUNK):
                await underway.put((loop.time() + seconds, chunk))
        finally:
            await underway.put((loop.time() + seconds, b""))

    with suppress(OSError):
        await asyncio.gather(collect(), deliver())


async def serve(
    listen: tuple[str, int], target: tuple[str, int], round_trip: float, traffic: Traffic
) -> asyncio.Server:
    """Listen, and pass each connection on to TARGET. A round trip takes so many seconds more."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(round_trip)
        try:
            there, back = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        for each in (writer, back):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.gather(
                delay(reader, back, round_trip / 2, traffic.add_sent),
                delay(there, writer, round_trip / 2, traffic.add_received),
            )
        except asyncio.CancelledError:
            pass  # the relay ends, and streams of Python 3.11 complain about cancelled tasks
        finally:
            writer.close()
            back.close()

    return await asyncio.start_server(pass_on, *listen)


def parse(text: str) -> tuple[str, int]:
    """Return the address and port of a text: ``("127.0.0.1", 22)`` for ``127.0.0.1:22``."""
    address, _, port = text.rpartition(":")
    return address, int(port)


async def main(arguments: Sequence[str]) -> None:
    """Relay until SIGTERM, then write the counts."""
    round_trip, counts = float(arguments[0]) / 1000, Path(arguments[1])
    traffic, servers = {}, []
    for pair in arguments[2:]:
        listen, _, target = pair.partition("=")
        traffic[target] = Traffic()
        servers.append(await serve(parse(listen), parse(target), round_trip, traffic[target]))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    await ended.wait()
    for server in servers:
        server.close()
    counts.write_text(json.dumps({target: asdict(found) for target, found in traffic.items()}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
