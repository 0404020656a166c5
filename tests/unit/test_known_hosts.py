"""Remove host keys from known_hosts, and compare with ssh-keygen where it does the same."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from chaos_engine.operations.membership.known_hosts import (
    count_in,
    known_name,
    names_and_files,
    remove_from,
    without,
)
from tests.unit.nodes import Nodes

KEYS = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZgk6tGLXQnPxMRLWi2FzyZ7yKyzUWH2xGtJRhsYJ6Y",
]
OLD, OTHER = KEYS
NAMES = ["pi3", "192.168.1.52"]


def lines(*found: str) -> bytes:
    return "".join(f"{line}\n" for line in found).encode()


@pytest.mark.parametrize("hosts", ["pi3", "192.168.1.52", "pi3,192.168.1.52", "PI3"])
def test_a_line_of_the_machine_goes(hosts: str) -> None:
    assert without(lines(f"{hosts} {OLD}", f"pi4 {OTHER}"), NAMES) == (lines(f"pi4 {OTHER}"), 1)


def test_other_machines_of_a_line_keep_it() -> None:
    content = lines(f"pi3,pi30,192.168.1.53 {OLD} a comment")

    assert without(content, NAMES) == (lines(f"pi30,192.168.1.53 {OLD} a comment"), 1)


@pytest.mark.parametrize(
    "line",
    [
        f"pi30 {OLD}",
        f"[pi3]:2222 {OLD}",
        f"pi* {OLD}",
        f"@revoked pi3 {OLD}",
        f"@cert-authority pi3 {OLD}",
        f"#pi3 {OLD}",
        "pi3",
        "",
        "|1|no base64|at all " + OLD,
        "|1|YQ==",
    ],
)
def test_any_other_line_stays(line: str) -> None:
    content = lines(f"  {line}", line)

    assert without(content, NAMES) == (content, 0)


def test_a_port_of_its_own_has_its_own_entries() -> None:
    content = lines(f"[pi3]:2222,[192.168.1.52]:2222 {OLD}", f"pi3 {OTHER}")
    names = [known_name(name, 2222) for name in NAMES]

    assert without(content, names) == (lines(f"pi3 {OTHER}"), 1)


def test_bytes_that_are_no_text_and_line_ends_stay() -> None:
    kept = b"# caf\xe9\r\n\n  pi4   ssh-rsa  AAAA \t\r\n"
    content = kept + f"pi3 {OLD}\r\npi5 {OTHER}".encode()

    assert without(content, NAMES) == (kept + f"pi5 {OTHER}".encode(), 1)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
@pytest.mark.parametrize("hashed", [False, True])
def test_it_leaves_what_ssh_keygen_leaves(tmp_path: Path, hashed: bool) -> None:
    names = ["pi3", "192.168.1.52", "[pi3]:2222", "pi33"]
    content = lines("# mine", *(f"{name} {key}" for name in (*names, "pi4") for key in KEYS))
    path = tmp_path / "known_hosts"
    path.write_bytes(content)
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True)
    before = path.read_bytes()
    for name in (*NAMES, "[pi3]:2222"):
        subprocess.run(["ssh-keygen", "-R", name, "-f", path], check=True, capture_output=True)

    assert without(before, [*NAMES, "[pi3]:2222"]) == (path.read_bytes(), 6)


def test_the_file_is_replaced_and_its_backup_has_what_was_there(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_bytes(lines(f"pi3 {OLD}", f"pi4 {OTHER}"))
    real.chmod(0o640)
    link = tmp_path / "known_hosts"
    link.symlink_to(real)

    assert count_in(link, NAMES) == 1
    assert remove_from(link, NAMES) == ""

    assert link.is_symlink()
    assert real.read_bytes() == lines(f"pi4 {OTHER}")
    assert real.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "real.old").read_bytes() == lines(f"pi3 {OLD}", f"pi4 {OTHER}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["known_hosts", "real", "real.old"]


def test_a_file_without_the_machine_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_bytes(lines(f"pi4 {OTHER}"))
    before = path.stat()

    assert remove_from(path, NAMES) == ""

    assert path.stat() == before
    assert [each.name for each in tmp_path.iterdir()] == ["known_hosts"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent"

    assert count_in(path, NAMES) == 0
    assert remove_from(path, NAMES) == f"{path}: No such file or directory"


def test_names_and_files_follow_from_the_inventory_and_sshs_configuration(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host pi3\n HostName pi3.example\n Port 2222\n UserKnownHostsFile /a/one /b/two\n"
    )
    nodes = Nodes("pi3", "pi4", hosts={"pi4": {"ssh_hostname": "192.168.1.53", "ssh_port": 22}})
    nodes["pi3"].data.ssh_config_file = str(config)
    nodes["pi4"].data.ssh_config_file = str(tmp_path / "absent")
    nodes["pi4"].data.ssh_known_hosts_file = "/c/known"

    assert names_and_files(nodes["pi3"], ["192.168.1.52"]) == (
        ["[pi3]:2222", "[pi3.example]:2222", "[192.168.1.52]:2222"],
        [Path("/a/one"), Path("/b/two")],
    )
    assert names_and_files(nodes["pi4"], ["pi4"]) == (
        ["pi4", "192.168.1.53"],
        [Path("/c/known")],
    )
