"""Wheel and sdist: the same bytes wherever and whenever they are built."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import dist

EPOCH = 1_795_829_731


def sources(folder: Path, umask: int, age: int) -> Path:
    """Copy what git knows of the working tree, with other modes, times and order on the disk."""
    try:
        names = dist.git("ls-files", "-z", "--", ".", ":!docs", ":!tests/bench").split(b"\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no clone")
    files = [Path(os.fsdecode(name)) for name in names if name]
    old = os.umask(umask)
    try:
        for name in reversed(files) if age else files:
            if (dist.CHECKOUT / name).exists():  # not removed since the last commit
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(dist.CHECKOUT / name, folder / name)
                os.utime(folder / name, (EPOCH - age, EPOCH - age))
    finally:
        os.umask(old)
    return folder


def test_two_builds_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    first = dist.build(sources(tmp_path / "a", 0o022, 0), tmp_path / "first", EPOCH)
    monkeypatch.setenv("TZ", "UTC")
    second = dist.build(sources(tmp_path / "much/deeper", 0o077, 1000), tmp_path / "2", EPOCH)
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.suffix for path in first] == [".whl", ".gz"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    # who builds a wheel of the sdist gets that wheel
    with tarfile.open(first[1]) as tar:
        tar.extractall(tmp_path)
        (folder,) = {member.name.partition("/")[0] for member in tar}
    again = dist.build(tmp_path / folder, tmp_path / "again", EPOCH)
    assert again[0].read_bytes() == first[0].read_bytes()
    with zipfile.ZipFile(first[0]) as wheel:
        assert {"chaos_engine/py.typed", "chaos_engine/templates/haproxy_start.sh.j2"} <= {
            *wheel.namelist()
        }
        # nothing that a user's own project may have too
        tops = {name.partition("/")[0].partition("-")[0] for name in wheel.namelist()}
        assert tops == {"chaos_engine", "chaos_engine_nodes"}
