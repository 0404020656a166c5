"""Test the kernel's command line on a node: where it is found, how it is edited, and in which order
the edit reaches the card."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.facts import kernel
from chaos_engine.facts.kernel import SCRIPT, BootFile, BootFiles, Cmdline, KernelCmdline
from chaos_engine.facts.mounts import MOUNTS
from chaos_engine.facts.observe import NodeError
from chaos_engine.operations.files import File, Plan
from chaos_engine.operations.files.script import compose as compose_files
from chaos_engine.operations.files.script import payload
from chaos_engine.operations.kernel.words import (
    grub_drop_in,
    next_boot_has,
    pending,
    plan,
    unchanged,
)
from tests.unit.asking import ask_below
from tests.unit.scripts import Sandbox
from tests.unit.test_cmdline import ADDED, DEBIAN, NOTICE, RASPBERRY_PI_OS, UBUNTU_2404, WANTED

BOOT = "0d6dd5a4-5b1c-4d0c-9d7b-8c3a2e1f0a9b"
PI = "coherent_pool=1M cgroup_disable=memory vc_mem.mem_size=0x40000000  "
CONTROLLERS = "cpuset cpu io memory hugetlb pids rdma\n"

# From a Raspberry Pi with Ubuntu 25.10
PIBOOT_CONFIG = """\
[all]
os_prefix=current/

[tryboot]
os_prefix=new/

[all]
kernel=vmlinuz
cmdline=cmdline.txt
initramfs initrd.img followkernel

[pi4]
max_framebuffers=2
"""


class Node:
    """A node's file system below a folder, with the few files that the fact reads."""

    def __init__(self, root: Path, cmdline: str, controllers: str = CONTROLLERS) -> None:
        self.root = root
        self.mount = "vfat rw,relatime,fmask=0022"
        self.cgroup = "cgroup2"
        self.put("proc/cmdline", cmdline)
        self.put("proc/sys/kernel/random/boot_id", BOOT + "\n")
        self.put("bin/update-grub", "#!/bin/sh\n")
        (root / "bin/update-grub").chmod(0o755)
        self.put("proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t1\n")
        self.put("sys/fs/cgroup/cgroup.controllers", controllers)

    def put(self, name: str, text: str | bytes) -> Node:
        """Write this file on the node."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return self

    def read(self) -> Cmdline:
        """Return the fact's value."""
        fstype, options = self.mount.split()
        self.put(
            "proc/self/mountinfo",
            "22 1 259:2 / / rw,noatime shared:1 - ext4 /dev/root rw\n"
            f"30 22 179:1 / {self.root}/boot {options} shared:2 - {fstype} /dev/a {options}\n"
            f"25 22 0:22 / /sys/fs/cgroup rw shared:9 - {self.cgroup} cgroup rw\n",
        )
        script = re.sub(r"(/boot|/etc)\b", rf"{self.root}\1", SCRIPT)
        only = MOUNTS[1].replace("/(?:boot", f"(?:{self.root})?/(?:boot")
        with (
            patch.object(BootFiles, "command", lambda _: f"PATH={self.root}/bin:$PATH\n{script}"),
            patch.object(kernel, "MOUNTS", (MOUNTS[0], only)),
        ):
            return ask_below(self.root, KernelCmdline)

    def relative(self, boot_file: BootFile | None) -> str | None:
        """Return the file's path as it is on a node."""
        return boot_file.path.removeprefix(str(self.root)) if boot_file else None


@pytest.fixture
def ubuntu(tmp_path: Path) -> Node:
    """Return Ubuntu 24.04 before anything is deployed."""
    node = Node(tmp_path, PI + UBUNTU_2404, "cpuset cpu io hugetlb pids rdma\n")
    return node.put("boot/firmware/cmdline.txt", UBUNTU_2404 + "\n").put(
        "boot/firmware/config.txt", "[all]\nkernel=vmlinuz\ncmdline=cmdline.txt\n"
    )


def test_ubuntu_2404_keeps_it_on_the_boot_partition(ubuntu: Node) -> None:
    found = ubuntu.read()

    assert ubuntu.relative(found.file) == "/boot/firmware/cmdline.txt"
    assert found.file is not None
    assert found.file.text == UBUNTU_2404 + "\n"
    assert found.file.filesystem == "vfat"
    assert not found.file.read_only
    assert found.file.free > 0
    assert found.words[:2] == ("coherent_pool=1M", "cgroup_disable=memory")
    assert found.boot_id == BOOT
    assert (found.cgroup, found.memory) == ("v2", False)
    assert pending(found, WANTED) == list(WANTED)
    assert not next_boot_has(found, WANTED)


