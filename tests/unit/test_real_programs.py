"""Compare our readers with the real programs, over generated files.

``PROPERTY_FILES=2000 PROPERTY_SEED=7 pytest tests/unit/test_real_programs.py`` tries more and other
files. A test whose program is not on this computer is skipped, and says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from chaos_engine.facts.files import Texts
from chaos_engine.facts.systemd_files import (
    effective,
    files_in,
    folders,
    settings,
    texts_of,
    unit_folders,
)
from chaos_engine.operations.quiet import times
from tests.unit.asking import ask
from tests.unit.real_programs import needed, randoms

T = TypeVar("T")


def chunks(items: list[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of this size."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def pieces(random: Random, alphabet: list[str], most: int) -> str:
    """Return a random text of at most this many pieces."""
    return "".join(random.choices(alphabet, k=random.randint(0, most)))


LINES = [
    *("Description", "Description=", "Description = ", "description=", "Other=", "=", "x", "y z"),
    *(" ", "\t", "\\", "\\\\", "\n", "\n", "\n", "\r\n", "\r", "\\\n", " \\\n", "#", ";", "[", "]"),
    *("\n[Unit]\n", "\n[Service]\n", "\n[X-Ours]\n", "\n[Unit", "\ufeff", "\udcff", '"', "'"),
    *("\n# a\n", "\n; b\\\n", "é"),
]


def unit_dump(folder: Path, names: list[str], *others: Path) -> str:
    """Return what systemd's test mode prints about these units of a folder, and of others."""
    for target in ("basic.target", "shutdown.target"):
        (folder / target).write_text("[Unit]\n")
    for slice_ in ("-.slice", "app.slice"):
        (folder / slice_).write_text("[Slice]\n")
    (folder / "all.target").write_text(f"[Unit]\nDefaultDependencies=no\nWants={' '.join(names)}\n")
    runtime = folder / "runtime/systemd"
    runtime.mkdir(parents=True, exist_ok=True)
    command = [needed("systemd"), "--test", "--user", "--unit=all.target"]
    if os.geteuid() == 0:  # "Don't run test mode as root"
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
    searched = ":".join(map(str, (folder, *others)))
    where = {"SYSTEMD_UNIT_PATH": searched, "XDG_RUNTIME_DIR": str(runtime.parent)}
    done = subprocess.run(
        command,
        env={"HOME": str(folder), "PATH": os.environ["PATH"], **where},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return done.stdout.decode(errors="surrogateescape")


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a folder that another user can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_systemd_reads_settings_as_we_do(open_path: Path) -> None:
    texts = {
        f"u{number}.service": f"[Unit]\n{pieces(random, LINES, 24)}"
        for number, random in enumerate(randoms())
    }
    wrong = []
    for number, some in enumerate(chunks(list(texts), 200)):
        folder = open_path / str(number)
        folder.mkdir()
        open_path.chmod(0o755)
        for name in some:
            (folder / name).write_text("[Unit]\nDescription=none\n[Service]\nExecStart=/bin/true\n")
            (folder / f"{name}.d").mkdir()
            text = texts[name].encode("utf-8", "surrogateescape")
            (folder / f"{name}.d" / "a.conf").write_bytes(text)
        dump = re.finditer(
            r"-> Unit (u\d+\.service):\n\t\tDescription: (.*?)\n\t\tInstance:",
            unit_dump(folder, some),
            re.DOTALL,
        )
        said = {match[1]: match[2] for match in dump}
        for name in some:
            found = [
                value
                for section, key, value in settings(texts[name])
                if (section, key) == ("Unit", "Description")
            ]
            ours = (["none", *found][-1]) or name
            if said.get(name) != ours:
                wrong.append((texts[name], said.get(name), ours))
    assert wrong == [], "\n".join(map(str, wrong[:9]))


def test_systemd_takes_the_drop_ins_of_a_timer_that_we_take(open_path: Path) -> None:
    timers = [f"n{number}-daily.timer" for number in range(20)]
    tops = [open_path / folder.removeprefix("/") for folder in folders("systemd/system")]
    open_path.chmod(0o755)
    values = ("OnCalendar=", "OnCalendar=Sat 18:00", "OnCalendar=Sun 07:00", "Persistent=yes")
    texts: dict[Path, str] = {}
    for timer, random in zip(timers, randoms(), strict=False):
        for _ in range(6):
            chosen = random.choice(unit_folders(timer))
            # The last ones are those of all timers
            some = values[3:] if chosen in unit_folders(timer)[-4:] else values
            path = open_path / chosen.removeprefix("/") / f"{random.choice('abc')}.conf"
            texts[path] = f"[Timer]\n{random.choice(some)}\n{random.choice(some)}\n"
        # systemd does not load a timer without a time
        last = open_path / unit_folders(timer)[0].removeprefix("/") / "d.conf"
        texts[last] = "[Timer]\nOnCalendar=Tue 01:00\n"
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for timer in timers:
        tops[-1].mkdir(parents=True, exist_ok=True)
        (tops[-1] / timer).write_text("[Unit]\nDescription=x\n[Timer]\nOnCalendar=Mon 01:00\n")
        (tops[-1] / timer.replace("timer", "service")).write_text("[Service]\nExecStart=true\n")
    tops[0].mkdir(parents=True, exist_ok=True)
    for path in open_path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    blocks = unit_dump(tops[0], timers, *tops[1:]).split("-> Unit ")
    said = {block.partition(":")[0]: block for block in blocks}
    for timer in timers:
        ours = effective(
            {str(path).removeprefix(str(open_path)): text for path, text in texts.items()},
            unit_folders(timer),
        )
        theirs = re.findall(rf"DropIn Path: {open_path}(.*)", said[timer])
        assert [path for path, _ in ours] == theirs
        given = [f"{name}={value}" for _, text in ours for _, name, value in settings(text)]
        assert {
            time.replace(" *-*-*", "").removesuffix(":00")
            for time in re.findall(r"\bOnCalendar: (.*)", said[timer])
        } == {time.partition("=")[2] for time in times(["OnCalendar=Mon 01:00", *given])}


NAMES = ["a.conf", "b.conf", "B.conf", "é.conf", ".c.conf", "d", "10-x.conf"]


def test_systemd_takes_the_drop_ins_that_we_take(tmp_path: Path) -> None:
    analyze = needed("systemd-analyze")
    tops = ("etc", "run", "usr/local/lib", "usr/lib")
    wrong = []
    for number, random in enumerate(randoms()):
        root = tmp_path / str(number)
        for top in random.sample(tops, random.randint(1, 4)):
            folder = root / top / "systemd/journald.conf.d"
            folder.mkdir(parents=True)
            for name in random.sample(
                ["a.conf", "b.conf", "B.conf", "é.conf", ".c.conf", "d", "10-x.conf"], 4
            ):
                path = folder / name
                match random.choice("fffemr"):
                    case "f":
                        path.write_text(f"[Journal]\nA={top}/{name}\n")
                    case "e":
                        path.touch()
                    case "m":
                        path.symlink_to("/dev/null")
                    case _:
                        (root / "real").write_text("[Journal]\nA=real\n")
                        path.symlink_to(os.path.relpath(root / "real", folder))
        (root / "etc/systemd").mkdir(parents=True, exist_ok=True)
        (root / "etc/systemd/journald.conf").write_text("")
        said = subprocess.run(
            [analyze, "cat-config", f"--root={root}", "systemd/journald.conf"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        heads = re.split(rf"^# {root}(/.*)\n", said, flags=re.MULTILINE)[1:]
        theirs = list(zip(heads[::2], heads[1::2], strict=True))
        folders = tuple(f"{root}/{top}/systemd/journald.conf.d" for top in tops)
        found: dict[str, bytes | None] = ask(Texts, patterns=files_in(folders))
        ours = [
            (path.removeprefix(str(root)), text.removesuffix("\n") + "\n")
            for path, text in effective(texts_of(found), folders)
            if text
        ]
        theirs = [(path, text.rstrip("\n") + "\n") for path, text in theirs if text.strip()]
        if ours != theirs:
            wrong.append((number, theirs, ours))
    assert wrong == [], "\n".join(map(str, wrong[:9]))
