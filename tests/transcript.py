"""make transcript: docs/preview.md, what a preview and the run after it print, taken on a lab."""

from __future__ import annotations

import re
import shlex
from datetime import date

from click import unstyle

from tests.cluster.virtual_cluster import CHECKOUT, Cluster, own_lab

PAGE = CHECKOUT / "docs" / "preview.md"
NODE = "pi1"
EDIT = ("--data", "chaos_docker_log_max_size=10m")
HEAD = """\
# A preview, and the run after it

Written by `make transcript` on {day}, on a node of the
[virtual cluster](../CONTRIBUTING.md#the-lab). Each line that begins with the node's name and an
operation says what is done and why. What a preview says, the run says again, word for word; tests
compare the two (`tests/acceptance/test_02_deploy.py`, `tests/cluster/drift.py`).

Left out below: tables of operations, operations that change nothing, and what a long step says
every few seconds.
"""

# Signs of life of long steps, which depend on how fast the node is
_SIGN = re.compile(r"\] +\S.*, [0-9]+ s(:| of [0-9]+ s$|$)")


def main() -> None:
    """Write the page."""
    with own_lab("transcript", "TRANSCRIPT_KEEP", "--workers", NODE) as cluster:
        parts = [
            HEAD.format(day=date.today().isoformat()),
            section(cluster, "A fresh node", "deploy.py"),
            section(cluster, "A setting is changed", "deploy.py", *EDIT),
        ]
    PAGE.write_text("\n".join(parts))


def section(cluster: Cluster, title: str, *arguments: str) -> str:
    """A preview and the run, each with its command, of one node."""
    text = [f"## {title}\n"]
    for flag in ("--dry", "-y"):
        words = ("inventory.py", *arguments, flag, "--limit", NODE)
        run = cluster.run("pyinfra", *words)
        lines = [line.rstrip() for line in unstyle(run.text).splitlines()]
        kept = "\n".join(
            line
            for line in lines
            if f"[{NODE}]" in line and "No changes" not in line and not _SIGN.search(line)
        )
        text.append(f"```text\n$ pyinfra {shlex.join(words)}\n{kept}\n```\n")
    return "\n".join(text)


if __name__ == "__main__":
    main()