def test_ubuntu_2510_keeps_it_in_a_folder_and_an_untested_one_beside_it(tmp_path: Path) -> None:
    node = Node(tmp_path, PI + UBUNTU_2404)
    node.put("boot/firmware/config.txt", PIBOOT_CONFIG)
    node.put("boot/firmware/current/cmdline.txt", UBUNTU_2404)
    node.put("boot/firmware/cmdline.txt", "root=LABEL=left-over")
    node.put("boot/firmware/new/cmdline.txt", UBUNTU_2404)
    node.put("boot/firmware/new/state", "unknown\n")

    found = node.read()

    assert node.relative(found.file) == "/boot/firmware/current/cmdline.txt"
    assert node.relative(found.pending) == "/boot/firmware/new/cmdline.txt"
    edited = [file.path.removeprefix(str(tmp_path)) for file in plan(found, WANTED)]
    assert edited == [
        "/boot/firmware/current/cmdline.txt.chaos-engine.bak",
        "/boot/firmware/current/cmdline.txt",
        "/boot/firmware/new/cmdline.txt.chaos-engine.bak",
        "/boot/firmware/new/cmdline.txt",
    ]


@pytest.mark.parametrize("state", ["bad", "good"])
def test_a_kernel_that_is_not_up_for_a_test_is_left_alone(tmp_path: Path, state: str) -> None:
    node = Node(tmp_path, UBUNTU_2404).put("boot/firmware/current/cmdline.txt", UBUNTU_2404)
    node.put("boot/firmware/new/cmdline.txt", UBUNTU_2404).put("boot/firmware/new/state", state)

    assert node.read().pending is None


def test_config_txt_may_give_it_another_name(tmp_path: Path) -> None:
    node = Node(tmp_path, UBUNTU_2404).put(
        "boot/firmware/config.txt", "[pi3]\ncmdline=three.txt\n[all]\r\ncmdline=mine.txt\r\n"
    )
    node.put("boot/firmware/cmdline.txt", UBUNTU_2404).put("boot/firmware/three.txt", UBUNTU_2404)
    node.put("boot/firmware/mine.txt", UBUNTU_2404)

    assert node.relative(node.read().file) == "/boot/firmware/mine.txt"


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ("[pi4]\n# see [all]\ncmdline=other.txt\n", "cmdline.txt"),
        ("[pi4]\nyescmdline=other.txt\n", "cmdline.txt"),
        ("#cmdline=other.txt\n cmdline=other.txt\nxcmdline=other.txt\n", "cmdline.txt"),
        ("[pi4]\n[all]\ncmdline=other.txt", "other.txt"),
        ("cmdline=missing.txt\ncmdline=other.txt\n", "other.txt"),
        ("cmdline=missing.txt\n", "cmdline.txt"),
        ("os_prefix=a folder/\ncmdline=* \\n.txt\n", "a folder/* \\n.txt"),
        ("os_prefix=a/\ncmdline=b\nos_prefix=\ncmdline=\n", "cmdline.txt"),
        ("os_prefix=linked/\n", "a folder/cmdline.txt"),
        ("cmdline=link.txt\n", "a folder/* \\n.txt"),
    ],
)
def test_only_lines_for_all_models_count(tmp_path: Path, config: str, path: str) -> None:
    node = Node(tmp_path, UBUNTU_2404).put("boot/firmware/config.txt", config)
    boot = tmp_path / "boot/firmware"
    for name in ("cmdline.txt", "other.txt", "a folder/* \\n.txt", "a folder/cmdline.txt"):
        node.put(f"boot/firmware/{name}", UBUNTU_2404)
    (boot / "linked").symlink_to("a folder")
    (boot / "link.txt").symlink_to("linked/* \\n.txt")

    assert node.relative(node.read().file) == f"/boot/firmware/{path}"


def test_a_file_in_several_places_is_one(tmp_path: Path) -> None:
    node = Node(tmp_path, UBUNTU_2404).put("boot/firmware/cmdline.txt", "quiet\n")
    (tmp_path / "boot/current").symlink_to("firmware")
    (tmp_path / "boot/cmdline.txt").symlink_to("firmware/cmdline.txt")

    (place,) = node.read().rejected

    assert node.relative(place) == "/boot/firmware/cmdline.txt"


