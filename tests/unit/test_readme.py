"""The documents say what is true of the tree: settings, names, links, commands, messages."""

from __future__ import annotations

import ast
import re
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, StringConstraints

from chaos_engine import deploys
from chaos_engine.deploys.settings import known_keys
from chaos_engine.deploys.worker import CONCERNS
from tests import docs_hook, settings_table, transcript
from tests.pages import (
    CHECKOUT,
    CONTRIBUTING,
    DOCS,
    DOCUMENTS,
    PREVIEW,
    README,
    Block,
    blocks,
    leads,
    links,
    shell_blocks,
)
from tests.settings_table import BEGIN, END, PAGE, ROLES, replaced
from tests.unit.models import all_models

START = DOCS / "start.md"
SITE = [CHECKOUT / "inventory.py", *sorted((CHECKOUT / "group_data").glob("*.py"))]


class Entry(BaseModel):
    """A value that has parts."""


each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT))
)


def test_the_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 200
    assert len(text.split()) <= 1500


def test_the_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links(README.read_text())}
    pages = {str(path.relative_to(CHECKOUT)) for path in DOCUMENTS if path.parent == DOCS}
    assert pages - linked == set()


class TestSettings:
    def test_they_are_as_the_models_have_them(self) -> None:
        assert PAGE.read_text() == replaced(PAGE.read_text()), "run: make readme"

    def test_every_one_is_in_the_table(self) -> None:
        listed = set(re.findall(r"^\| `chaos_(\w+)` ", PAGE.read_text(), re.MULTILINE))
        assert listed == {name for model in all_models() for name in model.model_fields}

    def test_what_is_outside_the_markers_stays(self) -> None:
        text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
        assert replaced(text).startswith(f"before\n{BEGIN}\n\n| setting |")
        assert replaced(text).endswith(f"\n{END}\nafter\n")
        assert replaced(replaced(text)) == replaced(text)

    def test_without_markers_nothing_is_written(self) -> None:
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
    def test_a_type_reads_as_its_values_are_written(self, annotation: Any, text: str) -> None:
        assert settings_table._type(annotation) == text

    @each_document
    def test_every_one_that_is_mentioned_is_there(self, document: Path) -> None:
        mentioned = set(re.findall(r"\bchaos_(?!engine)\w+", document.read_text()))
        assert mentioned - known_keys() == set()


class TestValuesToEdit:
    """What everybody has to change stands below a comment EDIT, and `start.md` names it."""

    def test_whatever_names_a_machine_or_an_address_is_marked(self) -> None:
        site = re.compile(r"^[^#\"].*(?:\d+\.\d+\.\d+\.|\bpi\d|pi\{|(?:[0-9a-f]{2}:){5})")
        found = {key for path in SITE for key, value in self.values(path) if site.match(value)}
        assert found == {key for path in SITE for key in self.marked(path)}

    def test_the_page_names_them(self) -> None:
        table = START.read_text().partition("| file | what you change |")[2].partition("\n\n")[0]
        for path in SITE:
            row = table.partition(f"| `{path.relative_to(CHECKOUT)}` |")[2].partition("\n")[0]
            assert set(re.findall(r"`(\w+)`", row)) == self.marked(path), path

    @staticmethod
    def values(path: Path) -> list[tuple[str, str]]:
        """The names that a file assigns, each with its line."""
        found = re.findall(r"^((\w+) = .*)$", path.read_text(), re.MULTILINE)
        return [(name, line) for line, name in found]

    @staticmethod
    def marked(path: Path) -> set[str]:
        """The names that stand below a comment EDIT."""
        return set(re.findall(r"^# EDIT: .*\n(\w+) = ", path.read_text(), re.MULTILINE))


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
        module = CHECKOUT / parts[0] / parts[1]
        found = module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()
        assert found, f"chaos_engine{name}"


@each_document
def test_every_test_that_is_named_is_there(document: Path) -> None:
    named = re.findall(
        r"`?(?:tests/)?((?:unit|acceptance|torture)/[a-z0-9_]+\.py)", document.read_text()
    )
    assert [name for name in named if not (CHECKOUT / "tests" / name).is_file()] == []


