"""A node whose sudo asks for a password: asked for once, good through the reboot."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator

import pytest

from tests.acceptance.suites import OPTIONS
from tests.virtual_cluster import CHECKOUT, LAB, Cluster

NODE = "pi7"
PASSWORD = "ubuntu"


@pytest.fixture(scope="module")
def asking() -> Iterator[Cluster]:
    """A lab with one worker whose sudo asks."""
    cluster = Cluster("password")
    cluster.down()
    cluster.up("--workers", NODE, "--sudo-password", NODE, *OPTIONS)
    yield cluster
    cluster.down()


def at_terminal(cluster: Cluster, *arguments: str) -> tuple[int, str, int]:
    """Run pyinfra at a terminal and type the password when asked: its status, what it printed, and
    how often it asked."""
    command = [str(LAB), "--name", cluster.name, "run", "--", "pyinfra", "inventory.py", *arguments]
    child, terminal = pty.fork()
    if not child:
        os.chdir(CHECKOUT)
        os.execv(command[0], command)
    printed, asked = "", 0
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side has closed
            break
        if not data:
            break
        printed += data.decode(errors="replace")
        if printed.count("sudo password: ") > asked:
            asked += 1
            os.write(terminal, f"{PASSWORD}\n".encode())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed, asked


def test_password_is_asked_once_for_a_deploy_with_a_reboot(asking: Cluster) -> None:
    before = asking.boot_id(NODE)
    arguments = ("deploy.py", "-y", "--limit", NODE, "--use-sudo-password")
    status, printed, asked = at_terminal(asking, *arguments)
    assert status == 0, printed
    assert asked == 1
    assert PASSWORD not in printed.replace("ubuntu@", "")
    assert asking.boot_id(NODE) != before
    status, printed, asked = at_terminal(asking, *arguments)
    assert status == 0, printed
    assert "Success" not in printed.split("Results:")[0]
