"""Check whether services work, with programs and files that stand in for a node's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.api.exceptions import FactProcessError

from chaos_engine import templates
from chaos_engine.deploys.concern import DECLARED
from chaos_engine.deploys.proxy import CONCERNS as PROXY_CONCERNS
from chaos_engine.deploys.worker import CONCERNS as WORKER_CONCERNS
from chaos_engine.facts import health as module
from chaos_engine.facts.haproxy import MARK
from chaos_engine.facts.health import LIMIT_SECONDS, Check, Health, limited
from chaos_engine.facts.observe.batch import PART_SECONDS
from tests.unit.share import stand_in

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"

MOVED = {"/proc/": "proc/", "/sys/fs/cgroup/": "cgroup/", "/var/log/.": "log/.",
         "/var/log '": "log '", "/run/": "run/", "/usr/sbin/": "bin/"}  # fmt: skip
"""The folders that the checks read, and what stands in for them below the test's folder."""


CHECKS = {check.name: check for one in DECLARED.values() for check in one.health}


class Node:
    """A folder with what the checks read, and with programs that hide the real ones."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bin").mkdir()
        (root / "log").mkdir()
        stand_in(root / "bin")
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/mountinfo").symlink_to(root / "bin/mountinfo")

    def put(self, name: str, content: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def program(self, name: str, script: str) -> None:
        self.put(f"bin/{name}", f"#!/bin/sh\n{script}\n")
        (self.root / "bin" / name).chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        for path, name in MOVED.items():
            script = script.replace(path, f"{self.root}/{name}")
        return subprocess.run(
            ["sh", "-c", script],
            env={**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def works(self, concern: str) -> bool:
        return self.run(CHECKS[concern].command).returncode == 0


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


WITHOUT = {
    "preflight": "it changes nothing",
    "uncordon": "its operation looks at the node",
    "hosts_file": "its file is all there is to it",
    "packages": "what is not there does no work",
    "etcd_certificates": "etcd is asked by what the concern finds",
    "clock": "a fact of its own asks the kernel",
    "container_logs": "a fact of its own compares fstab with the mounts",
    "quiet": "its operation sees a program that writes again, if the settings want it off",
    "macvlan_network": "the address on it is asked by haproxy's check",
}
"""Why a concern has no check."""


def test_each_concern_has_a_check_or_there_is_a_reason() -> None:
    concerns = {one.__name__ for one in (*WORKER_CONCERNS, *PROXY_CONCERNS)}
    assert {name for name in concerns if not DECLARED[name].health} == set(WITHOUT)


def test_a_check_has_its_own_name() -> None:
    declared = [check for one in DECLARED.values() for check in one.health]
    assert len({check.name for check in declared}) == len(declared)


def test_all_checks_end_before_the_read_of_them_is_given_up() -> None:
    waiting = [check for check in CHECKS.values() if "timeout " in check.command]
    assert len(waiting) * LIMIT_SECONDS < PART_SECONDS


@pytest.mark.parametrize(
    ("swaps", "works"),
    [
        (HEADER, True),
        (None, True),  # a kernel without swap
        (f"{HEADER}/dev/zram0 partition\t524284\t0\t100\n", False),
        (f"{HEADER}/var/swap file\t65532\t30524\t-2\n", False),
    ],
)
def test_swap_in_use_is_seen(node: Node, swaps: str | None, works: bool) -> None:
    if swaps is not None:
        node.put("proc/swaps", swaps)
    assert node.works("swap") is works


@pytest.mark.parametrize(
    ("controllers", "works"), [("cpuset cpu io memory pids", True), ("cpuset cpu io pids", False)]
)
def test_missing_memory_controller_is_seen(node: Node, controllers: str, works: bool) -> None:
    node.put("cgroup/cgroup.controllers", f"{controllers}\n")
    assert node.works("kernel") is works


@pytest.mark.parametrize(
    ("journal", "works"),
    [("/run/log/journal/1/system.journal", True), ("/var/log/journal/1/system.journal", False)],
)
def test_journal_on_disk_is_seen(node: Node, journal: str, works: bool) -> None:
    node.program("systemctl", 'test "$*" = "show -p MainPID --value systemd-journald" && echo 77')
    (node.root / "proc/77/fd").mkdir(parents=True)
    (node.root / "proc/77/fd/9").symlink_to(journal)
    assert node.works("journald") is works


def test_journald_that_does_not_run_is_seen(node: Node) -> None:
    node.program("systemctl", "echo 0")
    assert not node.works("journald")


@pytest.mark.parametrize(("active", "info", "works"), [(0, 0, True), (0, 1, False), (3, 0, False)])
def test_docker_runs_and_answers(node: Node, active: int, info: int, works: bool) -> None:
    node.program("systemctl", f'test "$*" = "is-active --quiet docker" && exit {active}; exit 9')
    node.program("docker", f"exit {info}")
    assert node.works("docker") is works


def test_stopped_docker_is_not_asked(node: Node) -> None:
    node.program("systemctl", "exit 3")
    node.program("docker", f"touch {node.root}/asked")
    assert not node.works("docker")
    assert not (node.root / "asked").exists()


@pytest.mark.parametrize(("active", "taken", "works"), [(0, 0, True), (3, 0, False), (0, 1, False)])
def test_rsyslog_runs_and_a_message_is_taken(
    node: Node, active: int, taken: int, works: bool
) -> None:
    node.program("systemctl", f'test "$*" = "is-active --quiet rsyslog" && exit {active}; exit 9')
    node.program("logger", f'echo "$*" > {node.root}/message; exit {taken}')
    node.program("rsyslogd", ":")
    assert node.works("rsyslog") is works
    if works:
        assert (node.root / "message").read_text() == "--tag chaos-engine verify\n"


def test_log_share_is_written_and_nothing_stays(node: Node) -> None:
    assert node.works("log_mount")
    assert list((node.root / "log").iterdir()) == []


def test_log_share_that_cannot_be_written_is_seen(node: Node) -> None:
    shutil.rmtree(node.root / "log")
    assert not node.works("log_mount")


@pytest.fixture
def shim(node: Node) -> Iterator[socket.socket]:
    (node.root / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{node.root}/run/cri-dockerd.sock")
        server.listen()
        yield server


@pytest.mark.parametrize(
    ("answer", "works"),
    [
        (b"\0\0\6\4\0\0\0\0\0\0\5\0\0\x40\0", True),  # a settings frame of grpc-go
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", False),
        (b"", False),
    ],
)
def test_shim_greets(node: Node, shim: socket.socket, answer: bytes, works: bool) -> None:
    def serve() -> None:
        connection, _ = shim.accept()
        with connection:
            connection.recv(100)
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert node.works("cri_dockerd") is works
    thread.join(5)


def test_shim_without_socket_is_seen(node: Node) -> None:
    assert not node.works("cri_dockerd")


@pytest.mark.parametrize("answers", [True, False])
def test_proxys_address_is_asked_for(node: Node, answers: bool) -> None:
    assert node.works("haproxy"), "no other node has the script"
    node.program("haproxy_start.sh", f'# {MARK}\ntest "$*" = check && exit {0 if answers else 1}')
    assert node.works("haproxy") == answers


def test_own_script_has_the_mark_that_it_is_known_by() -> None:
    assert MARK in Path(templates.__file__).with_name("haproxy_start.sh.j2").read_text()


def test_a_script_of_somebody_elses_is_not_called(node: Node) -> None:
    """It might start HAProxy although the node is only read."""
    node.program("haproxy_start.sh", f"touch {node.root}/started; exit 1")
    assert node.works("haproxy")
    assert not (node.root / "started").exists()


def test_what_hangs_is_left_behind(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.2)
    begin = time.monotonic()
    # Only KILL ends it
    assert node.run(f"( {limited('trap : TERM; sleep 9; true')} ) >/dev/null 2>&1").returncode
    assert time.monotonic() - begin < 8


def test_status_of_a_limited_check_is_its_own(node: Node) -> None:
    assert node.run(limited("exit 7")).returncode == 7
    assert node.run(limited("""echo 'a "b"' | grep -q '"b"'""")).returncode == 0


def test_each_check_that_fails_is_a_line(node: Node) -> None:
    checks = (
        Check("docker", "false", "it's down"),
        Check("swap", "echo noise; true", "x"),
        Check("kernel", "nonsense-program", "off; reboot"),
    )
    run = node.run(Health().command(checks).get_raw_value())
    assert (run.returncode, run.stderr) == (0, "")
    assert Health().process(run.stdout.splitlines()) == {
        "docker": "it's down",
        "kernel": "off; reboot",
    }


def test_whole_command_is_valid_shell() -> None:
    text = Health().command(tuple(CHECKS.values())).get_raw_value()
    assert subprocess.run(["sh", "-n", "-c", text], check=False).returncode == 0


def test_nothing_wrong_is_nothing_said() -> None:
    assert Health().process([]) == Health().default() == {}


def test_a_line_that_makes_no_sense_is_an_error() -> None:
    with pytest.raises(FactProcessError, match="unexpected answer"):
        Health().process(["nonsense"])
