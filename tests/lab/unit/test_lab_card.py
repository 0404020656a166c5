"""A node's card: what it has after a power cut that loses what was not on it, how slow it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.lab import card, card_speed, cluster, host, nodes, paths, plan
from tests.lab.card import Card
from tests.lab.card_speed import SPEEDS
from tests.lab.cgroup import Group
from tests.lab.errors import LabError

_MIB = 64

_NODE = """
import subprocess, sys
from pathlib import Path
from tests.lab import linux
from tests.lab.card import Card
from tests.lab.card_speed import SPEEDS
from tests.lab.cgroup import Group
lab, name, folder, mib, speed, script, *layers = sys.argv[1:]
Group.of(lab, name).adopt()
linux.enter_private_mounts()
card = Card(Path(folder), int(mib), SPEEDS.get(speed))
card.insert([Path(layer) for layer in layers], cached=False)
card.synchronise()
card.limit()
subprocess.run(["sh", "-euc", script], cwd=card.root)
"""
"""Has a card as a node's power supply has it, and runs a script there."""


class Node:
    """Processes with a card, in a control group of their own: all that a lab has of its pi1."""

    name = "pi1"

    def __init__(self, folder: Path) -> None:
        self.lab = f"unit-{os.getpid()}"
        self.card = Card(paths.LabPaths(self.lab).disk(self.name), _MIB)
        self.group = Group.of(self.lab, self.name)
        self.layers = [folder / "top", folder / "bottom"]
        self.speed = ""
        where = paths.LabPaths(self.lab)
        where.run.mkdir(parents=True)
        made = plan.make(name=self.lab, workers=(self.name,), card=[self.name])
        where.plan.write_text(made.to_json())

    def run(self, script: str) -> subprocess.Popen[str]:
        """Insert the card and begin a script in its root; the boot partition is ``../boot``."""
        place = [self.card.folder, _MIB, self.speed]
        words = [self.lab, self.name, *place, script, *self.layers]
        return subprocess.Popen(
            [sys.executable, "-c", _NODE, *map(str, words)],
            cwd=paths.CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def cut(self, *, lose: bool) -> None:
        """Take its power away."""
        nodes.cut(self.lab, self.name, lose=lose)

    def does(self, script: str, *, lose: bool) -> str:
        """Run a script, cut the power when it says that it is ready; what it said before."""
        with self.after(script) as (_, said):
            self.cut(lose=lose)
        return said

    @contextmanager
    def after(self, script: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """Run a script, and let the node stay on after it; what it said."""
        said = []
        with self.run(f"{script}\necho ready; exec sleep infinity") as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line == "ready\n":
                    break
                said.append(line)
            try:
                yield process, "".join(said)
            finally:
                self.group.kill()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """Return a node whose lab has folders that no other lab has."""
    for module in (paths, host):
        monkeypatch.setattr(module, "RUN", tmp_path / "run")
    monkeypatch.setattr(paths, "DISKS", tmp_path / "disks")
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    node = Node(tmp_path)
    for layer in node.layers:
        layer.mkdir()
        (layer / "which").write_text(layer.name)
        (layer / layer.name).write_text(layer.name)
    yield node
    Group.of(node.lab).kill()
    node.card.wait_until_out()
    node.card.lift()


_SEE = "for file in which top bottom made ../boot/made; do echo $file=$(cat $file 2>&1); done"


def test_a_fresh_root_holds_what_is_in_the_layers(node: Node) -> None:
    said = node.does(_SEE, lose=False)
    assert said.startswith("which=top\ntop=top\nbottom=bottom\nmade=cat: made: No such file")


@pytest.mark.parametrize("lose", [True, False])
def test_what_is_synchronised_survives_a_power_cut(node: Node, lose: bool) -> None:
    node.does("for at in . ../boot; do echo kept >$at/made; sync -f $at; done", lose=lose)
    assert node.does(_SEE, lose=lose).endswith("\nmade=kept\n../boot/made=kept\n")


def test_what_is_not_synchronised_is_empty_or_gone_after_a_power_cut_that_loses(node: Node) -> None:
    node.does("for at in . ../boot; do echo lost >$at/made; done; echo old >which", lose=True)
    # an entry may have got into the journal, its content has not
    assert "lost" not in node.does(_SEE, lose=True)


def test_nothing_is_lost_by_a_power_cut_that_does_not_lose(node: Node) -> None:
    node.does("for at in . ../boot; do echo kept >$at/made; done", lose=False)
    assert node.does(_SEE, lose=False).endswith("\nmade=kept\n../boot/made=kept\n")


_REPLACE = """
number=0
while :; do
  number=$((number + 1))
  { seq 2000; echo $number; } >draft
  sync draft
  mv draft file
  sync .
  echo $number
done
"""


def test_a_file_that_is_replaced_with_care_is_old_or_new(node: Node) -> None:
    with node.run(_REPLACE) as process:
        assert process.stdout is not None
        last = 0
        while last < 5:
            last = int(process.stdout.readline())
        node.cut(lose=True)
        for line in process.stdout:
            last = int(line)
    content = [int(line) for line in node.does("cat file", lose=True).split()]
    assert content[:-1] == list(range(1, 2001))
    assert content[-1] in (last, last + 1)


def test_a_file_that_is_replaced_without_care_is_whole_too(node: Node) -> None:
    """ext4 writes the new content out before the name; an overlay of it does not."""
    node.does(
        "echo old >file; sync -f .; echo new >draft; mv draft file; sync -f ../boot", lose=True
    )
    assert node.does("cat file", lose=True) in ("old\n", "new\n")


def test_a_node_without_a_card_can_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "RUN", tmp_path)
    where = paths.LabPaths("lab")
    where.run.mkdir()
    where.plan.write_text(plan.make(name="lab", workers=("pi1",)).to_json())
    with pytest.raises(LabError, match=r"pi1 has no card.*--card pi1"):
        nodes.cut("lab", "pi1", lose=True)


_limited = pytest.mark.skipif(
    card_speed.controller() is None, reason="this computer has no cgroup v1 controller blkio"
)

_POOR = asdict(SPEEDS["poor"])

_MEASURE = """
seconds() { # NAME COMMAND...
  name=$1; shift; begin=$(date +%s%N); "$@"; end=$(date +%s%N)
  echo "$name $(((end - begin) / 1000000))e-3"
}
buffered() { head -c 10000000 /dev/zero >file; sync file; }
seconds buffered buffered
seconds synchronous dd if=/dev/zero of=small bs=4k count=60 oflag=dsync status=none
seconds read dd if=file of=/dev/null bs=4k count=400 iflag=direct status=none
"""


@_limited
def test_a_card_is_as_slow_as_its_speed_says(node: Node) -> None:
    node.speed = "poor"
    with node.after(_MEASURE) as (_, said):
        assert node.card.limits() == _POOR
    took = {name: float(value) for name, value in map(str.split, said.splitlines())}
    nearly = 0.8  # the kernel counts in slices of time, and nothing waits in the first
    assert took["buffered"] >= nearly * 10_000_000 / _POOR["write_bps"], took
    # At least the block and a flush
    assert took["synchronous"] >= nearly * 60 * 2 / _POOR["write_iops"], took
    assert took["read"] >= nearly * 400 / _POOR["read_iops"], took


@_limited
def test_a_power_cut_does_not_wait_for_a_slow_card(node: Node) -> None:
    node.speed = "poor"
    # Twice what it writes in a second waits in memory, and a process for the card
    with node.after("head -c 20000000 /dev/zero >file; sync file & sleep 0.1"):
        begin = time.monotonic()
        node.cut(lose=False)
        took = time.monotonic() - begin
    assert took < 1
    assert node.does("wc -c <file", lose=False) == "20000000\n"


def test_a_card_without_a_speed_has_no_limits(node: Node) -> None:
    with node.after(":"):
        assert node.card.limits() == {}


@_limited
@pytest.mark.parametrize("killed", [False, True])
def test_no_limit_is_left_by_a_lab_that_is_down(node: Node, killed: bool) -> None:
    node.speed = "poor"
    with node.after(":"):
        loop = node.card.device()
        assert loop is not None
        device = card.number(loop)
        if killed:
            node.group.kill()
            node.card.wait_until_out()
            assert card_speed.limits(device) == _POOR
        cluster.down(node.lab)
        node.card.wait_until_out()
    assert card_speed.limits(device) == {}


@_limited
def test_the_next_card_on_a_killed_labs_device_has_its_own_speed(node: Node) -> None:
    node.speed = "poor"
    with node.after(":"):
        before = node.card.device()
    # The note is lost, as if this were another lab's
    (node.card.folder / "limited").unlink()
    node.speed = ""
    with node.after(":"):
        if node.card.device() != before:
            pytest.skip("somebody else has got the loop device")
        assert node.card.limits() == {}


def _killed(node: Node) -> str:
    """Return a lab that was killed, and whose loop devices the node has got meanwhile."""
    folder = paths.LabPaths("killed").disk("pi1")
    folder.mkdir(parents=True)
    shutil.copy(node.card.folder / "limited", folder)
    return "killed"


@_limited
def test_a_killed_lab_that_is_taken_down_leaves_another_labs_limits(node: Node) -> None:
    node.speed = "poor"
    with node.after(":"):
        cluster.down(_killed(node))
        assert node.card.limits() == _POOR


@_limited
def test_a_killed_lab_that_is_taken_down_frees_a_device_that_is_no_labs(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node.speed = "poor"
    with node.after(":"), monkeypatch.context() as elsewhere:
        elsewhere.setattr(paths, "DISKS", tmp_path / "others")
        cluster.down(_killed(node))
        assert node.card.limits() == {}


@pytest.mark.parametrize(
    ("mount", "files", "found"),
    [
        ("cgroup {} cgroup rw,relatime,blkio 0 0", True, True),
        ("cgroup {} cgroup rw,relatime,blkio 0 0", False, False),
        ("cgroup {} cgroup rw,relatime,cpu,cpuacct 0 0", True, False),
        ("cgroup2 {} cgroup2 rw,nosuid,nodev 0 0", True, False),
    ],
)
def test_only_the_first_control_groups_limit_devices(
    tmp_path: Path, mount: str, files: bool, found: bool
) -> None:
    if files:
        (tmp_path / "blkio.throttle.write_bps_device").touch()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"proc /proc proc rw 0 0\n{mount.format(tmp_path)}\n")
    assert card_speed.controller(mounts) == (tmp_path if found else None)


def test_a_computer_that_cannot_limit_cards_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(card_speed, "controller", lambda: None)
    slow = plan.make(name="lab", workers=("pi1",), card=["pi1"], card_speed="good")
    cluster.say_if_no_limits(slow)
    assert "--card-speed good: cards stay as fast" in capsys.readouterr().err
    card_speed.limit("7:0", SPEEDS["good"])
    assert card_speed.limits("7:0") == {}
