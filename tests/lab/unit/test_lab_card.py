"""What a node's card has after a power cut that loses what was not on it yet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import nodes, paths, plan
from tests.lab.card import Card
from tests.lab.cgroup import Group
from tests.lab.errors import LabError

_MIB = 64

_NODE = """
import subprocess, sys
from pathlib import Path
from tests.lab import linux
from tests.lab.card import Card
from tests.lab.cgroup import Group
group, folder, mib, script, *layers = sys.argv[1:]
Group.of(group).adopt()
linux.enter_private_mounts()
card = Card(Path(folder), int(mib))
card.insert([Path(layer) for layer in layers], cached=False)
card.synchronise()
subprocess.run(["sh", "-euc", script], cwd=card.root)
"""
"""Has a card as a node's power supply has it, and runs a script there."""


class Node:
    """Processes with a card, in a control group of their own."""

    def __init__(self, folder: Path) -> None:
        self.card = Card(folder / "disk", _MIB)
        self.group = Group.of(f"unit-card-{os.getpid()}")
        self.layers = [folder / "top", folder / "bottom"]

    def run(self, script: str) -> subprocess.Popen[str]:
        """Insert the card and begin a script in its root; the boot partition is ``../boot``."""
        words = [self.group.path.name, self.card.folder, _MIB, script, *self.layers]
        return subprocess.Popen(
            [sys.executable, "-c", _NODE, *map(str, words)],
            cwd=paths.CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
        )

    def cut(self, *, lose: bool) -> None:
        """Take its power away."""
        if lose:
            self.group.freeze()
            self.card.lose(self.group.processes())
        self.group.kill()
        self.card.wait_until_out()

    def does(self, script: str, *, lose: bool) -> str:
        """Run a script, cut the power when it says that it is ready; what it said before."""
        said = []
        with self.run(f"{script}\necho ready; exec sleep infinity") as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line == "ready\n":
                    break
                said.append(line)
            self.cut(lose=lose)
        return "".join(said)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    for layer in node.layers:
        layer.mkdir()
        (layer / "which").write_text(layer.name)
        (layer / layer.name).write_text(layer.name)
    yield node
    node.cut(lose=False)


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
