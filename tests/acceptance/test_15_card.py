"""Check that log messages of a deployed node never reach its card, by the card's raw bytes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.cluster.virtual_cluster import Cluster

_CHUNK = 8 << 20


def extents(file: int) -> Iterator[tuple[int, int]]:
    """Yield where a sparse file has data: first byte and end of each part."""
    place, end = 0, os.fstat(file).st_size
    while place < end:
        try:
            begin = os.lseek(file, place, os.SEEK_DATA)
        except OSError:  # only a hole is left
            return
        place = os.lseek(file, begin, os.SEEK_HOLE)
        yield begin, place


def found_in(path: Path, words: Iterable[str]) -> set[str]:
    """Return the words that are anywhere in a file's bytes."""
    left = {word.encode() for word in words}
    overlap = max(map(len, left)) - 1
    found: set[bytes] = set()
    with path.open("rb", buffering=0) as file:
        for begin, end in extents(file.fileno()):
            tail, place = b"", begin
            while place < end:
                data = os.pread(file.fileno(), min(_CHUNK, end - place), place)
                place += len(data)
                found |= {word for word in left - found if word in tail + data}
                tail = data[-overlap:]
    return {word.decode() for word in found}


def test_no_log_message_reaches_the_card(deployed: Cluster) -> None:
    node = deployed.carded
    image = Path(Path(f"/sys/block/{deployed.card(node)}/loop/backing_file").read_text().strip())
    host = deployed.host(node)
    ways = {
        "syslog": "logger {}",
        "the journal": "echo {} | systemd-cat --priority=debug",
        "a file in /var/log": "echo {} >>/var/log/seen.log",
        "the card itself": "echo {} >/var/lib/seen",
    }
    # Not part of a command's arguments, which others might log
    words = {way: f"seen-{secrets.token_hex(16)}" for way in ways}
    script = "\n".join(ways[way].format(word) for way, word in words.items())
    host.check_output("sh -s <<'END'\n" + script + "\njournalctl --sync\nsync\nEND")
    try:
        found = found_in(image, words.values())
        assert [way for way, word in words.items() if word in found] == ["the card itself"]
    finally:
        host.check_output("rm -f /var/log/seen.log /var/lib/seen")
