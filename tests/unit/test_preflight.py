"""Test what refuses a node, what is only warned of, and where a host's name is looked up."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any
from unittest.mock import patch

import pytest

from chaos_engine.deploys.site import node_name
from chaos_engine.facts.apt import PackageState
from chaos_engine.facts.node import Node, NodeAnswers, NodeState, parse_os_release
from chaos_engine.facts.text import named
from chaos_engine.operations.preflight import check_node, refusals, warnings
from tests.unit.asking import ask
from tests.unit.nodes import Nodes

PROGRAMS = """\
root=yes
systemd=yes
apt=yes
free=13519360 4096
resolves=yes
resolve_seconds=1234.56 1234.57
clock=1790000000
2: eth0    inet 192.168.1.50/24 metric 100 brd 192.168.1.255 scope global dynamic eth0
3: eth1    inet 10.0.0.7/8 scope global eth1\\       valid_lft forever preferred_lft forever
"""

TEXTS = {
    "/etc/os-release": b'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\nID_LIKE=debian\n',
    "/proc/sys/kernel/hostname": b"pi1\n",
    "/etc/machine-id": b"6a1f0f3c6f0e4b0f9f0d7c3c0a4b1c2d\n",
    "/proc/sys/kernel/random/boot_id": b"0d0c5a0e-1111-4222-8333-944455556666\n",
    "/proc/cmdline": b"console=tty1 root=LABEL=writable\n",
    "/proc/self/mountinfo": b"""\
22 1 179:2 / / rw,relatime shared:1 - ext4 /dev/mmcblk0p2 rw
25 22 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw
""",
}


DPKG = {"dpkg": PackageState("1.22.6", False, True, "arm64")}


def node_of(
    programs: str = PROGRAMS,
    now: float = 1790000000.4,
    packages: dict[str, PackageState] = DPKG,
    **texts: bytes | None,
) -> NodeState:
    """Return a node's state; `texts` by the last name of their paths."""
    named = {path: path.rpartition("/")[2].replace("-", "_") for path in TEXTS}
    found = {path: texts.get(named[path], text) for path, text in TEXTS.items()}
    with patch("time.time", lambda: now):
        said = NodeAnswers().parse(programs.splitlines())
    there: dict[str, bytes | None] = {p: text for p, text in found.items() if text is not None}
    return Node().compose(said, packages, there)


GOOD = node_of()


def changed(**values: Any) -> NodeState:
    return replace(GOOD, **values)


def test_reads_a_node() -> None:
    assert (GOOD.root, GOOD.systemd, GOOD.apt, GOOD.resolves) == (True, True, True, True)
    assert (GOOD.system, GOOD.version, GOOD.architecture) == ("ubuntu", "24.04", "arm64")
    assert GOOD.addresses == ("192.168.1.50", "10.0.0.7")
    assert GOOD.half_done == ()
    assert not GOOD.read_only
    assert GOOD.skew == 0


def test_reads_a_node_in_a_bad_state() -> None:
    text = PROGRAMS.replace("resolves=yes\n", "").replace("systemd=yes\n", "")
    mounts = b"22 1 179:2 / / ro,relatime shared:1 - ext4 /dev/mmcblk0p2 rw\n"
    packages = DPKG | {
        "docker.io": PackageState("26.1", False, False, "arm64"),
        "kubelet": PackageState("1.36.0", True, False, "arm64"),
    }
    node = node_of(text, 1790000600, packages, mountinfo=mounts, machine_id=None)
    assert (node.cgroup, node.machine_id) == ("", "")
    assert node.half_done == ("docker.io", "kubelet")
    assert node.read_only
    assert not node.resolves
    assert not node.systemd
    assert node.skew == -600


def test_what_is_cut_short_is_an_error() -> None:
    with pytest.raises(LookupError):
        node_of("\n".join(PROGRAMS.splitlines()[:4]))
    with pytest.raises(LookupError):
        Node().compose(NodeAnswers().parse(PROGRAMS.splitlines()), DPKG, {})


@pytest.mark.parametrize(
    ("cmdline", "word"),
    [
        (b"root=/dev/a boot=overlay quiet\n", "boot=overlay"),
        (b"overlayroot=tmpfs\n", "overlayroot=tmpfs"),
        (b"boot=overlays overlayroot= xboot=overlay * quiet\n", ""),
    ],
)
def test_a_root_that_is_kept_in_ram_is_seen(cmdline: bytes, word: str) -> None:
    assert node_of(cmdline=cmdline).overlay == word


def test_os_release_is_read_as_a_shell_reads_it() -> None:
    text = '# a comment\nID=\'a b\'\nNAME="x \\"y\\"" # end\n\nnonsense\nOPEN="\nID_LIKE=debian\n'
    assert parse_os_release(text) == {"ID": "a b", "NAME": 'x "y"', "ID_LIKE": "debian"}


def test_addresses_are_told_from_other_lines() -> None:
    lines = (
        "4: inet    inet 10.1.0.1 peer 10.1.0.2/32 scope global inet",
        "5: a=b@if4 inet 10.2.0.1/24 scope global secondary a=b",
    )
    node = node_of(PROGRAMS + "\n".join(lines))
    assert node.addresses == ("192.168.1.50", "10.0.0.7", "10.1.0.1", "10.2.0.1")


