"""Test work on the log share: hostile things in it, and the copy of HAProxy's configuration."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from chaos_engine.facts.haproxy import CopyState, SharedCopy
from chaos_engine.facts.manifest import DIRECTORY, Manifest
from chaos_engine.facts.mounts import Mount
from chaos_engine.facts.share import CONFINED, TARGET, UNCONFINED, confined
from chaos_engine.facts.systemd import RECORDS
from chaos_engine.operations.engine.shell import NOTES
from chaos_engine.operations.files import File
from chaos_engine.operations.haproxy import shared_copy
from chaos_engine.operations.haproxy.container import OWN
from chaos_engine.operations.haproxy.shared_copy import (
    SOCKETS,
    can_be_written,
    obstacle,
    share_is_away,
    write_failure,
)
from chaos_engine.operations.undo.concerns import UNDOING, changes
from tests.unit.scripts import PLACES, change_of
from tests.unit.share import stand_in

AS_ROOT = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--mount", "true"], stderr=subprocess.DEVNULL, check=False
    ).returncode
    != 0,
    reason="only root has mount namespaces of its own",
)

TOO_LONG = ((124, ""), (125, ""))
"""Status and output of what was ended by ``timeout``; 125 is that of uutils before 0.6."""


def run(script: str, *words: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script by sh, with words after it."""
    return subprocess.run(
        ["sh", "-c", script, "sh", *words],
        env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def on(share: Path, script: str, *words: str, seconds: int = 5) -> tuple[int, str]:
    """Run a script on a share that is a folder; return its status and what it printed."""
    ran = run(
        f'set -eu\n{CONFINED}\nconfined "$@" || exit', str(seconds), str(share), script, *words
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("MARK\n")
    return tmp_path / "share"


@AS_ROOT
@pytest.mark.parametrize(
    ("script", "status"),
    [
        ('cat "$1/link"', 1),
        ('cat "$1/folder/file"', 1),
        ('echo changed >"$1/link"', 2),
        ('touch "$1/folder/new"', 1),
        ('chown 7 "$1/link"', 1),
        ('chmod 600 "$1/link"', 1),
        ('mkdir -p "$1/folder/new"', 1),
        ('cp "$1/link" "$1/copy"', 1),
        ('head -c 1 "$1/device"', 1),
        ('"$1/program"', 126),
        ('cd "$1/folder" && cat file', 2),
    ],
)
def test_no_link_is_followed_no_device_opened_and_no_program_run(
    share: Path, script: str, status: int
) -> None:
    (share / "link").symlink_to(share.parent / "outside/file")
    (share / "folder").symlink_to(share.parent / "outside")
    os.mknod(share / "device", 0o666 | 0o020000, os.makedev(1, 5))
    (share / "program").write_text("#!/bin/sh\necho MARK\n")
    (share / "program").chmod(0o755)
    before = change_of(share.parent / "outside/file")
    ended, said = on(share, script, str(share))
    assert (ended, "MARK" in said) == (status, False)
    assert change_of(share.parent / "outside/file") == before
    assert [path.name for path in (share.parent / "outside").iterdir()] == ["file"]


@AS_ROOT
def test_what_is_done_there_is_done_and_said(share: Path) -> None:
    (share / "link").symlink_to("/nowhere")
    status, said = on(
        share,
        'echo "$2" >"$1/file"; rm "$1/link"; readlink /proc/self/exe; exit 3',
        str(share),
        "a b",
    )
    assert (status, len(said.splitlines())) == (3, 1)
    assert (share / "file").read_text() == "a b\n"
    assert sorted(path.name for path in share.iterdir()) == ["file"]


@AS_ROOT
def test_nothing_of_it_stays_mounted(share: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    on(share, "true")
    assert Path("/proc/self/mountinfo").read_text() == before


@AS_ROOT
def test_a_file_that_nobody_writes_holds_nobody(share: Path) -> None:
    os.mkfifo(share / "fifo")
    begin = time.monotonic()
    assert on(share, 'echo before; cat "$1/fifo"', str(share), seconds=1) in TOO_LONG
    assert time.monotonic() - begin < 4


def test_what_ignores_its_end_holds_nobody(share: Path) -> None:
    """A process that waits in the kernel outlives it, with the lock and an output open."""
    programs = share.parent / "bin"
    programs.mkdir()
    stand_in(programs)
    begin = time.monotonic()
    script = f'exec 9>&1\n{confined(f"{programs}/mountinfo")}\nconfined "$@"'
    ran = run(script, "1", str(share), "trap '' TERM; sleep 20", path=str(programs))
    assert (ran.returncode, ran.stdout) in TOO_LONG
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize("broken", ["unshare", "mount", "mountinfo"])
def test_where_links_could_be_followed_nothing_is_done(share: Path, broken: str) -> None:
    """A kernel before 5.10 accepts the option, and ignores it."""
    programs = share.parent / "bin"
    programs.mkdir()
    stand_in(programs)
    if broken == "mountinfo":
        (programs / "mount").write_text("#!/bin/sh\n")
        (programs / "mountinfo").write_text("1 1 0:1 / / rw - t s rw\n")
    else:
        (programs / broken).write_text(f"#!/bin/sh\nexit {UNCONFINED}\n")
    ran = run(
        f'{confined(f"{programs}/mountinfo")}\nconfined "$@"',
        *("5", str(share), 'echo done; touch "$1/done"', str(share)),
        path=str(programs),
    )
    assert (ran.returncode, ran.stdout) == (UNCONFINED, "")
    assert list(share.iterdir()) == []


SHARE = Mount("/var/log", "etcd1:/pi5", "fuse.glusterfs", (), (), "/", "0:50", 60, 25)


def test_a_log_share_that_is_away_is_left_alone() -> None:
    ram = replace(SHARE, source="var-log-in-ram", fstype="tmpfs", number=61, parent=60)
    by_nfs = replace(SHARE, source="var-log@10.0.0.1:/srv/log/pi5", fstype="nfs4")
    for share in (SHARE, by_nfs):
        assert not share_is_away((share,), shared=True)
    assert share_is_away((SHARE, ram), shared=True)
    assert share_is_away((), shared=True)
    # a node that keeps its logs on its own disk
    assert not share_is_away((), shared=False)


CONFIG = File("/var/log/haproxy/haproxy.cfg", "global\n")
LINK = "/var/log/haproxy/run"
GOOD = CopyState(noted=True, config="same", link="same")


@pytest.mark.parametrize(
    ("found", "work", "people"),
    [
        (GOOD, False, ""),
        (replace(GOOD, config="other"), True, ""),
        (replace(GOOD, link="other"), True, ""),
        (replace(GOOD, config="folder"), False, "haproxy.cfg is a folder, but has to be a file"),
        (replace(GOOD, config="folder", link="other"), True, "haproxy.cfg is a folder"),
        (replace(GOOD, config="unknown", link="unknown"), False, "did not answer in time"),
    ],
)
def test_what_is_to_be_done_and_what_people_have_to_do(
    found: CopyState, work: bool, people: str
) -> None:
    assert can_be_written(found, CONFIG, LINK) is work
    said = obstacle(found, CONFIG, LINK)
    assert people in said
    assert bool(said) == bool(people)
    assert bool(write_failure(found, CONFIG, LINK)) is work


def test_only_what_is_on_the_share_counts() -> None:
    assert not can_be_written(replace(GOOD, link="other"), CONFIG, None)
    assert not can_be_written(replace(GOOD, config="other"), None, LINK)
    assert not obstacle(replace(GOOD, config="folder"), None, LINK)


def test_the_copys_state_is_read() -> None:
    assert SharedCopy().parse(["same", "same"]) == GOOD
    assert SharedCopy().parse(["new", "folder", "other"]) == CopyState(False, "folder", "other")
    assert SharedCopy().parse(["unknown"]) == CopyState(True, "unknown", "unknown")
    with pytest.raises(KeyError):
        SharedCopy().parse(["MARK"])


class Node:
    """A folder in place of a node's, and its share; namespaces are real."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.share = root / "log"
        self.share.mkdir()
        (root / "outside").mkdir()
        (root / "outside/haproxy.cfg").write_text("MARK\n")
        own = Path(self.localise(f"{OWN}/haproxy.cfg"))
        own.parent.mkdir(parents=True)
        own.write_text("global\n")
        self.config = File(f"{self.share}/haproxy/haproxy.cfg", "global\n")
        self.link = f"{self.share}/haproxy/run"
        self.leads_to = self.localise(SOCKETS)
        self.words = (self.config.path, self.config.sha256, self.link, self.leads_to)

    def localise(self, text: str) -> str:
        return (
            text.replace(RECORDS, f"{self.root}/run")
            .replace(DIRECTORY, f"{self.root}/var")
            .replace(TARGET, str(self.share))
        )

    def look(self) -> CopyState:
        command = SharedCopy().command(*self.words).get_raw_value()
        ran = run(self.localise(command))
        assert "MARK" not in ran.stdout + ran.stderr
        assert ran.returncode == 0, ran.stderr
        return SharedCopy().parse(ran.stdout.splitlines())

    def publish(self, whatever: bool = False) -> str:
        ran = run(f"concern=haproxy\n{self.localise(shared_copy._SCRIPT)}", *self.words)
        assert ran.returncode == 0, ran.stderr
        assert "MARK" not in ran.stdout + ran.stderr
        names = [path.name for path in self.root.rglob("*")]
        assert whatever or not [name for name in names if name.endswith((".chaos-new", ".chaos"))]
        return ran.stdout

    @property
    def noted(self) -> list[str]:
        lines = (self.root / "var/manifest").read_text().replace(f"{self.root}/", "").splitlines()
        return [" ".join(line.split("\t")[1:4]) for line in lines]

    def original(self, path: str) -> Path:
        return Path(f"{self.root}/var/originals{path}")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def written(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return what shows whether a folder, or something in it, was changed or made."""
    return {
        str(path): (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_size, stat.st_ctime_ns)
        for path in (folder, *folder.iterdir())
        for stat in (path.lstat(),)
    }


@AS_ROOT
def test_the_copy_is_written_and_noted_once(node: Node) -> None:
    assert node.look() == CopyState(False, "other", "other")
    assert node.publish() == ""
    assert node.look() == GOOD
    assert Path(node.config.path).read_text() == "global\n"
    assert os.readlink(node.link) == node.leads_to
    digest = hashlib.sha256(b"global\n").hexdigest()
    assert node.noted == [
        "folder created log/haproxy",
        "file created log/haproxy/haproxy.cfg",
        "file created log/haproxy/run",
        f"wrote - {digest} log/haproxy/haproxy.cfg",
    ]
    assert not (node.root / "var/originals").exists()
    before = node.noted
    node.publish()
    assert node.noted == before


def plant(node: Node, what: str, path: Path) -> None:
    """Put something on the share that is not a copy."""
    outside = node.root / "outside"
    path.parent.mkdir(exist_ok=True)
    if what == "link":
        path.symlink_to(outside / "haproxy.cfg")
    elif what == "link to a folder":
        path.symlink_to(outside)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "device":
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif what == "folder":
        path.mkdir()
    else:
        path.write_text("another\n")


@AS_ROOT
@pytest.mark.parametrize("what", ["link", "fifo", "device", "huge", "file", "link to a folder"])
@pytest.mark.parametrize("place", ["haproxy", "haproxy/haproxy.cfg", "haproxy/run"])
def test_whatever_is_in_its_place_makes_room_and_leads_nowhere(
    node: Node, what: str, place: str
) -> None:
    plant(node, what, node.share / place)
    outside = node.root / "outside"
    before = written(outside)
    begin = time.monotonic()
    assert node.look().config == "other" or place == "haproxy/run"
    assert node.publish() == ""
    assert node.look() == GOOD
    assert time.monotonic() - begin < 5
    assert written(outside) == before
    assert not (node.share / "haproxy").is_symlink()
    kept = node.original(f"{node.share}/{place}")
    if place != "haproxy" and what in ("link", "link to a folder", "file"):
        assert kept.is_symlink() == what.startswith("link")
        assert f"file original log/{place}" in node.noted
    else:
        assert not os.path.lexists(kept)


@AS_ROOT
@pytest.mark.parametrize(
    "change", [lambda path: path.chmod(0o666), lambda path: os.chown(path, 7, 8)]
)
def test_a_copy_of_another_owner_or_mode_is_written_anew(node: Node, change: object) -> None:
    node.publish()
    assert callable(change)
    change(Path(node.config.path))
    assert node.look().config == "other"
    node.publish()
    assert node.look() == GOOD


@AS_ROOT
def test_a_folder_in_the_copys_place_is_left_to_people(node: Node) -> None:
    Path(node.config.path).mkdir(parents=True)
    assert node.look().config == "folder"
    assert "not all could be written" in node.publish()
    assert node.look() == replace(GOOD, config="folder")


@AS_ROOT
def test_a_folder_in_the_links_place_is_moved_aside(node: Node) -> None:
    """Such a folder held the socket, and may hold the configuration."""
    Path(node.link).mkdir(parents=True)
    (Path(node.link) / "admin.sock").touch()
    (Path(node.link) / "haproxy.cfg").write_text("old\n")
    node.publish()
    assert node.look() == GOOD
    assert Path(f"{node.link}.old/haproxy.cfg").read_text() == "old\n"
    assert not Path(f"{node.link}.old/admin.sock").exists()


@AS_ROOT
def test_folders_that_are_exchanged_in_mid_run_lead_nowhere(node: Node) -> None:
    outside = node.root / "outside"
    before = written(outside)
    swap = (
        f'while :; do mv -T "{node.share}/haproxy" "{node.share}/aside"; '
        f'ln -s "{outside}" "{node.share}/haproxy"; rm "{node.share}/haproxy"; '
        f'mv -T "{node.share}/aside" "{node.share}/haproxy"; done 2>/dev/null'
    )
    node.publish()
    swapping = subprocess.Popen(["sh", "-c", swap])
    try:
        for _ in range(10):
            node.publish(whatever=True)
            node.look()
    finally:
        swapping.kill()
        swapping.wait()
    assert written(outside) == before


def undo(node: Node, *calls: str) -> str:
    """Run undo's functions on the share."""
    script = f"set -eu\nconcern=haproxy\n{PLACES}{NOTES}{UNDOING}\n" + "\n".join(calls)
    ran = run(node.localise(script))
    assert ran.returncode == 0, ran.stderr
    assert "MARK" not in ran.stdout + ran.stderr
    return ran.stdout


@AS_ROOT
@pytest.mark.parametrize("what", ["link", "fifo", "device", "huge", "file"])
def test_undo_takes_what_is_there_away_and_leads_nowhere(node: Node, what: str) -> None:
    node.publish()
    Path(node.config.path).unlink()
    plant(node, what, Path(node.config.path))
    before = written(node.root / "outside")
    said = undo(
        node,
        f"set_aside {node.config.path}",
        f"remove_file {node.config.path}",
        f"remove_file {node.link}",
        f"drop_folder {node.share}/haproxy",
    )
    kept = node.root / f"var/aside{node.config.path}"
    if what == "file":
        assert kept.read_text() == "another\n"
        assert not (node.share / "haproxy").exists()
    else:  # it is asked for files only
        assert not os.path.lexists(kept)
        assert "is not ours, and is no file that is small enough" in said
        assert [path.name for path in (node.share / "haproxy").iterdir()] == ["haproxy.cfg"]
    assert written(node.root / "outside") == before


@AS_ROOT
@pytest.mark.parametrize("what", ["link", "fifo", "device", "huge", "file", "nothing"])
def test_undo_restores_what_was_there_and_leads_nowhere(node: Node, what: str) -> None:
    plant(node, "file", Path(node.config.path))
    node.publish()
    Path(node.config.path).unlink()
    if what != "nothing":
        plant(node, what, Path(node.config.path))
    before = written(node.root / "outside")
    assert undo(node, f"put_back {node.config.path}") == ""
    assert Path(node.config.path).read_text() == "another\n"
    assert written(node.root / "outside") == before


@AS_ROOT
def test_no_program_of_others_comes_back_as_an_original(node: Node) -> None:
    planted = Path(node.config.path)
    plant(node, "file", planted)
    planted.chmod(0o6711)
    node.publish()
    kept = node.root / f"var/originals{planted}"
    assert kept.stat().st_mode & 0o7777 == 0o711, "what few could read few can read afterwards"
    # as an earlier version has kept it
    kept.chmod(0o6755)
    planted.unlink()
    undo(node, f"put_back {planted}")
    assert planted.read_text() == "another\n"
    assert planted.stat().st_mode & 0o6000 == 0


@AS_ROOT
def test_undo_goes_on_where_the_share_has_something_else(node: Node) -> None:
    plant(node, "file", Path(node.config.path))
    node.publish()
    (node.share / "haproxy").rename(node.share / "aside")
    plant(node, "link to a folder", node.share / "haproxy")
    before = written(node.root / "outside")
    said = undo(
        node,
        f"put_back {node.config.path}",
        f"remove_file {node.config.path}",
        f"remove_file {node.link}",
        f"empty_folder {node.share}/haproxy",
        f"drop_folder {node.share}/haproxy",
    )
    assert written(node.root / "outside") == before
    assert "cannot be restored on the share; its original is kept in " in said
    kept = node.root / f"var/aside{node.config.path}.original"
    assert kept.read_text() == "another\n"


@AS_ROOT
@pytest.mark.parametrize("what", ["link", "fifo", "device", "huge", "file"])
def test_what_the_node_remembers_is_looked_at_and_leads_nowhere(
    node: Node, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it is below another folder here
    monkeypatch.setattr("chaos_engine.facts.share.on_share", lambda path: True)
    node.publish()
    Path(node.config.path).unlink()
    plant(node, what, Path(node.config.path))
    begin = time.monotonic()
    ran = run(node.localise(Manifest().command()))
    assert time.monotonic() - begin < 5
    found = Manifest().parse(ran.stdout.splitlines())
    state = found.files[node.config.path]
    assert (state.kind, state.sha256 is not None) == {
        "link": ("link", False),
        "huge": ("file", False),
        "file": ("file", True),
    }.get(what, ("other", False))
    todo = changes(found, "haproxy")
    assert todo.leave == ((node.config.path,) if what == "huge" else ())
    assert todo.aside == ((node.config.path,) if what == "file" else ())
