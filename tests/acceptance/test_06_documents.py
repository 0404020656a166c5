"""The documents' commands run as they are written, and `verify` says what the README shows.

Which ones: those in blocks below a comment ``<!-- lab: ... -->`` (see `tests/pages.py`).
"""

from __future__ import annotations

import re
import shlex

import pytest

from tests import transcript
from tests.cluster.virtual_cluster import Cluster
from tests.pages import PREVIEW, shell_blocks

COMMANDS = sorted(
    {
        (block.where, re.sub(r"\s+#.*", "", command))
        for block in shell_blocks()
        if block.where
        for command in block.commands
    }
)


@pytest.mark.parametrize(("where", "command"), COMMANDS)
def test_a_command_of_the_documents_runs(deployed: Cluster, where: str, command: str) -> None:
    """On the hosts that this lab has; where pyinfra asks, Enter is the answer, as it wants."""
    if where != "computer":
        deployed.run("ssh", where, command)
        return
    if command.startswith("pyinfra") and "--limit" not in command:
        command = f"{command} {shlex.join(deployed.limit)}"
    deployed.run("sh", "-c", f"yes '' | {command}")


def test_verify_says_what_the_readme_shows(deployed: Cluster) -> None:
    run = deployed.pyinfra(*transcript.VERIFY, "--limit", transcript.NODE)
    shown = transcript.shown(PREVIEW.read_text(), transcript.VERIFIED)[1:]
    assert transcript.said(run.text, transcript.NODE) == shown, "run: make transcript"
