"""What the script of the metrics prints, run in a real shell on this computer's own /proc."""

from __future__ import annotations

import os
import re
import subprocess
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from chaos_engine.deploys.metrics import metrics_files
from chaos_engine.facts.metrics import FOLDER, METRICS_WRITTEN, TIMER
from tests.unit.test_etcd_certificates import Pair

LINE = re.compile(r'[a-z_]+(\{[a-z]+="[!-~]*"(,[a-z]+="[!-~]*")*\})? [0-9]+')


def written(folder: Path, proc: str = "/proc") -> list[str]:
    """Run the script with FOLDER in place of the node's files, and return the lines of metrics."""
    (folder / "out").mkdir(exist_ok=True)
    script = str(metrics_files()[0].content)
    for path, ours in (
        (FOLDER, folder / "out"),
        ("/proc/self/mountinfo", folder / "mountinfo"),
        ("/proc/[0-9]*", f"{proc}/[0-9]*"),
        ("/sys/block", folder / "block"),
        ("/etc/kubernetes", folder / "kubernetes"),
    ):
        script = script.replace(str(path), str(ours))
    subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    assert [path.name for path in (folder / "out").iterdir()] == ["chaos-engine.prom"]
    text = (folder / "out/chaos-engine.prom").read_text()
    assert (folder / "out/chaos-engine.prom").stat().st_mode & 0o777 == 0o644
    return [line for line in text.splitlines() if not line.startswith("# ")]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    (tmp_path / "mountinfo").write_text("24 1 179:2 / / rw - ext4 /dev/mmcblk0p2 rw\n")
    return tmp_path


def test_each_line_has_the_form_that_prometheus_reads(node: Path) -> None:
    lines = written(node)
    assert [line for line in lines if not LINE.fullmatch(line)] == []


@pytest.mark.parametrize(
    ("mount", "value"),
    [
        ("", 0),
        ("40 24 0:50 / /var/log rw - fuse.glusterfs etcd1:/pi1 rw", 1),
        ("40 24 0:50 / /var/log rw - nfs4 etcd1:/srv/log rw", 1),
        ("40 24 0:50 / /var/log rw - tmpfs chaos-engine rw", 0),
        ("40 24 0:50 / /var/log rw - nfs4 a:/b rw\n41 40 0:51 / /var/log rw - tmpfs x rw", 0),
    ],
)
def test_the_uppermost_mount_on_var_log_counts(node: Path, mount: str, value: int) -> None:
    with (node / "mountinfo").open("a") as file:
        file.write(f"{mount}\n")
    assert f"chaos_engine_log_share_mounted {value}" in written(node)


@pytest.mark.parametrize(
    ("minutes", "uptime", "works"),
    [(1, "9000.05", True), (60, "9000.05", False), (60, "300.10", True)],
)
def test_old_metrics_are_told_unless_the_node_has_just_booted(
    tmp_path: Path, minutes: int, uptime: str, works: bool
) -> None:
    """The clock may have been set since the first ones were written."""
    (tmp_path / "uptime").write_text(f"{uptime} 1.00\n")
    (tmp_path / TIMER).touch()
    (tmp_path / "chaos-engine.prom").touch()
    old = time.time() - 60 * minutes
    os.utime(tmp_path / "chaos-engine.prom", (old, old))
    check = METRICS_WRITTEN.command.replace("/proc", str(tmp_path)).replace(FOLDER, str(tmp_path))
    check = check.replace("/etc/systemd/system", str(tmp_path))
    systemctl = 'systemctl() { [ "$1" = is-active ]; }'
    done = subprocess.run(["sh", "-c", f"{systemctl}\n{check}"], check=False)
    assert (done.returncode == 0) == works


def test_a_hostile_name_of_a_program_stays_within_its_label(node: Path) -> None:
    process = node / "proc/7"
    process.mkdir(parents=True)
    (process / "io").write_text("write_bytes: 8192\ncancelled_write_bytes: 0\n")
    (process / "comm").write_text('a"} 1\\\n')
    found = [line for line in written(node, str(node / "proc")) if "written_bytes" in line]
    assert found == ['chaos_engine_written_bytes{program="a\\"}%201\\\\"} 8192']


def test_the_wear_of_an_emmc_is_given_for_both_of_its_areas(node: Path) -> None:
    (node / "block/mmcblk0/device").mkdir(parents=True)
    (node / "block/mmcblk0/device/life_time").write_text("0x02 0x0b\n")
    found = [line for line in written(node) if "life_used" in line]
    assert found == [
        'chaos_engine_card_life_used{device="mmcblk0",area="a"} 2',
        'chaos_engine_card_life_used{device="mmcblk0",area="b"} 11',
    ]


def test_the_end_of_each_certificate_is_given(node: Path) -> None:
    (node / "kubernetes").mkdir()
    file = node / "kubernetes/client.crt"
    file.write_bytes(Pair("x", end=datetime(2040, 1, 1, tzinfo=timezone.utc)).certificate)
    (node / "kubernetes/torn.crt").write_text("-----BEGIN")
    found = [line for line in written(node) if "expiry" in line]
    assert found == [f'chaos_engine_certificate_expiry_seconds{{path="{file}"}} 2208988800']


def test_the_name_of_a_certificate_stays_within_its_label(node: Path) -> None:
    (node / "kubernetes").mkdir()
    file = node / 'kubernetes/my "own".crt'
    file.write_bytes(Pair("x", end=datetime(2040, 1, 1, tzinfo=timezone.utc)).certificate)
    (line,) = [line for line in written(node) if "expiry" in line]
    assert line.endswith(r'/my \"own\".crt"} 2208988800')
