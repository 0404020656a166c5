"""The report's page in a real browser: nothing on its console, whatever a node is called."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from importlib.resources import files
from pathlib import Path

import pytest

from chaos_engine.operations.report.contents import Problem
from chaos_engine.operations.report.page import html
from tests.screenshot import CHROMIUM, example, shoot

pytestmark = pytest.mark.skipif(
    not shutil.which(CHROMIUM[0]), reason="NOT COMPARED: there is no chromium"
)


def said(folder: Path, text: str) -> list[str]:
    """Return what a page says on the console."""
    (folder / "index.html").write_text(text)
    return shoot(folder / "index.html", folder / "picture.png", 1280, 600)


def test_the_page_is_shown_without_a_word_on_the_console(tmp_path: Path) -> None:
    # The policy of the page refuses each request, and says so on the console
    assert said(tmp_path, html(example(), "../docs/{page}.md")) == []
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_a_hostile_name_runs_nothing_and_loads_nothing(tmp_path: Path) -> None:
    evil = '"><script>console.error(1)</script><img src="http://127.0.0.1:1/x">'
    report = example()
    nodes = tuple(
        replace(node, name=evil, problems=(Problem(evil, "start.md"),)) for node in report.nodes
    )
    assert said(tmp_path, html(replace(report, nodes=nodes, warnings=(evil,)), "")) == []


def test_a_request_would_be_seen(tmp_path: Path) -> None:
    page = html(example(), "").replace("<main>", '<main><img src="http://127.0.0.1:1/x">')
    assert any("Content Security Policy" in line for line in said(tmp_path, page))


AXE = """axe.run().then(found => {
  const said = document.createElement("pre");
  said.id = "axe";
  said.textContent = JSON.stringify(found.violations);
  document.body.append(said);
})"""


def barriers(folder: Path, page: str) -> dict[str, str]:
    """Return what axe-core finds wrong with a page: the impact of each rule by its name."""
    source = files("axe_core_python").joinpath("axe.min.js").read_text()
    scripts = "".join(f"<script>{one}</script>" for one in (source, AXE))
    # The policy of the page would refuse the scripts
    page = re.sub("<meta http-equiv=.Content-Security-Policy[^>]*>", "", page)
    (folder / "page.html").write_text(page.replace("</body>", f"{scripts}</body>"))
    command = [*CHROMIUM, "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run(
        [*command, (folder / "page.html").as_uri()], capture_output=True, text=True, check=True
    ).stdout
    (found,) = re.findall('<pre id="axe">(.*?)</pre>', shown, re.DOTALL)
    return {one["id"]: one["impact"] for one in json.loads(unescape(found))}


def test_the_page_has_no_barriers(tmp_path: Path) -> None:
    assert barriers(tmp_path, html(example(), "../docs/{page}.md")) == {}


def test_a_barrier_would_be_found(tmp_path: Path) -> None:
    page = html(example(), "").replace("<main>", '<main><img src="data:,">')
    assert barriers(tmp_path, page) == {"image-alt": "critical"}