def test_without_dpkg_the_machine_tells_its_architecture() -> None:
    assert node_of(PROGRAMS + "machine=armv7l\n", packages={}).architecture == "armv7l"


def test_a_damaged_database_of_dpkg_is_named() -> None:
    with pytest.raises(ValueError, match=r"own package; look at: .* --audit"):
        node_of(packages={})


def test_reads_this_computer() -> None:
    node = ask(Node)
    dpkg = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    )
    assert node.architecture == dpkg.stdout.strip()
    assert node.hostname == os.uname().nodename
    assert node.system == platform.freedesktop_os_release()["ID"]
    assert node.apt
    assert abs(node.skew) <= 6
    assert node.free_mib > 0


def test_a_good_node_is_fit() -> None:
    assert list(refusals(GOOD, "192.168.1.50")) == []
    assert list(warnings(GOOD, "pi1")) == []


def test_a_node_that_has_not_the_address_it_is_known_by_is_unfit() -> None:
    moved = changed(addresses=("192.168.1.77",))
    (found,) = refusals(moved, "192.168.1.50")
    assert named(found).startswith(
        "the node has the address 192.168.1.77, but nodes has 192.168.1.50;"
    )
    assert list(refusals(changed(addresses=()), "192.168.1.50")) == []
    assert list(refusals(moved)) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": "22.04"}, "ubuntu 22.04 is not one of the supported systems: ubuntu"),
        ({"system": "armbian", "version": "1"}, "armbian 1 is not one of"),
        ({"half_done": ("docker.io",)}, "dpkg did not finish the installation of docker.io"),
        ({"half_done": ("containerd", "runc")}, "installation of containerd, runc; the"),
        ({"free_mib": 1500}, "only 1500 MiB are free"),
        ({"skew": -3600}, "its clock is 3600 s behind this computer's clock"),
        ({"skew": 121}, "its clock is 121 s ahead of"),
        ({"resolves": False}, "pi1 has no address; add the line 127.0.1.1 pi1"),
        ({"resolves": False, "resolve_ms": 5002}, "(5002 ms), so each sudo is slow"),
        ({"resolve_ms": 4000}, "resolves slowly (4000 ms)"),
        ({"hostname": "raspberrypi"}, "hostnamectl set-hostname pi1"),
    ],
)
def test_warns(values: dict[str, Any], message: str) -> None:
    (found,) = warnings(changed(**values), "pi1")
    assert message in found


@pytest.mark.parametrize(
    "values",
    [
        {"system": "debian", "version": "12"},
        {"system": "debian", "version": "13"},
        {"version": "25.10"},
        {"hostname": "pi1.example.org"},
        {"skew": -60},
    ],
)
def test_is_silent(values: dict[str, Any]) -> None:
    assert list(warnings(changed(**values), "pi1")) == []


NODES = {"pi1": IPv4Address("192.168.1.50"), "pi2": IPv4Address("192.168.1.51")}


@pytest.mark.parametrize(
    ("name", "ssh_hostname", "known"),
    [
        ("pi1", None, "pi1"),
        ("pi1.example.org", None, "pi1"),
        ("pi2.local", "10.0.0.2", "pi2"),
        ("192.168.1.51", None, "pi2"),
        ("kitchen", "192.168.1.50", "pi1"),
        ("kitchen", "192.168.1.70", "kitchen"),
    ],
)
def test_finds_a_hosts_name(name: str, ssh_hostname: str | None, known: str) -> None:
    assert node_name(name, ssh_hostname, NODES) == known


def test_without_nodes_a_host_has_its_own_name() -> None:
    assert node_name("pi1.example.org", None, {}) == "pi1"
    assert node_name("192.168.1.50", None, {}) == ""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, NodeState]:
    """Return what each host is found to be, in place of this computer."""
    found: dict[str, NodeState] = {}

    def observe(fact: object) -> NodeState:
        from chaos_engine.facts.observe import current

        return found[current()[1].name]

    monkeypatch.setattr("chaos_engine.operations.preflight.observe", observe)
    return found


def check(*names: str) -> Nodes:
    run = Nodes(*names)
    run.prepare(check_node, name="Check node", known_as="")
    run.execute()
    return run


def test_a_good_node_is_never_changed(answers: dict[str, NodeState]) -> None:
    answers["pi1"] = GOOD
    run = check("pi1")
    assert (run.planned(), run.changed(), run.failed) == ([], [], set())


def test_two_names_for_one_machine_are_refused(
    answers: dict[str, NodeState], caplog: pytest.LogCaptureFixture
) -> None:
    answers.update(pi1=GOOD, pi2=GOOD)
    assert check("pi1", "pi2").failed == {"pi2"}
    assert "this is the same machine as pi1" in caplog.text


def test_copied_cards_are_noted(
    answers: dict[str, NodeState], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answers.update(pi1=GOOD, pi2=changed(boot_id="another"))
    assert check("pi1", "pi2").failed == set()
    assert "/etc/machine-id is the same as on pi1" in caplog.text