def test_raspberry_pi_os_12_has_a_notice_at_the_old_place(tmp_path: Path) -> None:
    node = Node(tmp_path, PI + RASPBERRY_PI_OS)
    node.put("boot/firmware/cmdline.txt", RASPBERRY_PI_OS).put("boot/cmdline.txt", NOTICE)

    assert node.relative(node.read().file) == "/boot/firmware/cmdline.txt"


def test_raspberry_pi_os_11_has_it_at_the_old_place(tmp_path: Path) -> None:
    node = Node(tmp_path, PI + RASPBERRY_PI_OS).put("boot/cmdline.txt", RASPBERRY_PI_OS)

    assert node.relative(node.read().file) == "/boot/cmdline.txt"


@pytest.mark.parametrize("present", [True, False])
def test_debian_writes_it_anew_with_extra_words(tmp_path: Path, present: bool) -> None:
    node = Node(tmp_path, DEBIAN).put("boot/firmware/cmdline.txt", DEBIAN)
    hook = 'cmdline_custom="/etc/default/raspi-extra-cmdline"\n'
    node.put("etc/kernel/postinst.d/z50-raspi-firmware", hook)
    if present:
        node.put("etc/default/raspi-extra-cmdline", "iomem=relaxed\n")

    file = plan(node.read(), WANTED)[-1]

    assert file.path.removeprefix(str(tmp_path)) == "/etc/default/raspi-extra-cmdline"
    expected = "iomem=relaxed" + ADDED if present else ADDED.lstrip()
    assert file.data.decode() == expected


def test_extra_words_are_for_a_firmware_hook_that_reads_them(tmp_path: Path) -> None:
    node = Node(tmp_path, DEBIAN).put("boot/firmware/cmdline.txt", DEBIAN)
    node.put("etc/kernel/postinst.d/z50-raspi-firmware", "#!/bin/sh\n")

    assert node.read().extra is None


def test_a_file_without_root_is_refused_with_its_reason(tmp_path: Path) -> None:
    node = Node(tmp_path, UBUNTU_2404).put("boot/firmware/cmdline.txt", "console=tty1 quiet\n")
    node.put("boot/cmdline.txt", NOTICE)
    found = node.read()

    assert found.file is None
    assert len(found.rejected) == 2
    with pytest.raises(NodeError, match=r"firmware/cmdline\.txt: the file has no root="):
        plan(found, WANTED)


def test_a_pc_with_the_controller_needs_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, "BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet").put("etc/default/grub", "")
    found = node.read()

    assert found.grub
    assert plan(found, WANTED) == []
    assert pending(found, WANTED) == []


def test_a_pc_without_the_controller_gets_a_drop_in_for_grub(tmp_path: Path) -> None:
    node = Node(tmp_path, "BOOT_IMAGE=/vmlinuz root=UUID=1 ro", "cpu io\n")
    found = node.put("etc/default/grub", "").read()

    assert [file.path for file in plan(found, WANTED)] == [
        "/etc/default/grub.d/99-chaos-engine.cfg"
    ]
    assert pending(found, WANTED) == list(WANTED)
    assert not next_boot_has(found, WANTED)
    node.put("etc/default/grub.d/99-chaos-engine.cfg", grub_drop_in(WANTED))
    found = node.read()
    assert plan(found, WANTED) == []
    assert next_boot_has(found, WANTED)


def test_grub_reads_the_drop_in_as_shell() -> None:
    text = 'GRUB_CMDLINE_LINUX="quiet"\n' + grub_drop_in(WANTED) + 'echo "$GRUB_CMDLINE_LINUX"'

    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)

    assert done.stdout == "quiet" + ADDED


def test_a_node_with_neither_file_nor_grub_is_refused(tmp_path: Path) -> None:
    found = Node(tmp_path, "root=/dev/nfs", "cpu io\n").read()

    with pytest.raises(NodeError, match=r"nor a cmdline\.txt with root= in /boot/firmware"):
        plan(found, WANTED)
    assert plan(found, ()) == []


def test_version_1_of_the_control_groups_is_told_by_its_own_table(tmp_path: Path) -> None:
    node = Node(tmp_path, UBUNTU_2404, "")
    node.cgroup = "tmpfs"

    found = node.read()

    assert (found.cgroup, found.memory) == ("v1", True)


def test_words_that_are_no_utf8_survive(tmp_path: Path) -> None:
    line = b"root=LABEL=sch\xf6n rootwait"
    node = Node(tmp_path, UBUNTU_2404).put("boot/firmware/cmdline.txt", line)

    assert plan(node.read(), WANTED)[-1].data == line + ADDED.encode()


