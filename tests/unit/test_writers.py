"""Read which programs write."""

from __future__ import annotations

import os
from pathlib import Path

from chaos_engine.facts.writers import MOST, Writer, Writers, parse_writers
from tests.unit.asking import ask

SAMPLE = [
    "734003200 1 dockerd",
    "104857600 12 containerd-shim",
    "8192 1 jbd2/mmcblk0p2-%20%3cb%3e%0a%ff",
]


def test_programs_are_read_with_any_name() -> None:
    assert parse_writers(SAMPLE) == (
        Writer("dockerd", 1, 734003200),
        Writer("containerd-shim", 12, 104857600),
        Writer("jbd2/mmcblk0p2- <b>\n\udcff", 1, 8192),
    )


def test_a_node_on_which_nothing_was_written_has_no_writer() -> None:
    assert Writers().parse(["none"]) == ()


def test_a_kernel_that_does_not_count_gives_no_value() -> None:
    assert Writers().parse([]) is None


def test_this_computer_is_read_without_an_error(tmp_path: Path) -> None:
    # A page that is made dirty on a device counts at once
    (tmp_path / "file").write_bytes(os.urandom(1 << 20))
    found = ask(Writers)
    if found is not None:  # a container may not show the counters
        assert len(found) <= MOST
        assert [one.written for one in found] == sorted((o.written for o in found), reverse=True)
        assert all(one.written > 0 and one.processes > 0 and one.program for one in found)
