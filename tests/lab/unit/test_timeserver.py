"""Test the lab's time server, and the library that keeps the nodes from setting the clock."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import programs
from tests.lab.paths import LAB
from tests.lab.timeserver import answer, question, stamp

LIBRARY = LAB / "images/worker/clock.c"
NOW = 1_764_000_000.25

ASK = """\
import ctypes
class Timex(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("modes", "offset", "freq", "maxerror",
                "esterror", "status")] + [("rest", ctypes.c_long * 40)]
library = ctypes.CDLL(None)
def adjtimex(**values):
    timex = Timex(**values)
    state = library.adjtimex(ctypes.byref(timex))
    return state, timex.maxerror >= 16_000_000
"""


def test_an_answer_is_what_a_client_checks() -> None:
    asked = question(NOW)
    said = answer(asked, NOW + 1)
    assert said is not None
    first, stratum, _, _, delay, dispersion = struct.unpack("!BBbbII", said[:12])
    leap, version, mode = first >> 6, first >> 3 & 7, first & 7
    assert (leap, version, mode) == (0, 4, 4)
    assert 0 < stratum < 16
    # timesyncd's RootDistanceMaxSec is 5 s, in units of 2^-16 s
    assert delay / 2 + dispersion < 5 << 16
    _, originate, received, sent = struct.unpack("!QQQQ", said[16:])
    assert originate == stamp(NOW)
    assert received == stamp(NOW + 1) < sent


@pytest.mark.parametrize("asked", [b"", b"\x23" * 47, bytes([0x24]) + bytes(47)])
def test_what_is_no_question_gets_no_answer(asked: bytes) -> None:
    assert answer(asked, NOW) is None


def run(library: Path, code: str) -> str:
    """Return what a program prints that asks the library in place of the kernel."""
    return subprocess.run(
        [sys.executable, "-c", ASK + code],
        env={"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_a_clock_is_synchronised_once_a_service_says_so_until_the_next_boot(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    source = tmp_path / "clock.c"
    source.write_text(LIBRARY.read_text().replace("/run/systemd/timesync/lab-clock", str(state)))
    library = tmp_path / "clock.so"
    library.write_bytes(programs.compile_library(source))
    unsynchronised, synchronised = "(5, True)", "(0, False)"
    assert run(library, "print(adjtimex())") == unsynchronised
    # ADJ_MAXERROR and ADJ_STATUS with STA_PLL, as of timesyncd
    assert run(library, "print(adjtimex(modes=0x14, maxerror=0, status=1))") == synchronised
    assert run(library, "print(adjtimex())") == synchronised
    state.unlink()
    assert run(library, "print(adjtimex())") == unsynchronised
