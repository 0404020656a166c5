"""Keep the counters of all reports in a file: a line of JSON for each report.

A report only appends to the file. If the computer's power fails, a line may be damaged. A damaged
line is skipped with a warning, and stays in the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from chaos_engine.operations.report.wear import Sample

NAME = "history.jsonl"
"""The file's name in the folder of the report."""

LATEST = 253_402_300_799
"""The end of the year 9999, in seconds since 1970. Python has no later dates."""


def read(path: Path) -> tuple[dict[str, list[Sample]], list[str]]:
    """Return each node's samples, by the node's name, and a warning for each damaged line.

    + path: path of the file, which need not exist

    A node's samples are in the order of the lines. Their times may be in another order, because the
    computer's clock may have been set back.

    Raises ``OSError`` if the file cannot be read.
    """
    samples: dict[str, list[Sample]] = {}
    warnings = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}, []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = parse(line)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            why = str(error).partition(" (char")[0][:200]
            warnings.append(
                f"{path}, line {number} is damaged, so this report does not use it: {why}. The "
                "line stays in the file"
            )
            continue
        for name, sample in found.items():
            samples.setdefault(name, []).append(sample)
    return samples, warnings


def parse(line: bytes) -> dict[str, Sample]:
    """Read one line of the file. Return a sample for each node's name. This is a pure function.

    Raises ``ValueError``, ``LookupError``, ``TypeError`` or ``AttributeError`` for a line of
    unknown form.
    """
    found = json.loads(line)
    time = _number(found["time"])
    if time > LATEST:
        raise ValueError(f"{time!r} is no time")
    return {
        str(name): Sample(
            time=int(time),
            card=str(one["card"]),
            boot_id=str(one["boot_id"]),
            written=int(_number(one["written"])),
            uptime=_number(one["uptime"]),
        )
        for name, one in found["nodes"].items()
    }


def append(path: Path, time: int, samples: Mapping[str, Sample]) -> None:
    """Append a line with the samples of one report. Raise ``OSError`` if that fails.

    If the file does not end with a line feed, one is added before the new line.
    """
    nodes = {name: sample.to_json() for name, sample in samples.items()}
    for one in nodes.values():
        del one["time"]
    line = json.dumps({"time": time, "nodes": nodes}) + "\n"
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _number(value: object) -> float:
    """Return a number from JSON.

    Raises ``ValueError`` if the value is no number, if it is negative, or if it is 1e18 or more.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        raise ValueError(f"{value!r} is no counter")
    return value
