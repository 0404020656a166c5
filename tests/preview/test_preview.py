"""The preview for those who cannot start a virtual cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_preview_on_fake_hosts_lists_every_operation_of_a_fresh_node() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.preview"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    text = run.stdout + run.stderr
    assert run.returncode == 0, text
    assert "Traceback" not in text
    assert "Refuse" not in text
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.strip().startswith(("Worker |", "Reboot |"))
    ]
    unchanged = [line for line in lines if "4 (@fake/pi1" not in line]
    # a fresh node is in no cluster
    assert [line.partition("  ")[0].split(" | ")[1] for line in unchanged] == [
        "Preflight",
        "Uncordon",
        "Kubernetes",
        "Etcd certificates",
        "Uncordon mended node",
    ], text
    assert len(lines) > 12, text