class TestCommands:
    """Every block of shell commands says how its commands are known to work (`tests/pages.py`)."""

    @pytest.mark.parametrize("block", shell_blocks(), ids=lambda block: block.commands[0][:60])
    def test_each_block_runs_on_the_lab_or_says_why_not(self, block: Block) -> None:
        kind, _, rest = block.mark.partition(": ")
        assert kind in ("lab", "tested", "not on the lab"), f"{block.page}: {block.code}"
        assert rest, block.page
        if kind == "lab":
            assert re.fullmatch(r"computer|pi\d+", block.where), block.mark
        if kind == "tested":
            assert (CHECKOUT / rest).is_file(), block.mark

    def test_commands_stand_in_blocks_that_are_looked_at(self) -> None:
        for page in DOCUMENTS:
            for block in blocks(page):
                first = (block.code.splitlines() or [""])[0].split(" ")[0]
                if block.language != "sh":
                    assert first not in ("pyinfra", "sudo", "make", "ssh", "systemctl"), page

    def test_some_run_on_the_lab(self) -> None:
        places = {block.where for block in shell_blocks()} - {""}
        assert {"computer", "pi5"} <= places

    def test_the_project_for_one_pi_has_eight_lines(self) -> None:
        (shown,) = (b for b in blocks(README) if b.code.startswith("# deploy.py"))
        assert len(shown.code.splitlines()) == 8

    def test_the_page_lists_the_concerns_of_a_worker_in_order(self) -> None:
        text = (DOCS / "only-some.md").read_text()
        table = text.partition("| concern | what it needs |\n")[2].partition("\n\n")[0]
        column = "".join(row.split("|")[1] for row in table.splitlines())
        assert re.findall(r"`(\w+)`", column) == [concern.__name__ for concern in CONCERNS]


class TestOutput:
    def test_the_readme_shows_what_the_page_of_a_preview_has(self) -> None:
        text = README.read_text()
        assert text == transcript.excerpted(text, PREVIEW.read_text()), "run: make transcript"

    def test_verify_has_a_line_for_each_concern(self) -> None:
        lines = transcript.shown(PREVIEW.read_text(), transcript.VERIFIED)
        found = [match[1] for line in lines if (match := re.search(r"\] +(\w+) +ok$", line))]
        assert found == [concern.__name__ for concern in CONCERNS], "run: make transcript"

    def test_without_markers_nothing_is_written(self) -> None:
        with pytest.raises(ValueError, match="needs the lines"):
            transcript.excerpted("no excerpts here", PREVIEW.read_text())

    def test_the_first_reason_of_each_operation_is_an_excerpt(self) -> None:
        page = (
            f"\n## {transcript.FRESH}\n\n```text\n$ pyinfra\n"
            "    [pi1]  Connected\n"
            "    [pi1]  Worker | Docker | Run Docker: hold docker.io\n"
            "    [pi1]  Worker | Docker | Run Docker: start docker.service\n"
            f"    [pi1]  Reboot | Reboot node: {'long ' * 30}\n"
            "    [pi1]  to be changed by 2 operations\n```\n"
            f"\n## {transcript.VERIFIED}\n\n```text\n$ pyinfra verify\n    [pi1]  swap  ok\n```\n"
        )
        names = ("preview", "verify")
        readme = "".join(
            f"<!-- {name}: written by `make transcript` -->\n<!-- end of {name} -->\n"
            for name in names
        )
        text = transcript.excerpted(readme, page)
        assert text.count("Run Docker: ") == 1
        assert "long …\n" in text
        assert "to be changed by 2" in text
        assert "swap  ok" in text
        assert transcript.excerpted(text, page) == text


def test_each_row_of_who_can_do_what_has_a_test_or_trusts_wholly() -> None:
    text = (DOCS / "security.md").read_text()
    _, _, rows = text.partition("## Who can do what")[2].partition("|---|")
    table = [row.split(" | ") for row in rows.partition("\n\n")[0].splitlines()[1:]]
    assert len(table) >= 11
    for who, _, _, bar, test in table:
        assert "test_" in test or bar.startswith("nothing"), who


