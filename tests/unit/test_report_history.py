"""The history of reports: what was written is read again, and nothing is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chaos_engine.operations.report.history import append, parse, read
from chaos_engine.operations.report.wear import Sample

COUNTERS = '{"card": "x", "boot_id": "y", "written": %s, "uptime": 1}'
ONE = Sample(1000, "mmcblk0 SC64G 0x1", "boot-1", 5_000_000, 60.5)
TWO = Sample(2000, "mmcblk0 SC64G 0x1", "boot-1", 9_000_000, 1060.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


def test_there_may_be_no_history(path: Path) -> None:
    assert read(path) == ({}, [])


def test_what_is_written_is_read(path: Path) -> None:
    append(path, 1000, {"pi1": ONE, "pi2": ONE})
    append(path, 2000, {"pi1": TWO})
    assert read(path) == ({"pi1": [ONE, TWO], "pi2": [ONE]}, [])
    assert len(path.read_text().splitlines()) == 2


def test_a_clock_that_was_set_back_does_not_change_the_order(path: Path) -> None:
    later = replace(TWO, time=500)
    append(path, 1000, {"pi1": ONE})
    append(path, 500, {"pi1": later})
    assert read(path)[0] == {"pi1": [ONE, later]}


@pytest.mark.parametrize(
    "damage",
    [
        b'{"time": 1500, "nodes": {"pi1": {"card": "mmc',
        b"\0\0\0\0\0\0",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"null",
        b'{"nodes": {}}',
        b'{"time": "x", "nodes": {}}',
        b'{"time": NaN, "nodes": {}}',
        b'{"time": 253402300800, "nodes": {}}',
        b'{"time": 1500, "nodes": []}',
        b'{"time": 1500, "nodes": {"pi1": 5}}',
        f'{{"time": 1500, "nodes": {{"pi1": {COUNTERS % "-1"}}}}}'.encode(),
        f'{{"time": 1500, "nodes": {{"pi1": {COUNTERS % "true"}}}}}'.encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_skipped_named_and_kept(path: Path, damage: bytes) -> None:
    append(path, 1000, {"pi1": ONE})
    path.write_bytes(path.read_bytes() + damage + b"\n")
    append(path, 2000, {"pi1": TWO})
    samples, warnings = read(path)
    assert samples == {"pi1": [ONE, TWO]}
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{path}, line 2 is damaged")
    assert damage in path.read_bytes()


def test_a_line_that_was_cut_short_does_not_damage_the_next(path: Path) -> None:
    append(path, 1000, {"pi1": ONE})
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    append(path, 2000, {"pi1": TWO})
    samples, warnings = read(path)
    assert samples == {"pi1": [ONE, TWO]}
    assert "line 2" in warnings[0]


def test_a_name_may_be_any_text(path: Path) -> None:
    name = 'pi"1\n</script>\u2028'
    append(path, 1000, {name: ONE})
    assert read(path)[0] == {name: [ONE]}


def test_a_line_is_json() -> None:
    line = {
        "time": 1000,
        "nodes": {"pi1": {"card": "x", "boot_id": "y", "written": 1, "uptime": 2}},
    }
    assert parse(json.dumps(line).encode()) == {"pi1": Sample(1000, "x", "y", 1, 2)}
