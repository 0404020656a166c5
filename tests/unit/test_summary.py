"""Test the last block of a run: what it says of each node, and the file with the same content."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from click import unstyle
from pyinfra.api.command import StringCommand
from pyinfra.api.connect import disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import ctx_state
from pyinfra.operations import server

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings, SettingsError
from chaos_engine.facts.observe import NodeError, NodeFact, Read, observe, of_host
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import Reasons, because
from chaos_engine.operations.engine.summary import Outcome, advice, fall_short
from tests.unit.cli import start
from tests.unit.nodes import Nodes


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pyinfra")


class Answer(NodeFact[str]):
    """A word."""

    def command(self, word: str) -> StringCommand:
        return StringCommand("echo", word)

    def parse(self, lines: list[str]) -> str:
        return lines[0]


@converge(reads=lambda word: [Read.of(Answer, word=word)])
def obey(word: str) -> Commands:
    """Do what a word says."""
    if observe(Answer, word=word) == "refuse":
        raise NodeError("its root file system is read-only; look at dmesg")
    if word in ("change", "fail"):
        because(f"the word is {word}")
        yield StringCommand("true" if word == "change" else "false")
    if word == "short":
        fall_short("/var/log is not on the volume")


class ObeySettings(Settings):
    """The word, and one that is not there."""

    word: str = "nothing"


@concern("Obey", ObeySettings)
def obedient(settings: ObeySettings) -> None:
    """Do what the node's word says, and one thing after it."""
    obey(name="Do it", word=settings.word)
    obey(name="Do more", word="change" if settings.word == "fail" else "nothing")


def block(caplog: pytest.LogCaptureFixture, nodes: Nodes) -> list[str]:
    """Return the lines of the summary as plain text; there must be one summary."""
    with ctx_state.use(nodes.state):
        disconnect_all(nodes.state)
        disconnect_all(nodes.state)
    lines = [" ".join(line.split()) for line in caplog.messages]
    assert lines.count("--> Nodes:") == 1
    return lines[lines.index("--> Nodes:") + 1 :]


@pytest.fixture
def of_words() -> Any:
    def make(*words: str, **more: Any) -> Nodes:
        hosts = {f"pi{n}": {"chaos_word": word} for n, word in enumerate(words, 1)}
        return Nodes(*hosts, hosts=hosts, **more)

    return make


