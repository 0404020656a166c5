"""make transcript: what a preview, the run after it and `verify` print, taken on a lab.

docs/preview.md gets all of it, README.md an excerpt.
"""

from __future__ import annotations

import re
import shlex
from datetime import date

from click import unstyle

from tests.cluster.virtual_cluster import Cluster, own_lab
from tests.pages import PREVIEW, README

NODE = "pi1"
EDIT = ("--data", "chaos_docker_log_max_size=10m")
FRESH, EDITED, VERIFIED = "A fresh node", "A setting is changed", "Verify"
VERIFY = ("chaos_engine.deploys.verify", "-y")
HEAD = """\
# A preview and its run

`make transcript` wrote this on {day}, on a node of the
[virtual cluster](../CONTRIBUTING.md#the-lab). Each line that begins with the node's name and an
operation says what is done and why. The run repeats the words of the preview; tests compare the two
(`tests/acceptance/test_02_deploy.py`, `tests/cluster/drift.py`).

Left out below: tables of operations, operations that change nothing, and the progress of long
steps.
"""

# The progress of long steps, which depends on how fast the node is
_SIGN = re.compile(r"\] +\S.*, [0-9]+ s(:| of [0-9]+ s$|$)")
_OPERATION = re.compile(r" +\[\S+\] +(?P<operation>\S.* \| [^:|]*): (?P<reason>.*)")
WIDTH = 110
"""Characters of a line of the README's excerpt."""


def main() -> None:
    """Write the page, and the README's excerpt of it."""
    with own_lab("transcript", "TRANSCRIPT_KEEP", "--workers", NODE) as cluster:
        parts = [
            HEAD.format(day=date.today().isoformat()),
            section(cluster, FRESH, ("deploy.py", "--dry"), ("deploy.py", "-y")),
            section(cluster, VERIFIED, VERIFY),  # before the edit, by which the node differs
            section(cluster, EDITED, ("deploy.py", *EDIT, "--dry"), ("deploy.py", *EDIT, "-y")),
        ]
    page = "\n".join(parts)
    PREVIEW.write_text(page)
    README.write_text(excerpted(README.read_text(), page))


def section(cluster: Cluster, title: str, *runs: tuple[str, ...]) -> str:
    """Return a section: what each of these runs of pyinfra prints of one node."""
    text = [f"## {title}\n"]
    for arguments in runs:
        words = ("inventory.py", *arguments, "--limit", NODE)
        kept = "\n".join(said(cluster.run("pyinfra", *words).text, NODE))
        text.append(f"```text\n$ pyinfra {shlex.join(words)}\n{kept}\n```\n")
    return "\n".join(text)


def said(output: str, host: str) -> list[str]:
    """Return the lines of pyinfra's output about a host that tell a reader something."""
    return [
        line.rstrip()
        for line in unstyle(output).splitlines()
        if f"[{host}]" in line and "No changes" not in line and not _SIGN.search(line)
    ]


def shown(page: str, title: str) -> list[str]:
    """Return the lines of the first block of a section of docs/preview.md, its command first."""
    return (
        page.partition(f"\n## {title}\n")[2]
        .partition("```text\n")[2]
        .partition("\n```")[0]
        .split("\n")
    )


def reasons(lines: list[str]) -> list[tuple[str, str]]:
    """Return operations and reasons of what a preview said, each reason with its operation."""
    found = [_OPERATION.fullmatch(line) for line in lines]
    return [(match["operation"], match["reason"]) for match in found if match]


def excerpted(readme: str, page: str) -> str:
    """Return the README's text with its excerpts as docs/preview.md has them.

    Of the preview the first reason of each operation is shown, and what the node's line in the end
    says; of `verify` all.
    """
    preview = shown(page, FRESH)
    short, last = [preview[0]], ""
    for line in preview[1:]:
        match = _OPERATION.fullmatch(line)
        if match and match["operation"] != last:
            short.append(line if len(line) <= WIDTH else f"{line[: WIDTH - 2].rstrip()} …")
            last = match["operation"]
    short.append(preview[-1] if len(preview[-1]) <= WIDTH else f"{preview[-1][: WIDTH - 2]} …")
    text = between(readme, "preview", short)
    return between(text, "verify", shown(page, VERIFIED))


def between(text: str, name: str, lines: list[str]) -> str:
    """Return a text with a block of these lines between its two markers of a name.

    Raises `ValueError` without the markers.
    """
    begin, end = f"<!-- {name}: written by `make transcript` -->", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"README.md needs the lines {begin} and {end}, once each")
    before, _, rest = text.partition(begin)
    block = "\n".join(("```text", *lines, "```"))
    return f"{before}{begin}\n{block}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    main()
