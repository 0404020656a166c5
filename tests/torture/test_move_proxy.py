"""The proxy moves to another node by the commands of docs/proxy.md."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.cluster.virtual_cluster import CHECKOUT, own_lab
from tests.lab.paths import LabPaths
from tests.pages import DOCS, Block, blocks

OLD, NEW = "pi5", "pi6"
ANSWERS = "sudo haproxy_start.sh check"


def moving() -> Block:
    """The block of commands on the page."""
    (found,) = (block for block in blocks(DOCS / "proxy.md") if f"--limit {NEW}" in block.code)
    return found


def test_the_address_moves_and_both_nodes_are_as_wanted(tmp_path: Path) -> None:
    with own_lab("move", "MOVE_KEEP", "--workers", f"{OLD},{NEW}") as cluster:
        cluster.changed("deploy.py")
        cluster.run("ssh", OLD, ANSWERS)

        project = tmp_path / "project"
        shutil.copytree(CHECKOUT / "group_data", project / "group_data")
        shutil.copy(CHECKOUT / "deploy.py", project)
        (project / "files").symlink_to(LabPaths(cluster.name).files)
        wanted = re.search(r"^# inventory\.py: (proxy = .*)$", moving().code, re.MULTILINE)
        assert wanted
        inventory = (CHECKOUT / "inventory.py").read_text()
        moved = re.sub(r"^proxy = .*$", wanted[1], inventory, flags=re.MULTILINE)
        (project / "inventory.py").write_text(moved)
        within = ("env", "-C", str(project))

        for command in moving().commands:
            cluster.run(*within, "sh", "-c", f"yes '' | {command}")
        cluster.run("ssh", NEW, ANSWERS)
        assert "lb-hairpin" not in cluster.exec(OLD, "ip link")
        both = ("--limit", OLD, "--limit", NEW)
        again = cluster.run(*within, "pyinfra", "inventory.py", "deploy.py", "--dry", *both)
        for node in (OLD, NEW):
            assert re.search(rf"\[{node}\] +as wanted", again.text), again.text