def test_a_reboot_that_was_made_is_remembered(ubuntu: Node) -> None:
    ubuntu.put("var/lib/chaos-engine/reboot", f"cmdline-0123 {BOOT}\nswap {BOOT}\n")

    found = ubuntu.read()

    assert found.rebooted == {"cmdline-0123": BOOT, "swap": BOOT}


def test_a_damaged_answer_is_no_default() -> None:
    with pytest.raises(FactProcessError, match="unexpected answer"):
        BootFiles().process(["file place /boot/cmdline.txt", "stat 644 root"])


def test_an_unreadable_file_is_no_missing_one(ubuntu: Node) -> None:
    places = re.sub(r"(/boot)\b", rf"{ubuntu.root}\1", SCRIPT)
    stub = "base64() { case $* in *cmdline.txt) return 1 ;; *) command base64 $* ;; esac; }\n"

    assert subprocess.run(["sh", "-c", stub + places], capture_output=True, check=False).returncode


def boot_file(text: str = UBUNTU_2404 + "\n", **changes: Any) -> BootFile:
    usual = BootFile(
        "/boot/firmware/cmdline.txt", text, "755", "root", "root", "vfat", False, 1 << 20, False
    )
    return replace(usual, **changes)


def cmdline(**changes: Any) -> Cmdline:
    usual = Cmdline(
        words=("root=LABEL=writable",),
        controllers=("cpu",),
        cgroup="v2",
        memory=False,
        boot_id=BOOT,
        file=boot_file(),
    )
    return replace(usual, **changes)


def test_vfat_has_no_modes_to_ask_for() -> None:
    assert {file.mode for file in plan(cmdline(), WANTED)} == {None}
    there = cmdline(file=boot_file(filesystem="ext4"))
    assert {file.mode for file in plan(there, WANTED)} == {"755"}


def test_the_first_original_is_never_replaced() -> None:
    files = plan(cmdline(file=boot_file(kept=True)), WANTED)

    assert [file.path for file in files] == ["/boot/firmware/cmdline.txt"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"read_only": True}, "its file system .vfat. is mounted read-only"),
        ({"free": 4096}, "only 4096 bytes are free on its file system, but 65536 are needed"),
    ],
)
def test_a_file_system_that_cannot_be_written_is_refused(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(NodeError, match=reason):
        plan(cmdline(file=boot_file(**changes)), WANTED)

    edited = boot_file(UBUNTU_2404 + ADDED, **changes)
    assert plan(cmdline(file=edited), WANTED) == []


def test_a_file_that_changed_since_it_was_read_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cmd line.txt"
    path.write_text(UBUNTU_2404 + "\n")
    test = unchanged(boot_file(path=str(path)))

    assert subprocess.run(["sh", "-c", test], check=False).returncode == 0
    path.write_text("root=LABEL=other\n")
    assert subprocess.run(["sh", "-c", test], capture_output=True, check=False).returncode == 1


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_content_reaches_the_card_before_its_name_and_the_name_before_success(
    tmp_path: Path,
) -> None:
    box = Sandbox(tmp_path)
    path = box.path("cmdline.txt")
    path.write_text(UBUNTU_2404 + "\n")
    new = File(str(path), UBUNTU_2404 + ADDED, mode=None)
    log = tmp_path / "strace.log"
    calls = "trace=fsync,syncfs,rename,renameat,renameat2"

    script = box.localise(compose_files(Plan(write=(new,))))
    done = subprocess.run(
        ["strace", "-f", "-y", "-o", str(log), "-e", calls, "sh", "-c", script],
        input=payload((new,)),
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("strace may not trace here")

    assert done.returncode == 0, done.stderr
    assert path.read_text() == UBUNTU_2404 + ADDED
    trace = log.read_text().splitlines()
    rename = re.compile(rf'rename\w*\(.*"{re.escape(new.staged)}".*"{re.escape(str(path))}"')
    renamed = next(n for n, line in enumerate(trace) if rename.search(line))
    assert any(stores(line, new.staged) for line in trace[:renamed])
    assert any(stores(line, str(tmp_path)) for line in trace[renamed:])


def stores(line: str, path: str) -> bool:
    """Tell whether a line of strace says that a path is synchronised to the card."""
    return re.search(rf"(fsync|syncfs)\(\d+<{re.escape(path)}>\) *= 0", line) is not None
