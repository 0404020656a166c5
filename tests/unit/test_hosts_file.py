"""Test the block in /etc/hosts: its names, and that everything else stays as it is."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos_engine.deploys.hosts_file import HostsFileSettings, addresses
from chaos_engine.facts.cloud_init import CloudInit, CloudInitState
from chaos_engine.facts.hosts import entries
from chaos_engine.facts.observe import NodeError, Read
from chaos_engine.operations.hosts_file import conflicts, edit, names_in_block
from tests.unit.asking import systemctl, value_in
from tests.unit.nodes import Nodes

UBUNTU = b"""\
127.0.0.1 localhost

# The following lines are desirable for IPv6 capable hosts
::1 ip6-localhost ip6-loopback
fe00::0 ip6-localnet
ff02::1 ip6-allnodes
"""
RASPBERRY_PI_OS = b"""\
127.0.0.1\tlocalhost
::1\t\tlocalhost ip6-localhost ip6-loopback

127.0.1.1\t\tpi1
"""
CLOUD_INIT = b"""\
# Your system has configured 'manage_etc_hosts' as True.
127.0.1.1 pi1 pi1
127.0.0.1 localhost
"""
SAMPLES = [UBUNTU, RASPBERRY_PI_OS, CLOUD_INIT, b"", b"127.0.0.1 localhost\r\n127.0.1.1 pi1\r\n"]
NAMES = {"pi1": "192.168.1.50", "etcd1": "192.168.1.40"}
BLOCK = b"""\
# BEGIN chaos-engine: written by its deploy, changes in this block are lost
192.168.1.50 pi1
192.168.1.40 etcd1
# END chaos-engine
"""

# bytes that make lines, ends of lines, marks' beginnings and what is no text at all
TEXTS = st.lists(
    st.sampled_from([b"127.0.0.1 localhost", b"\n", b"\r\n", b"# BEGIN", b" pi1", b"\xff", b"\r"])
).map(b"".join)
ADDRESSES = st.dictionaries(
    st.text("a1-", min_size=1, max_size=3), st.sampled_from(["10.0.0.1", "10.0.0.2"]), max_size=3
)


@pytest.mark.parametrize("data", SAMPLES)
def test_the_block_comes_behind_what_is_there(data: bytes) -> None:
    assert edit(data, NAMES) == data + BLOCK


def test_a_last_line_without_an_end_gets_one() -> None:
    assert edit(b"127.0.0.1 localhost", NAMES) == b"127.0.0.1 localhost\n" + BLOCK


def test_the_block_stays_where_it_is() -> None:
    data = b"127.0.0.1 localhost\r\n" + BLOCK + b"10.0.0.9 printer"
    names = {"pi1": "192.168.1.51"}
    after = edit(data, names)
    assert after.startswith(b"127.0.0.1 localhost\r\n# BEGIN chaos-engine")
    assert after.endswith(b"\n192.168.1.51 pi1\n# END chaos-engine\n10.0.0.9 printer")


def test_a_block_changed_by_hand_is_written_again() -> None:
    broken = BLOCK.replace(b"192.168.1.40 etcd1\n", b"\n10.9.9.9 etcd1\n# mine\n")
    assert edit(UBUNTU + broken, NAMES) == UBUNTU + BLOCK


@given(TEXTS, ADDRESSES)
def test_twice_is_as_once(data: bytes, names: Mapping[str, str]) -> None:
    once = edit(data, names)
    assert edit(once, names) == once


@given(TEXTS, TEXTS, ADDRESSES, ADDRESSES)
def test_what_is_outside_does_not_change(
    before: bytes, after: bytes, old: Mapping[str, str], new: Mapping[str, str]
) -> None:
    block, changed = edit(b"", old), edit(b"", new)
    before += b"\n"
    assert edit(before + block + after, new) == before + changed + after


def test_the_names_in_the_block_are_known() -> None:
    data = edit(b"127.0.0.1 localhost\n", {"pi1": "192.168.1.50", "k8s": "192.168.1.60"})
    assert names_in_block(data) == ["pi1", "k8s"]
    assert names_in_block(b"127.0.0.1 localhost\n") == []


@given(TEXTS, ADDRESSES)
def test_what_was_there_goes_first(data: bytes, names: Mapping[str, str]) -> None:
    assert edit(data, names).startswith(data)


@pytest.mark.parametrize(
    "data",
    [
        BLOCK + BLOCK,
        b"# BEGIN chaos-engine\n",
        b"# END chaos-engine",
        b"# END chaos-engine\n# BEGIN chaos-engine\n",
        BLOCK.replace(b"# END chaos-engine\n", b""),
        b"# BEGIN chaos-engine\r\n" + BLOCK,
    ],
)
def test_damaged_marks_are_refused(data: bytes) -> None:
    with pytest.raises(NodeError, match="Remove all of these lines"):
        edit(UBUNTU + data, NAMES)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("192.168.1.99 pi1", "pi1"),
        ("127.0.1.1 ETCD1.lan etcd1 # copied", "etcd1"),
        ("10.0.0.1\tPI1\r", "PI1"),
    ],
)
def test_another_address_for_a_name_is_noted(line: str, name: str) -> None:
    (message,) = conflicts(f"{line}\n".encode() + BLOCK, NAMES, "pi1")
    assert message.startswith(
        f"/etc/hosts also has the line {line.strip()!r}, but the address of {name} is 192."
    )


@pytest.mark.parametrize(
    "line",
    ["127.0.1.1 pi1", "192.168.1.50 pi1", "# 10.0.0.1 pi1", "fe80::1 pi1", "10.0.0.9 printer", ""],
)
def test_what_does_not_conflict_is_silent(line: str) -> None:
    assert list(conflicts(f"{line}\n".encode() + BLOCK, NAMES, "pi1.example.org")) == []


SITE: dict[str, Any] = {
    "chaos_nodes": {"pi1": "192.168.1.50", "pi2": "192.168.1.51"},
    "chaos_storage_servers": {"etcd1": "192.168.1.40"},
    "chaos_vip": "192.168.1.60",
}


def resolve(**values: Any) -> HostsFileSettings:
    with Nodes("pi1", data={**SITE, **values}).on():
        return HostsFileSettings.resolve()


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("10.0.0.8", "10.0.0.8"),
        ("::ffff:10.0.0.8", "10.0.0.8"),
        ("::ffff:127.0.1.1", "127.0.1.1"),  # Python 3.13 calls it a loopback address
        ("::1", "127.0.0.1"),
        ("fe80::1", ""),
    ],
)
def test_the_address_that_a_lookup_of_ipv4_finds(word: str, address: str) -> None:
    (entry,) = entries(f"{word} pi1".encode())
    assert entry.address == address


def test_names_come_from_the_settings_and_the_inventory() -> None:
    others = [
        ("pi1", "10.0.0.1"),  # in chaos_nodes, whatever ssh connects to
        ("pi2.example.org", "10.0.0.2"),
        ("kitchen", "192.168.1.51"),  # pi2 by another name
        ("pi9", "192.168.1.58"),
        ("nas", "nas.example.org"),
        ("192.168.1.77", "192.168.1.77"),
        ("@local", None),
    ]
    assert addresses(resolve(), others) == {
        "pi1": "192.168.1.50",
        "pi2": "192.168.1.51",
        "etcd1": "192.168.1.40",
        "k8s": "192.168.1.60",
        "pi9": "192.168.1.58",
    }


def test_without_a_vip_it_has_no_name() -> None:
    assert "k8s" not in addresses(resolve(chaos_vip=None))


NETWORK_MANAGER = {"NetworkManager.service": {"ActiveState": "active"}}


def look(root: Path, before: str = systemctl()) -> CloudInitState:
    """Return what the fact says of a node with cloud-init and the files below a folder."""
    return value_in(root, CloudInit, installed(root) + before)


def installed(root: Path) -> str:
    """Make a program ``cloud-init`` below a folder. Return a command to have a shell find it."""
    write(root, "/bin/cloud-init")
    (root / "bin/cloud-init").chmod(0o755)
    return f"PATH={root}/bin:$PATH\n"


def write(root: Path, path: str, text: str = "") -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("path", "line", "managed"),
    [
        ("/boot/firmware/user-data", "manage_etc_hosts: true", True),
        ("/etc/cloud/cloud.cfg.d/99.cfg", "  manage_etc_hosts: 'True'", True),
        ("/etc/cloud/cloud.cfg", "manage_etc_hosts: template", True),
        ("/var/lib/cloud/instance/cloud-config.txt", "manage_etc_hosts: yes", True),
        ("/etc/cloud/cloud.cfg", "manage_etc_hosts: localhost", False),
        ("/etc/cloud/cloud.cfg", "#manage_etc_hosts: true", False),
        ("/etc/cloud/cloud.cfg", "manage_etc_hosts: false", False),
    ],
)
def test_finds_what_lets_cloud_init_write_the_file(
    tmp_path: Path, path: str, line: str, managed: bool
) -> None:
    write(tmp_path, path, f"#cloud-config\n{line}\n")
    assert look(tmp_path).manages_hosts == (path if managed else "")
    write(tmp_path, "/etc/cloud/cloud-init.disabled")
    assert look(tmp_path).manages_hosts == ""


def test_finds_what_configures_the_network(tmp_path: Path) -> None:
    write(tmp_path, "/etc/network/interfaces", "auto lo\niface lo inet loopback\n")
    assert look(tmp_path).network == ()
    write(tmp_path, "/etc/network/interfaces", "iface lo inet loopback\niface eth0 inet dhcp\n")
    write(tmp_path, "/etc/netplan/50-cloud-init.yaml")
    assert look(tmp_path).network == ("/etc/netplan/50-cloud-init.yaml", "/etc/network/interfaces")
    found = look(tmp_path, systemctl(NETWORK_MANAGER))
    assert found.network == (
        "/etc/netplan/50-cloud-init.yaml",
        "/etc/network/interfaces",
        "NetworkManager.service",
    )


def test_only_the_lines_that_count_are_read_of_files_with_passwords(tmp_path: Path) -> None:
    write(tmp_path, "/boot/firmware/user-data", "passwd: MARKED-SECRET\nmanage_etc_hosts: true\n")
    write(tmp_path, "/etc/network/interfaces", "iface wlan0 inet dhcp\n wpa-psk MARKED-SECRET\n")
    command = Read.of(CloudInit).command.get_raw_value()
    command = command.replace(" /boot/", f" {tmp_path}/boot/").replace(
        " /etc/n", f" {tmp_path}/etc/n"
    )
    ran = subprocess.run(
        ["sh", "-c", f"{installed(tmp_path)}{systemctl()}\n{command}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "manage_etc_hosts" in ran.stdout
    assert "iface" in ran.stdout
    assert "MARKED-SECRET" not in ran.stdout


def test_cloud_init_that_is_not_installed_has_no_state(tmp_path: Path) -> None:
    write(tmp_path, "/etc/cloud/cloud.cfg", "manage_etc_hosts: true\n")
    write(tmp_path, "/etc/netplan/50-cloud-init.yaml")
    assert value_in(tmp_path, CloudInit, systemctl(NETWORK_MANAGER)) == CloudInitState()


@pytest.mark.parametrize(
    ("jobs", "running"),
    [("1 cloud-final.service start waiting", True), ("No jobs running.", False), ("", False)],
)
def test_cloud_init_runs_while_it_has_jobs(tmp_path: Path, jobs: str, running: bool) -> None:
    show = systemctl().replace("systemctl()", "show()")
    listing = f"systemctl() {{ case $1 in list-jobs) echo '{jobs}' ;; *) show \"$@\" ;; esac; }}\n"
    assert look(tmp_path, f"{show}\n{listing}").running == running
