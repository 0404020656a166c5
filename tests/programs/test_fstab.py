"""Compare how systemd and libmount read an fstab with how we do, over generated files.

findmnt gets only tables without errors.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

from chaos_engine.facts.fstab import entries, is_swap, mounted_at
from tests.acceptance.suites import SUITE
from tests.programs.image import run
from tests.unit.real_programs import randoms

LIBMOUNT = int(SUITE.systemd) > 257
"""The image's systemd reads fstab with libmount."""

# Parts of tables. There is no NUL, as the two programs read on after it differently
GAPS = [" ", " ", "\t", "  ", " \t"]
TARGETS = [
    *("none", "swap", "/", "/var/log", "/var/log/", "/var//log/.", "/var/./log", "/var/lo\\147"),
    *("/var/log\\040", "/var/log/x", "/var\\040log", "#", "var/log", "var//log/"),
]
KINDS = [
    *("swap", "swap", "swap", "ext4", "auto", "tmpfs", "none", "sw\\141p", "swap\\040", "Swap"),
    *("swap,ext4", "\\163wap", '"swap"', "swap\r", "autofs", "swap\f", "\\\\swap", "ext4,swap"),
]
OPTIONS = ["defaults", "sw", "noauto", "nofail", "pri=5\\054noauto", "swap", "UUID=1"]
NUMBERS = ["", "", " 0 0", " 0", " 1 2", " -1 +2 ", " 0 0 more", " 0 0 # mine"]
ENDS = ["\n", "\n", "\n", "\r\n", " \n", "\n\n", " \r\n", "\t\n"]
OTHERS = [" # mine", " y 0 0", " x 0", " 0 x"]


def one_line(random: Random, number: int, regular: bool) -> str:
    """Return a line as people may write it, with a source of its own.

    + regular: whether libmount has to accept the line
    """
    gap = random.choice(GAPS)
    fields = [
        f"/s{number}{random.choice(['', '', chr(92) + '040b', '#', 'é'])}",
        random.choice(TARGETS),
        random.choice(KINDS),
        random.choice(OPTIONS),
    ]
    head = random.choice(["", "", "", "", " ", "\t", "#", " # ", "\r", ";", "\ufeff"])
    fields = fields[: random.choice([4, 4, 3] if regular else [4, 4, 4, 3, 2, 1])]
    rest = random.choice(NUMBERS if regular else [*NUMBERS, *OTHERS]) if len(fields) == 4 else ""
    end = random.choice(ENDS if regular else [*ENDS, "\\\n", "\r"])
    return head + gap.join(fields) + rest + end


ENTRY = re.compile("Found (swap )?entry what=(.*?)(?: where=(.*?) type=(.*?))? makefs=", re.DOTALL)


def by_systemd(said: str) -> list[tuple[str, str, str]]:
    """Return source, target and type of each entry from systemd-fstab-generator's debug output.

    Swap has no target. Other entries are left out if their target is no path. The output has an end
    of line for each carriage return.
    """
    found = (
        (one[2], "", "swap") if one[1] or one[4] == "swap" else (one[2], one[3], one[4])
        for one in ENTRY.finditer(said)
    )
    return [one for one in found if one[1].startswith("/") or one[2] == "swap"]


def test_systemd_and_libmount_read_fstab_as_we_do(tmp_path: Path) -> None:
    script = [
        "export SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console SYSTEMD_PROC_CMDLINE=",
        "generator=/usr/lib/systemd/system-generators/systemd-fstab-generator",
    ]
    texts = []
    for number, random in enumerate(randoms()):
        regular = number % 2 == 0
        lines = [one_line(random, n, regular) for n in range(random.randint(0, 5))]
        texts.append("".join(lines))
        folder = tmp_path / str(number)
        (folder / "units").mkdir(parents=True)
        (folder / "fstab").write_text(texts[-1], newline="")
        at = f"/mnt/{number}"
        units = f"{at}/units"
        script += [
            f"SYSTEMD_FSTAB={at}/fstab chroot $root $generator {units} {units} {units} "
            f"2>$root{at}/systemd",
            f"! {str(regular).lower()} || chroot $root findmnt --tab-file {at}/fstab --json "
            f"--output SOURCE,FSTYPE >$root{at}/libmount 2>/dev/null",
        ]
    run(tmp_path, script)
    wrong: list[object] = []
    for number, text in enumerate(texts):
        folder = tmp_path / str(number)
        read = by_systemd((folder / "systemd").read_bytes().decode())
        # systemd skips a target that is no path, but for swap
        ours = [
            (one.source, "" if one.kind == "swap" else one.target, one.kind)
            for one in entries(text, LIBMOUNT)
            if one.target.startswith("/") or one.kind == "swap"
        ]
        if [tuple(re.sub("[\r\n]+", "\n", field) for field in one) for one in ours] != read:
            wrong.append((text, read, ours))
        mount = (folder / "units/var-log.mount").exists()
        known = mounted_at(text, "/var/log")
        there = [
            one
            for one in entries(text, LIBMOUNT)
            if one.target == "/var/log" and one.kind not in ("swap", "autofs")
        ]
        if mount != bool(there) or {one.number for one in there} - {one.number for one in known}:
            wrong.append((text, mount, known))
        if number % 2:
            continue
        table = json.loads((folder / "libmount").read_text() or '{"filesystems": []}')
        swaps = {one.source for one in entries(text) if one.kind == "swap"}
        # Not by --types, which ignores case
        swaps |= {one["source"] for one in table["filesystems"] if one["fstype"] == "swap"}
        lines = [line for line in text.split("\n") if is_swap(line)]
        # Compared by the first source in each, as a carriage return may have joined two lines
        names = [{re.findall(r"/s\d+", one)[0] for one in some} for some in (swaps, lines)]
        if names[0] != names[1]:
            wrong.append((text, swaps, lines))
    assert wrong == [], "\n".join(map(repr, wrong[:9]))
