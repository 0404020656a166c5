"""The shell scripts under ``templates/shell``, and every script that is made of them."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos_engine.facts import manifest
from chaos_engine.facts.observe import LOCK, LOCK_SECONDS, PATH
from chaos_engine.facts.observe.progress import MARK
from chaos_engine.facts.repairs import REPAIRS
from chaos_engine.facts.share import TARGET
from chaos_engine.facts.systemd import RECORDS
from chaos_engine.operations.engine.shell import OTHERS, PRELUDE
from chaos_engine.templates import shell_script
from tests.shellcheck import quoted
from tests.unit.rendered import CHECKOUT, changes, fact_classes, files, functions, questions, reads
from tests.unit.scripts import PLACES

MOST_LINES = 40
"""A longer script is a file."""

FILES = sorted((CHECKOUT / "templates/shell").glob("*.sh"))

SAME = {
    "STATE_DIR": manifest.DIRECTORY,
    "RUN_DIR": RECORDS,
    "LOG_SHARE": TARGET,
    "MANIFEST": manifest.MANIFEST,
    "ORIGINALS": manifest.ORIGINALS,
    "WRITTEN": manifest.WRITTEN,
    "ASIDE": manifest.ASIDE,
    "REPAIRS": REPAIRS,
    "STAGED": manifest.STAGED,
    "REPACKED": manifest.REPACKED,
    "CHANGING": manifest.CHANGING,
    "LOCK": LOCK,
    "LOCK_SECONDS": str(LOCK_SECONDS),
}
"""What the prelude's variables have to be."""


def test_shell_and_python_know_the_same_places() -> None:
    names = [word.partition("=")[0] for word in PLACES.split()]
    assert names == [*dict.fromkeys(names)]
    echo = "\n".join(f'echo "${name}"' for name in names)
    said = subprocess.run(
        ["sh", "-euc", PLACES + echo], capture_output=True, text=True, check=True
    ).stdout
    assert dict(zip(names, said.splitlines(), strict=True)) == SAME


def test_shell_and_python_say_the_same_of_what_both_decide() -> None:
    assert f"\nexport PATH={PATH} LC_ALL=C\n" in PRELUDE
    assert f'"{MARK}$*"' in PRELUDE
    assert f"concern=${{concern:-{OTHERS}}}\n" in shell_script("originals")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_prelude_says_where_this_packages_files_are(path: Path) -> None:
    places = re.findall(r"/(?:var/lib|run)/chaos-engine(?![\w-])", path.read_text())
    assert len(places) == (2 if path.stem == "prelude" else 0)


def strings(tree: ast.Module) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Give the strings of a module that are no documentation."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        if text and node not in texts:
            assert isinstance(node, ast.Constant | ast.JoinedStr)
            yield node


def test_no_long_script_is_a_string_in_python() -> None:
    found = [
        (str(path.relative_to(CHECKOUT)), text.lineno, lines)
        for folder in ("deploys", "facts", "operations")
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
        for text in strings(ast.parse(path.read_text()))
        if (lines := (text.end_lineno or 0) - text.lineno) > MOST_LINES
    ]
    assert found == []


def test_only_comments_and_empty_lines_of_a_script_are_left_out() -> None:
    for path in FILES:
        kept = iter(shell_script(path.stem).splitlines())
        for line in path.read_text().splitlines():
            if line.strip() and not line.strip().startswith("#"):
                assert next(kept) == line
        assert list(kept) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_names_of_functions_are_explained(path: Path) -> None:
    lines = path.read_text().splitlines()
    functions_of = [n for n, line in enumerate(lines) if line.endswith(("() {", "() ("))]
    assert functions_of
    for number in functions_of:
        name = lines[number].partition("(")[0]
        above = number - 1
        while lines[above - 1].startswith("#"):
            above -= 1
        assert lines[above].startswith((f"# {name} ", f"# {name}:")), name


SCRIPTS = {
    f"{kind.__name__} {name}": text for kind in (changes, questions, files) for name, text in kind()
}


def test_every_fact_is_asked_here() -> None:
    assert {read.fact for read in reads()} == fact_classes()


def test_functions_are_found_in_scripts() -> None:
    found = functions(SCRIPTS["changes undo.docker"])
    assert {"tell", "sync", "keep", "apart", "repair", "confined", "quietly", "state"} <= {*found}


def test_shellcheck_sees_what_is_quoted_in_a_script() -> None:
    text = """sh -c 'echo '"'"'a b'"'"'; cd /'; confined 5 "$at" 'rm -- "$1"' x; echo 'no script'"""
    assert quoted(text) == ["echo 'a b'; cd /", 'rm -- "$1"']


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_function_is_defined_twice_in_a_script(name: str) -> None:
    twice = {name: n for name, n in Counter(functions(SCRIPTS[name])).items() if n > 1}
    assert twice == {}
