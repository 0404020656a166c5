"""Read what is mounted, and whether it answers."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos_engine.facts import mounts
from chaos_engine.facts.mounts import (
    Answers,
    Mount,
    Mounts,
    mount_of,
    mounted_at,
    mounts_in,
    parse_mounts,
)
from tests.unit.asking import ask

# Lines of Debian 13 with a share on /var/log, of Ubuntu 24.04 (snap), of Raspberry Pi OS (vfat)
SAMPLE = """\
26 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mmcblk0p2 rw
28 26 0:25 / /run rw,nosuid,nodev shared:11 - tmpfs tmpfs rw,size=803028k,mode=755
97 26 179:1 / /boot/firmware rw,relatime shared:48 - vfat /dev/mmcblk0p1 rw,fmask=0022,errors=ro
101 26 7:0 / /snap/core22/1380 ro,nodev,relatime shared:55 - squashfs /dev/loop0 ro,errors=continue
114 26 0:52 / /var/log rw,relatime shared:61 - fuse.glusterfs etcd1:/pi1 rw,user_id=0,group_id=0
118 26 8:1 / /media/my\\040disk\\134\\011x rw,relatime master:1 propagate_from:2 - ext4 /dev/sda1 rw
120 26 0:60 /logs /var/log.hdd rw - btrfs /dev/sdb rw
121 26 0:61 / /mnt/none rw,relatime - tmpfs  rw,size=4k
"""
FOUND = parse_mounts(SAMPLE)


def test_reads_a_share() -> None:
    assert mounted_at(FOUND, "/var/log") == Mount(
        target="/var/log",
        source="etcd1:/pi1",
        fstype="fuse.glusterfs",
        options=("rw", "relatime"),
        super_options=("rw", "user_id=0", "group_id=0"),
        root="/",
        device="0:52",
        number=114,
        parent=26,
    )


def test_names_are_decoded_and_optional_fields_skipped() -> None:
    disk = FOUND[5]
    assert disk.target == "/media/my disk\\\tx"
    assert (disk.source, disk.fstype) == ("/dev/sda1", "ext4")


def test_only_the_exact_path_counts() -> None:
    assert mounted_at(FOUND, "/var") is None
    assert mounted_at(FOUND, "/var/log/pods") is None
    hidden = mounted_at(FOUND, "/var/log.hdd")
    assert hidden is not None
    assert hidden.root == "/logs"


def test_of_several_on_one_path_the_uppermost_is_seen() -> None:
    upper = "130 114 0:70 / /var/log rw - tmpfs stand-in rw\n"
    for text in (SAMPLE + upper, upper + SAMPLE):
        found = mounted_at(parse_mounts(text), "/var/log")
        assert found is not None
        assert found.source == "stand-in"


def test_a_source_may_be_empty() -> None:
    assert (FOUND[-1].source, FOUND[-1].super_options) == ("", ("rw", "size=4k"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("x", "not enough values"), ("26 1 254:0 / / rw shared:1 ext4 /dev/sda rw", "not in list")],
)
def test_nonsense_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_mounts(text)


def test_bytes_that_are_no_text_do_not_hide_the_rest() -> None:
    text = SAMPLE.encode() + b"122 26 0:62 / /media/\xff rw - tmpfs t rw\n"
    found = mounts_in({"/proc/self/mountinfo": text})
    assert found[:-1] == FOUND
    assert found[-1].target == "/media/\\xff"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_every_name_survives(name: str) -> None:
    encoded = "".join(f"\\{ord(c):03o}" if c in " \t\n\\#\r\v\f" else c for c in name)
    line = f"1 1 0:1 / /m/{encoded} rw - tmpfs t rw"
    if len(line.splitlines()) == 1:  # the kernel does not escape other separators of Unicode
        assert parse_mounts(line)[0].target == f"/m/{name}"


def test_a_path_is_on_the_deepest_mount_above_it() -> None:
    text = """\
22 1 179:2 / / rw - ext4 /dev/root rw
30 22 179:1 / /boot rw - vfat /dev/a rw
31 30 179:3 / /boot/firmware ro - vfat /dev/b rw
32 22 179:4 / /etc rw - ext4 /dev/c rw
33 32 0:40 / /etc rw - overlay over rw
"""
    mounts = parse_mounts(text)
    for path, source in {
        "/boot/firmware/cmdline.txt": "/dev/b",
        "/boot/firmware": "/dev/b",
        "/boot/firmwares/a": "/dev/a",
        "/etc/fstab": "over",
        "/usr": "/dev/root",
    }.items():
        found = mount_of(mounts, path)
        assert found is not None
        assert found.source == source
    assert mount_of(mounts[1:], "/usr") is None


def test_this_computer_can_be_read() -> None:
    found = ask(Mounts, path="/")
    assert mounted_at(found, "/") is not None
    assert {mount.target for mount in found} == {"/"}
    assert ask(Mounts, path="/etc/hostname/none") == ()


def answer_of(path: str, programs: Path | None = None) -> str:
    command = Answers().command(path=path).get_raw_value()
    environment = {"PATH": f"{programs or '/nowhere'}:/usr/bin:/bin"}
    output = subprocess.check_output(["sh", "-c", command], text=True, env=environment)
    return Answers().parse(output.splitlines())


def test_a_path_answers_or_fails(tmp_path: Path) -> None:
    assert answer_of(str(tmp_path)) == "answers"
    assert answer_of(f"{tmp_path}/it's not there") == "fails"


def test_a_file_system_that_hangs_holds_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No signal ends a process that waits in the kernel. This one ignores most signals."""
    monkeypatch.setattr(mounts, "ANSWER_SECONDS", 0.2)
    (tmp_path / "find").write_text("#!/bin/sh\ntrap '' TERM HUP INT\nsleep 9\n")
    (tmp_path / "find").chmod(0o755)
    start = time.monotonic()
    assert answer_of("/", tmp_path) == "hangs"
    assert time.monotonic() - start < 8


@pytest.mark.parametrize("odd", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_name_of_a_mount_ends_no_line(odd: str) -> None:
    line = f"36 35 0:41 / /home/u/a{odd}b rw - fuse.any any{odd}where rw\n"
    (found,) = parse_mounts(line)
    assert (found.target, found.source) == (f"/home/u/a{odd}b", f"any{odd}where")
