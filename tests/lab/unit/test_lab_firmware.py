"""The script that stands for the firmware, run against files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab.paths import LAB

_FILES = LAB / "images/worker/files"
_SCRIPT = _FILES / "usr/lib/lab/firmware"
_UBUNTU = (_FILES / "boot/firmware/cmdline.txt").read_bytes()
_CONFIG = (_FILES / "boot/firmware/config.txt").read_text()


def boot(tmp_path: Path, files: dict[str, bytes]) -> tuple[str, list[str]]:
    """Return the command line and the controllers that a boot partition of FILES leads to."""
    partition, out = tmp_path / "boot", tmp_path / "out"
    for name, content in files.items():
        (partition / name).parent.mkdir(parents=True, exist_ok=True)
        (partition / name).write_bytes(content)
    subprocess.run(["sh", str(_SCRIPT), str(partition), str(out)], check=True)
    cmdline = (out / "cmdline").read_text()
    return cmdline, (out / "cgroup.controllers").read_text().split()


def test_a_stock_pi_has_no_memory_controller(tmp_path: Path) -> None:
    cmdline, controllers = boot(tmp_path, {"cmdline.txt": _UBUNTU})
    assert "cgroup_disable=memory" in cmdline.split()
    assert cmdline.endswith(_UBUNTU.decode())
    assert cmdline.count("\n") == 1
    assert controllers == ["cpuset", "cpu", "io", "pids"]


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        (b"root=x cgroup_enable=cpuset cgroup_memory=1 cgroup_enable=memory\n", True),
        (b"root=x cgroup_enable=memory", True),
        (b"root=x cgroup_enable=cpuset,memory\n", True),
        (b"root=x cgroup_enable=memory\r\n", True),
        (b"root=x cgroup_memory=1\n", False),
        (b"root=x cgroup_enable=memory`\n", False),
        (b"root=x cgroup_enable=memory cgroup_disable=memory\n", False),
        (b"root=x\ncgroup_enable=memory\n", False),
        (b"root=x cgroup_enable=* *\n", False),
        (b"", False),
    ],
)
def test_the_kernel_reads_words_in_order(tmp_path: Path, line: bytes, memory: bool) -> None:
    _, controllers = boot(tmp_path, {"cmdline.txt": line})
    assert ("memory" in controllers) is memory


def test_only_the_first_line_reaches_the_kernel(tmp_path: Path) -> None:
    cmdline, _ = boot(tmp_path, {"cmdline.txt": b"root=first\nroot=second\n"})
    assert "root=second" not in cmdline


def test_config_txt_says_which_file_is_read(tmp_path: Path) -> None:
    files = {
        "config.txt": b"[all]\nos_prefix=current/\ncmdline=words.txt\n",
        "cmdline.txt": b"root=stale\n",
        "current/words.txt": b"root=right\n",
    }
    cmdline, _ = boot(tmp_path, files)
    assert cmdline.endswith("root=right\n")


def test_the_image_names_its_own_file(tmp_path: Path) -> None:
    files = {"config.txt": _CONFIG.encode(), "cmdline.txt": _UBUNTU}
    cmdline, _ = boot(tmp_path, files)
    assert cmdline.endswith(_UBUNTU.decode())


def test_no_file_leaves_the_firmware_s_own_words(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    cmdline, controllers = boot(tmp_path, {})
    assert "vc_mem.mem_size" in cmdline
    assert "memory" not in controllers
