"""Test two runs on one node: a script waits for the end of another, and so does a fact."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyinfra.api.command import StringCommand

from chaos_engine.facts.observe import (
    LOCK,
    NodeError,
    NodeFact,
    Read,
    ask,
    batch,
    gather,
    observe,
    want,
)
from chaos_engine.facts.observe.batch import PROBE, marked, script
from chaos_engine.operations import apt
from chaos_engine.operations.engine.shell import NOTES, PRELUDE
from chaos_engine.operations.files import Plan
from chaos_engine.operations.files.script import compose
from tests.unit.nodes import Nodes
from tests.unit.scripts import forbid_mounts


class Date(NodeFact[str]):
    """A line."""

    def command(self) -> StringCommand:
        return StringCommand("echo now")

    def parse(self, lines: list[str]) -> str:
        return lines[0]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Return the lock's path on a node."""
    return tmp_path / "run" / "lock"


@contextmanager
def at_work(lock: Path) -> Iterator[None]:
    """Hold the lock, as a script of an earlier run does."""
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def local(text: str, lock: Path, seconds: int = 1) -> str:
    """Return a script with its lock in a temporary folder and a short time limit."""
    text = text.replace(LOCK, str(lock)).replace(str(Path(LOCK).parent), str(lock.parent))
    text = text.replace(f"LOCK_SECONDS={ask.LOCK_SECONDS}", f"LOCK_SECONDS={seconds}")
    return text.replace("-w 10", "-w 0")


def run(text: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run(
        ["sh", "-c", text, "sh", PROBE], capture_output=True, text=True, timeout=30
    )


def test_a_script_that_waits_too_long_says_what_it_waits_for(lock: Path) -> None:
    with at_work(lock):
        done = run(local(f"{PRELUDE}echo changed", lock, seconds=0))
    assert (done.returncode, "changed" in done.stdout) == (1, False)
    assert "an earlier run is still at work on this node" in done.stderr


def test_a_script_goes_on_once_it_is_alone(lock: Path) -> None:
    with at_work(lock):
        waiting = subprocess.Popen(
            ["sh", "-c", local(f"{PRELUDE}echo changed", lock, seconds=20)], stdout=subprocess.PIPE
        )
        assert waiting.stdout
        assert waiting.stdout.readline().startswith(b"chaos-engine: waiting for an earlier run")
    assert waiting.communicate(timeout=20)[0] == b"changed\n"


def test_a_script_that_is_killed_leaves_no_lock(lock: Path) -> None:
    run(local(f"{PRELUDE}kill -9 $$", lock))
    assert run(local(f"{PRELUDE}echo changed", lock, seconds=0)).stdout == "changed\n"


@pytest.mark.parametrize(
    "text", [compose(Plan()), apt.compose({"a": None}, ())], ids=["transaction", "packages"]
)
def test_scripts_that_change_a_node_are_alone_on_it(lock: Path, text: str) -> None:
    with at_work(lock):
        done = run(local(text, lock, seconds=0))
    assert "an earlier run is still at work" in done.stderr


@pytest.mark.parametrize(
    ("version", "calls"),
    [
        ("sync (GNU coreutils) 9.7", ["-- a b", "c", "-f /"]),
        ("sync (uutils coreutils) 0.12.0", ["-f -- a b", "-f c", "-f /"]),
        ("/usr/lib/cargo/bin/coreutils/sync 0.0.30", ["-f -- a b", "-f c", "-f /"]),
    ],
)
def test_nothing_waits_for_other_file_systems(
    tmp_path: Path, lock: Path, version: str, calls: list[str]
) -> None:
    program, log = tmp_path / "sync", tmp_path / "log"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "{version}"; else echo "$*" >>{log}; fi\n'
    )
    program.chmod(0o755)
    text = f"{PRELUDE}sync -- a b\nsync c\nsync -f /\n".replace("PATH=", f"PATH={tmp_path}:")
    assert run(local(text, lock)).returncode == 0
    assert log.read_text().splitlines() == calls


def test_what_packages_start_has_no_lock_of_ours(lock: Path, tmp_path: Path) -> None:
    forbid_mounts(tmp_path)
    apt_get = tmp_path / "apt-get"
    apt_get.write_text("#!/bin/sh\nif [ -e /proc/self/fd/9 ]; then echo it has; fi\n")
    apt_get.chmod(0o755)
    text = (
        f"{PRELUDE}{NOTES}{apt.APT}\napt install a".replace("\npatiently dpkg", "\n: dpkg")
        .replace("export PATH=", f"export PATH={tmp_path}:")
    )  # fmt: skip
    done = run(local(text, lock))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_who_reads_waits_for_the_end_too(lock: Path) -> None:
    text = local(script([Read.of(Date)]), lock)
    with at_work(lock):
        assert list(marked(run(text).stdout.splitlines())) == ["busy"]
    assert list(marked(run(text).stdout.splitlines())) == ["out", "err"]


