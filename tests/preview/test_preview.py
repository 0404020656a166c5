"""Preview the deploy where no virtual cluster can be started."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import transcript
from tests.pages import CHECKOUT, PREVIEW

OF_THE_IMAGE = ("Worker | Logs | ", "Worker | Swap | ")
"""Begins operations whose reasons name what a node's image has: swap areas, rsyslog's snippets."""


@pytest.fixture(scope="module")
def text() -> str:
    """What the preview prints."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.preview"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    text = run.stdout + run.stderr
    assert run.returncode == 0, text
    return text


def test_preview_on_fake_hosts_lists_every_operation_of_a_fresh_node(text: str) -> None:
    assert "Traceback" not in text
    assert "Refuse" not in text
    lines = [
        line.strip()
        for line in text.splitlines()
        if line.strip().startswith(("Worker |", "Reboot |"))
    ]
    unchanged = [line for line in lines if "4 (@fake/pi1" not in line]
    # A fresh node is in no cluster
    assert [line.partition("  ")[0].split(" | ")[1] for line in unchanged] == [
        "Preflight",
        "Uncordon",
        "Logs",
        "Clock",
        "Kubernetes",
        "Etcd certificates",
        "Uncordon fixed node",
    ], text
    assert len(lines) > 12, text


def test_the_page_of_a_preview_has_what_one_says_today(text: str) -> None:
    now = transcript.reasons(transcript.said(text, "@fake/pi1"))
    written = transcript.reasons(transcript.shown(PREVIEW.read_text(), transcript.FRESH))
    assert [name for name, _ in now] != []
    assert told(now) == told(written), "run: make transcript"
    assert {name for name, _ in now} == {name for name, _ in written}, "run: make transcript"


def told(reasons: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the operations and reasons that do not depend on a node's image."""
    return [one for one in reasons if not one[0].startswith(OF_THE_IMAGE)]
