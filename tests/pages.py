"""The documents: README.md and its neighbours, and the pages of docs/, with what stands in them.

A comment before each block of shell commands, invisible where the page is shown, says how they are
known to work:

+ ``<!-- lab: computer -->``: `tests/acceptance/test_06_documents.py` runs them on the lab, as a
  computer on its LAN; with a node's name, such as ``pi5``, as a user on that node
+ ``<!-- tested: tests/torture/test_alone.py -->``: that test does the same, and costs more
+ ``<!-- not on the lab: WHY -->``: nothing runs them
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
DOCS = CHECKOUT / "docs"
README = CHECKOUT / "README.md"
CONTRIBUTING = CHECKOUT / "CONTRIBUTING.md"
PREVIEW = DOCS / "preview.md"

PAGES = (README, CONTRIBUTING, *sorted(DOCS.glob("*.md")))
"""What users and contributors read."""

DOCUMENTS = (
    *PAGES,
    CHECKOUT / "CHANGELOG.md",
    CHECKOUT / "SECURITY.md",
    CHECKOUT / "findings" / "README.md",
    CHECKOUT / "files" / "README.md",
    *sorted((DOCS / "benchmarks").glob("*.md")),
)

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_ON_LAB = re.compile(r"lab: (\w+)")


@dataclass(frozen=True)
class Block:
    """A block of code.

    + mark: the comment before it, "" without one
    """

    page: str
    language: str
    code: str
    mark: str

    @property
    def where(self) -> str:
        """Where the lab runs it: ``computer`` or a node's name; "" if it does not."""
        found = _ON_LAB.fullmatch(self.mark)
        return found[1] if found else ""

    @property
    def commands(self) -> list[str]:
        """Its lines that are commands, as they stand there."""
        return [line for line in self.code.splitlines() if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page."""
    name = str(page.relative_to(CHECKOUT))
    return [
        Block(name, match["language"], match["code"], match["mark"] or "")
        for match in _BLOCK.finditer(page.read_text())
    ]


def shell_blocks() -> list[Block]:
    """Return all blocks of shell commands, of all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language == "sh"]


def links(text: str) -> Iterator[str]:
    """Yield where links and pictures of a Markdown text point to, but for other sites."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def leads(document: Path, link: str) -> bool:
    """Return whether a document's link leads to a file, and to a heading of it if it names one."""
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text())


def anchors(text: str) -> set[str]:
    """Return the anchors of all headings of a Markdown text."""
    outside = _BLOCK.sub("", text)  # a comment of a shell is no heading
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", outside, re.MULTILINE)}


def slug(heading: str) -> str:
    """Return the anchor that GitHub and others give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