def test_a_preview_names_each_node_and_what_would_be_done(
    of_words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = of_words("nothing", "change", "refuse")
    nodes.prepare(obedient)
    assert block(caplog, nodes) == [
        "[pi1] as wanted",
        "[pi2] to be changed by 1 operation: Do it",
        "[pi3] refused: its root file system is read-only; look at dmesg",
        "Next: fix the problems above and run again; to run only on these nodes: --limit pi3",
    ]
    assert nodes.failed == {"pi3"}, "the exit code of a preview tells of a refused node"


def test_a_run_names_what_it_did_and_what_went_wrong(
    of_words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = of_words("change", "fail", "short", "refuse", "nothing", changes=False)
    nodes.prepare(obedient)
    nodes.execute()
    assert block(caplog, nodes) == [
        "[pi1] changed by 1 operation: Do it",
        "[pi2] failed: Do it: its output above says why",
        "[pi3] failed: /var/log is not on the volume",
        "[pi4] refused: its root file system is read-only; look at dmesg",
        "[pi5] as wanted",
        "Next: fix the problems above and run again; to run only on these nodes: "
        "--limit pi2 --limit pi3 --limit pi4",
    ]
    said = [line for line in caplog.messages if "read-only" in line]
    assert len(said) == 2, "when it was refused, and in the block"


def test_a_refusal_that_a_preview_has_printed_is_not_printed_again_by_the_run(
    of_words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = of_words("refuse", "nothing")
    nodes.prepare(obedient)
    nodes.execute()
    before = [line for line in caplog.messages if "read-only" in line]
    assert len(before) == 1


def test_a_host_that_was_not_reached_is_named(
    of_words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = of_words("nothing", "nothing")
    nodes.state.activated_hosts.discard(nodes["pi2"])
    nodes.state.active_hosts.discard(nodes["pi2"])
    with nodes.on("pi1"):
        obedient()
    first, second, _ = block(caplog, nodes)
    assert first == "[pi1] as wanted"
    assert second.startswith("[pi2] not reached: ")


def test_a_run_that_ends_in_the_middle_says_which_nodes_are_not_finished(
    of_words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = of_words("fail", changes=False)
    nodes.prepare(obedient)
    with pytest.raises(PyinfraError, match="No hosts remaining"):
        nodes.execute()
    assert block(caplog, nodes)[0] == "[pi1] failed: Do it: its output above says why"


def test_a_mistake_in_the_settings_leaves_no_block(
    of_words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = of_words("nothing", "nothing", data={"chaos_wrd": "x"})
    with pytest.raises(SettingsError):
        nodes.prepare(obedient)
    with ctx_state.use(nodes.state):
        disconnect_all(nodes.state)
    assert "--> Nodes:" not in caplog.messages


DEPLOY = """
from pyinfra import host
from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.facts.observe import (NodeError)
from chaos_engine.operations.engine.converge import converge

@converge(reads=lambda: [])
def fit():
    raise NodeError("it is too old")
    yield

@concern("Preflight", Settings)
def preflight(settings):
    fit(name="Check node")

preflight()
"""


@pytest.mark.parametrize("flag", ["--dry", "-y"])
def test_pyinfra_does_not_call_a_refused_node_ready(tmp_path: Path, flag: str) -> None:
    (tmp_path / "deploy.py").write_text(DEPLOY)
    out = tmp_path / "out"
    process = start(tmp_path, "@local", "deploy.py", flag, out=out)
    process.join(60)
    text = unstyle(out.read_text())
    assert process.exitcode == 1, text
    assert "Ready:" not in text
    said = "Refused: it is too old" if flag == "--dry" else "it is too old"
    assert f"[@local] {said}" in text
    assert "[@local] refused: it is too old" in text.split("--> Nodes:")[1]


def test_the_file_has_results_and_reasons_of_those_that_ask_for_it(
    of_words: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    file = tmp_path / "summary.json"
    nodes = of_words("change", "refuse", data={"chaos_summary_file": str(file)})
    nodes.prepare(obedient)
    block(caplog, nodes)
    assert json.loads(file.read_text()) == {
        "preview": True,
        "nodes": {
            "pi1": {
                "result": "to be changed",
                "why": "",
                "operations": {"Obey | Do it": ["the word is change"]},
            },
            "pi2": {
                "result": "refused",
                "why": "its root file system is read-only; look at dmesg",
                "operations": {},
            },
        },
    }
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


CUT_SHORT = (
    DEPLOY.replace("raise NodeError", "return; raise NodeError")
    + """
from pyinfra.facts.server import Command
{rest}
"""
)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("raise ValueError('a mistake in the file')", "[@local] not finished: the run ended"),
        ("host.get_fact(Command, command='exit 3')", "[@local] failed: its output above"),
    ],
)
def test_what_was_not_found_out_is_not_called_as_wanted(
    tmp_path: Path, rest: str, said: str
) -> None:
    (tmp_path / "deploy.py").write_text(CUT_SHORT.replace("{rest}", rest))
    file = tmp_path / "summary.json"
    file.write_text("of an earlier run")
    data = ("--data", f"chaos_summary_file={file}")
    process = start(tmp_path, "@local", "deploy.py", "--dry", *data, out=tmp_path / "out")
    process.join(60)
    text = unstyle((tmp_path / "out").read_text())
    assert process.exitcode == 1
    assert said in text
    assert "as wanted" not in text
    assert json.loads(file.read_text())["nodes"]["@local"]["result"] in ("failed", "not finished")


def test_operations_of_one_name_are_counted_each(
    of_words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = of_words("nothing", changes=False)
    with nodes.on():
        obedient()
        for _ in range(2):
            server.shell(commands=["true"])
    nodes.execute()
    assert block(caplog, nodes)[0].startswith("[pi1] changed by 2 operations: ")


def test_an_inventory_without_workers_is_told(tmp_path: Path) -> None:
    shipped = (Path(__file__).parents[2] / "inventory.py").read_text()
    emptied = re.sub("^workers = .*$", "workers = []", shipped, flags=re.MULTILINE)
    (tmp_path / "inventory.py").write_text(emptied)
    (tmp_path / "deploy.py").write_text("")
    process = start(tmp_path, "inventory.py", "deploy.py", "-y", out=tmp_path / "out")
    process.join(60)
    assert process.exitcode == 1
    assert "workers is empty; name your nodes there" in (tmp_path / "out").read_text()


@pytest.mark.parametrize("path", ["there/is/none.json", "."])
def test_a_file_that_cannot_be_written_stops_the_run_before_any_change(
    of_words: Any, path: str
) -> None:
    nodes = of_words("change", data={"chaos_summary_file": path})
    with pytest.raises(SettingsError, match=r"pi1, group all: chaos_summary_file = "):
        nodes.prepare(obedient)
    assert not nodes.planned()


def test_the_run_after_a_preview_tells_its_own_reasons_once(of_words: Any) -> None:
    nodes = of_words("change")
    nodes.prepare(obedient)
    nodes.execute()
    with nodes.on():
        reasons = of_host(Reasons)
    assert (
        reasons.printed[False] == reasons.printed[True] == {"Obey | Do it": ["the word is change"]}
    )


def test_a_line_names_the_first_of_many_operations() -> None:
    many = {f"Role | Do {number}": () for number in range(9)}
    assert Outcome("changed", operations=many).line == (
        "changed by 9 operations: Do 0, Do 1, Do 2, Do 3, Do 4, Do 5 and 3 more"
    )


def test_advice_is_for_what_can_be_done() -> None:
    well = Outcome("as wanted")
    due = Outcome("to be changed", operations={"Docker | Run Docker": ("hold docker.io",)})
    assert advice({"pi1": well}, previewed=True) == ""
    assert advice({"pi1": well, "pi2": due}, previewed=True).startswith("nothing was changed")
    assert advice({"pi1": Outcome("changed")}, previewed=False) == ""
