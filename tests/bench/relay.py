"""A TCP relay that delays: a long way to each node, where the kernel has no netem.

python -m tests.bench.relay MILLISECONDS LISTEN=TARGET...

Each of LISTEN and TARGET is ADDRESS:PORT. A round trip through it takes MILLISECONDS: each
direction half of them, and a new connection a whole one, as TCP's handshake would. Order and
bandwidth are kept. Prints ``ready`` when it listens on all.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

_CHUNK = 64 * 1024
_UNDERWAY = 256
"""How many chunks may be on their way in one direction: 16 MiB, more than 20 ms fill."""


async def delay(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float
) -> None:
    """Pass on what comes from SOURCE, each chunk so many seconds after it came, and its end."""
    loop = asyncio.get_running_loop()
    underway: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDERWAY)

    async def deliver() -> None:
        while True:
            due, chunk = await underway.get()
            # Not less: who measures this waits for all of it
            while (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            if not chunk:
                break
            sink.write(chunk)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()

    async def collect() -> None:
        while chunk := await source.read(_CHUNK):
            await underway.put((loop.time() + seconds, chunk))
        await underway.put((loop.time() + seconds, b""))

    with suppress(OSError):
        await asyncio.gather(collect(), deliver())


async def serve(
    listen: tuple[str, int], target: tuple[str, int], round_trip: float
) -> asyncio.Server:
    """Listen, and pass each connection on to TARGET; a round trip takes so many seconds more."""

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
                delay(reader, back, round_trip / 2), delay(there, writer, round_trip / 2)
            )
        finally:
            writer.close()
            back.close()

    return await asyncio.start_server(pass_on, *listen)


def parse(text: str) -> tuple[str, int]:
    """``("127.0.0.1", 22)`` of ``127.0.0.1:22``."""
    address, _, port = text.rpartition(":")
    return address, int(port)


async def main(arguments: Sequence[str]) -> None:
    """Relay until it is ended."""
    round_trip = float(arguments[0]) / 1000
    servers = []
    for pair in arguments[1:]:
        listen, _, target = pair.partition("=")
        servers.append(await serve(parse(listen), parse(target), round_trip))
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1:]))
