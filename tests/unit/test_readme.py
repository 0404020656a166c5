"""The documents say what is true of the tree: settings, names, links, commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, StringConstraints

from chaos_engine import deploys
from chaos_engine.deploys.settings import all_models, known_keys
from tests import settings_table
from tests.settings_table import BEGIN, END, README, ROLES, replaced

CHECKOUT = README.parent
CONTRIBUTING = CHECKOUT / "CONTRIBUTING.md"
DOCUMENTS = [
    README,
    CONTRIBUTING,
    CHECKOUT / "CHANGELOG.md",
    CHECKOUT / "SECURITY.md",
    CHECKOUT / "findings" / "README.md",
    CHECKOUT / "files" / "README.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
]


class Entry(BaseModel):
    """A value that has parts."""


each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT))
)


def test_settings_are_as_the_models_have_them() -> None:
    assert README.read_text() == replaced(README.read_text()), "run: make readme"


def test_every_setting_is_in_the_table() -> None:
    listed = set(re.findall(r"^\| `chaos_(\w+)` ", README.read_text(), re.MULTILINE))
    assert listed == {name for model in all_models() for name in model.model_fields}


def test_what_is_outside_the_markers_stays() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replaced(text).startswith(f"before\n{BEGIN}\n\n| setting |")
    assert replaced(text).endswith(f"\n{END}\nafter\n")
    assert replaced(replaced(text)) == replaced(text)


def test_without_markers_nothing_is_written() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        replaced("no table here")


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (str, "str"),
        (Annotated[str, StringConstraints(pattern="a")], "str"),
        (Annotated[int, Field(ge=1)] | None, "int or None"),
        (IPv4Address, "IPv4 address"),
        (tuple[Annotated[str, "name"], ...], "list of str"),
        (dict[Annotated[str, "name"], IPv4Address], "dict, str to IPv4 address"),
        (dict[str, Entry], "dict, str to dict"),
        (Literal["udp", "tcp"], '`"udp"` or `"tcp"`'),
    ],
)
def test_a_type_reads_as_its_values_are_written(annotation: Any, text: str) -> None:
    assert settings_table._type(annotation) == text


@each_document
def test_every_setting_that_is_mentioned_is_there(document: Path) -> None:
    mentioned = set(re.findall(r"\bchaos_(?!engine)\w+", document.read_text()))
    assert mentioned - known_keys() == set()


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = [link for link in links(document.read_text()) if not leads(document, link)]
    assert broken == []


@each_document
def test_every_make_target_is_there(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    code = re.findall(r"`+(?:[^`]*\n)?[^`]*`+", document.read_text())
    assert {name for text in code for name in re.findall(r"\bmake ([a-z-]+)", text)} <= targets


@each_document
def test_every_module_that_is_named_is_there(document: Path) -> None:
    for name in set(re.findall(r"\bchaos_engine((?:\.\w+)+)", document.read_text())):
        parts = [*name.split(".")[1:], "__init__"]
        assert (CHECKOUT / parts[0] / f"{parts[1]}.py").is_file(), f"chaos_engine{name}"


@each_document
def test_every_test_that_is_named_is_there(document: Path) -> None:
    named = re.findall(
        r"`(?:tests/)?((?:unit|acceptance|torture)/[a-z0-9_]+\.py)", document.read_text()
    )
    assert [name for name in named if not (CHECKOUT / "tests" / name).is_file()] == []


def test_each_row_of_who_can_do_what_has_a_test_or_trusts_wholly() -> None:
    text = (CHECKOUT / "docs" / "security.md").read_text()
    _, _, rows = text.partition("## Who can do what")[2].partition("|---|")
    table = [row.split(" | ") for row in rows.partition("\n\n")[0].splitlines()[1:]]
    assert len(table) >= 11
    for who, _, _, bar, test in table:
        assert "test_" in test or bar.startswith("nothing"), who


def test_every_concern_is_in_the_table_of_what_is_changed() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", README.read_text(), re.MULTILINE))
    assert listed >= {*deploys.__all__} - {*ROLES}


def excerpts() -> list[tuple[str, str]]:
    """The pieces of code that CONTRIBUTING.md shows, with the files that they are from."""
    blocks = re.findall(
        r"^```python\n# (\S+)\n(.*?)^```$", CONTRIBUTING.read_text(), re.MULTILINE | re.DOTALL
    )
    return [(path, piece) for path, code in blocks for piece in code.split("...\n")]


@pytest.mark.parametrize(("path", "piece"), excerpts())
def test_shown_code_is_the_code(path: str, piece: str) -> None:
    assert piece in (CHECKOUT / path).read_text()


def links(text: str) -> Iterator[str]:
    """Where links and pictures of a Markdown text point to, but for other sites."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


def leads(document: Path, link: str) -> bool:
    """Whether a link of a document leads to a file, and to a heading of it if it names one."""
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
    return not anchor or anchor in {slug(heading) for heading in headings}


def slug(heading: str) -> str:
    """The anchor that GitHub and others give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