def test_every_concern_is_in_the_table_of_what_is_changed() -> None:
    text = (DOCS / "changes.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert listed >= {*deploys.__all__} - {*ROLES}


class TestIndexBySymptom:
    """Its messages are the ones that the code has."""

    @staticmethod
    def said() -> str:
        """Every text of the code; values that are filled in are left out."""
        texts = [path.read_text() for path in (CHECKOUT / "templates").rglob("*") if path.is_file()]
        for folder in ("deploys", "facts", "operations"):
            for path in (CHECKOUT / folder).rglob("*.py"):
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.JoinedStr):
                        parts = [v.value for v in node.values if isinstance(v, ast.Constant)]
                        texts.append("\0".join(map(str, parts)))
                    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                        texts.append(node.value)
        return "\n".join(texts)

    def test_each_message_is_in_the_code(self) -> None:
        said = self.said()
        rows = re.findall(r"^\| `([^`]+)` \|", (DOCS / "symptoms.md").read_text(), re.MULTILINE)
        others = {"k8s:6443"}
        pieces = [piece.strip() for row in rows for piece in row.split("…") if row not in others]
        assert len(pieces) > 30
        assert [piece for piece in pieces if piece not in said] == []


class TestReference:
    """`make docs` lists facts, operations and deploys: all that their sources define."""

    @pytest.mark.parametrize("kind", ["facts", "operations"])
    def test_every_one_is_listed(self, kind: str) -> None:
        begins = {
            "facts": r"^class ([A-Z]\w+)\((?:NodeFact|YesOrNo|SeveralFact|ComposedFact)\b",
            "operations": r"^@(?:converge|operation)\(.*?^def ([a-z]\w+)\(",
        }
        bases = {"YesOrNo", "SeveralFact", "ComposedFact"}
        texts = [path.read_text() for path in (CHECKOUT / kind).rglob("*.py")]
        flags = re.MULTILINE | re.DOTALL
        defined = {name for text in texts for name in re.findall(begins[kind], text, flags)}
        assert len(defined) > 25
        assert {name.rpartition(".")[2] for name in docs_hook.public(kind)} == defined - bases

    def test_names_that_users_import_are_listed_as_they_import_them(self) -> None:
        facts = {
            "kernel.KernelCmdline",
            "mounts.Mounts",
            "docker.DockerNetworks",
            "macvlan.MacvlanLinks",
        }
        assert {f"chaos_engine.facts.{name}" for name in facts} <= {*docs_hook.public("facts")}
        assert "chaos_engine.operations.files.install" in {*docs_hook.public("operations")}
        assert "chaos_engine.deploys.docker.docker" in {*docs_hook.public("deploys")}

    def test_a_link_leads_where_the_site_has_the_page(self) -> None:
        text = (
            "[a](docs/start.md#real-pis) ![b](docs/topology.svg) [c](CONTRIBUTING.md) "
            "[d](files/README.md) [e](https://example.org/x)"
        )
        assert docs_hook.site_links(text, "index.md") == (
            "[a](start.md#real-pis) ![b](topology.svg) [c](contributing.md) "
            "d [e](https://example.org/x)"
        )
        text = "[a](../../README.md) [b](../performance.md) [c](card.json) [d](../../tests/x.py)"
        assert docs_hook.site_links(text, "benchmarks/card.md") == (
            "[a](../index.md) [b](../performance.md) [c](card.json) d"
        )

    def test_every_list_that_the_page_asks_for_is_made(self) -> None:
        asked = re.findall(r"<!-- list of (\w+) -->", (DOCS / "reference.md").read_text())
        assert sorted(asked) == ["deploys", "facts", "operations"]
        for kind in asked:
            assert all(line.startswith("::: chaos_engine.") for line in docs_hook.directives(kind))


def excerpts() -> list[tuple[str, str]]:
    """The pieces of code that CONTRIBUTING.md shows, with the files that they are from."""
    found = re.findall(
        r"^```python\n# (\S+)\n(.*?)^```$", CONTRIBUTING.read_text(), re.MULTILINE | re.DOTALL
    )
    return [(path, piece) for path, code in found for piece in code.split("...\n")]


@pytest.mark.parametrize(("path", "piece"), excerpts())
def test_shown_code_is_the_code(path: str, piece: str) -> None:
    assert piece in (CHECKOUT / path).read_text()