def test_who_only_reads_makes_no_lock(lock: Path) -> None:
    assert run(local(script([Read.of(Date)]), lock)).returncode == 0
    assert not lock.parent.exists()


def test_a_node_at_work_is_read_again_until_it_is_not(
    monkeypatch: pytest.MonkeyPatch, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = []

    def told(reads: list[Read], apart: bool) -> str:
        looks.append(reads)
        return "echo chaos-engine busy" if len(looks) < 3 else script(reads, apart)

    monkeypatch.setattr(batch, "script", told)
    nodes = Nodes("pi1", changes=False)
    with nodes.on():
        want([Read.of(Date)])
        gather()
        assert observe(Date) == "now"
    assert len(looks) == 3


def test_a_node_that_stays_at_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "script", lambda *_: "echo chaos-engine busy")
    monkeypatch.setattr(ask, "LOCK_SECONDS", -1)
    nodes = Nodes("pi1", changes=False)
    with nodes.on(), pytest.raises(NodeError, match="the process that lslocks shows"):
        observe(Date)


def synchronised(tmp_path: Path, lock: Path, *lines: str) -> list[str]:
    """Return the paths that `durable` synchronises where these are mounted."""
    (tmp_path / "mountinfo").write_text("".join(f"{line}\n" for line in lines))
    text = local(f"{PRELUDE}sync() {{ printf '%s\\0' \"$2\" >>{tmp_path}/synced; }}\ndurable", lock)
    done = run(text.replace("/proc/self/mountinfo", str(tmp_path / "mountinfo")))
    assert (done.returncode, done.stderr) == (0, "")
    return (tmp_path / "synced").read_text().split("\0")[:-1]


def escaped(path: Path) -> str:
    """Return a path as the kernel writes it in its list."""
    return "".join(f"\\{ord(c):03o}" if c in " \n\t\\" else c for c in str(path))


def test_each_disk_is_synchronised_once(tmp_path: Path, lock: Path) -> None:
    boot, bound = tmp_path / "boot", tmp_path / "bound"
    boot.mkdir()
    bound.mkdir()
    assert synchronised(
        tmp_path,
        lock,
        "1 0 8:1 / / rw - ext4 /dev/a rw",
        f"2 1 8:2 / {boot} rw shared:1 - vfat /dev/b rw",
        f"3 1 8:1 /x {bound} rw - ext4 /dev/a rw",
        f"4 1 0:9 / {tmp_path} rw - tmpfs tmpfs rw",
    ) == ["/", str(boot)]


@pytest.mark.parametrize("name", ["a b", "line\nbreak", "end\n", "back\\slash", "%s", "-f"])
def test_a_disk_with_an_odd_name_is_synchronised_too(tmp_path: Path, lock: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    line = f"1 0 8:2 / {escaped(place)} rw - ext4 /dev/b rw"
    assert synchronised(tmp_path, lock, line) == [str(place)]


@pytest.mark.parametrize(
    ("fstype", "source"),
    [
        ("fuse.any", "/dev/fuse"),
        ("fuse.any", "/dev/mmcblk0p2"),
        ("fuse.any", "odd:/dev/x"),
        ("nfs4", "var-log@10.0.0.1:/srv/log/pi1"),
        ("nfs", "nas:/dev/x"),
    ],
)
def test_what_users_and_servers_bring_is_never_asked_nor_what_is_below_it(
    tmp_path: Path, lock: Path, fstype: str, source: str
) -> None:
    """It may hang, or claim to be a disk. A disk below it is seen elsewhere, or is hidden by it."""
    home = tmp_path / "home"
    (home / "usb").mkdir(parents=True)
    assert synchronised(
        tmp_path,
        lock,
        "1 0 8:1 / / rw - ext4 /dev/a rw",
        f"2 1 8:2 / {home}/usb rw - ext4 /dev/b rw",
        f"3 1 0:7 / {home} rw - {fstype} {source} rw",
        f"4 1 8:3 / {home}/covered rw - ext4 /dev/c rw",
    ) == ["/"]


def test_a_disk_that_is_covered_by_another_mount_fails_nothing(tmp_path: Path, lock: Path) -> None:
    gone = "2 1 8:2 / /nowhere/usb rw - ext4 /dev/b rw"
    assert synchronised(tmp_path, lock, "1 0 8:1 / / rw - ext4 /dev/a rw", gone) == ["/"]
