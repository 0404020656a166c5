"""The deploys' decorator: all is checked on a node before anything is registered for it."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import operation

from chaos_engine.deploys.concern import check, concern
from chaos_engine.deploys.settings import Settings, SettingsError
from chaos_engine.facts.files import Content, Texts
from chaos_engine.facts.node import AsRoot
from chaos_engine.facts.observe import HostAnswers, NodeError, Preparation, of_host, warn
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.converge import Commands, converge
from tests.unit.cli import start
from tests.unit.counting import FolderSettings, both, count, first, second
from tests.unit.nodes import Nodes

AS_ROOT = AsRoot().command()


def nodes(tmp_path: Path, *names: str, changes: bool = True) -> Nodes:
    for name in names:
        (tmp_path / name).mkdir(exist_ok=True)
    hosts = {name: {"chaos_folder": str(tmp_path / name)} for name in names}
    return Nodes(*names, hosts=hosts, changes=changes)


@pytest.mark.parametrize("changes", [True, False], ids=["prompt", "-y"])
def test_a_role_runs_its_concerns_in_order(tmp_path: Path, changes: bool) -> None:
    run = nodes(tmp_path, "pi1", changes=changes)
    run.prepare(both)
    assert run.operations() == ["Both | First | Count first", "Both | Second | Count second"]
    run.execute()
    assert run.changed() == run.operations()
    again = nodes(tmp_path, "pi1", changes=changes)
    again.prepare(both)
    again.execute()
    assert again.changed() == []


def test_a_role_without_changes_reads_once_a_stage(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / "pi1").mkdir(exist_ok=True)
        (tmp_path / "pi1" / name).write_text("10")
    run = nodes(tmp_path, "pi1")
    run.prepare(both)
    assert len(run.commands()) == 1
    run.execute()
    assert len(run.commands()) == 2


def as_wanted(tmp_path: Path, *names: str) -> None:
    for name in names:
        for file in ("first", "second"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_text("10")


def test_a_node_that_is_as_wanted_costs_pyinfra_one_operation_a_deploy(tmp_path: Path) -> None:
    as_wanted(tmp_path, "pi1", "pi3")
    (tmp_path / "pi3/second").write_text("3")
    run = nodes(tmp_path, "pi1", "pi2", "pi3", changes=False)
    run.prepare(both)
    run.execute()
    assert run.operations("pi1") == ["Both | Leave node as it is"]
    assert run.changed("pi1") == []
    assert len(run.commands("pi1")) == 1
    for name, changed in (("pi2", ["First", "Second"]), ("pi3", ["Second"])):
        assert len(run.operations(name)) == 2
        assert run.changed(name) == [f"Both | {one} | Count {one.lower()}" for one in changed]


def test_before_a_prompt_each_operation_is_registered(tmp_path: Path) -> None:
    """Check it, as somebody may change the node while pyinfra waits for the answer."""
    as_wanted(tmp_path, "pi1")
    run = nodes(tmp_path, "pi1", changes=True)
    run.prepare(both)
    (tmp_path / "pi1/second").write_text("3")
    run.execute()
    assert run.changed() == ["Both | Second | Count second"]


@pytest.mark.parametrize("checked", [False, True])
def test_a_deploy_after_one_that_changes_the_node_looks_again(
    tmp_path: Path, checked: bool
) -> None:
    as_wanted(tmp_path, "pi1")
    run = nodes(tmp_path, "pi1", changes=False)

    def deploys() -> None:
        if checked:
            check(first, second)
        second()
        spoil(name="Spoil", path=str(tmp_path / "pi1/first"))
        second()
        first()

    run.prepare(deploys)
    run.execute()
    assert run.operations() == [
        "Second | Leave node as it is", "Spoil", "Second | Count second", "First | Count first"
    ]  # fmt: skip
    assert run.changed() == ["Spoil", "First | Count first"]


@operation()
def spoil(path: str) -> Commands:
    """Change a file by an operation that is not this package's."""
    yield StringCommand("echo", "3", ">", path)


@pytest.mark.parametrize("changes", [True, False], ids=["prompt", "-y"])
def test_a_refused_node_is_untouched_and_the_others_finish(
    tmp_path: Path, changes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = nodes(tmp_path, "pi1", "pi2", "pi3", changes=changes)
    (tmp_path / "pi2/second").write_text("11")
    run.prepare(both)
    reason = f"{tmp_path}/pi2/second: found 11; write a smaller number"
    assert run.operations("pi2") == ["Both | Refuse node"]
    run.execute()
    assert not (tmp_path / "pi2/first").exists()
    assert run.failed == {"pi2"}
    for name in ("pi1", "pi3"):
        assert (tmp_path / name / "first").read_text() == "10"
        assert (tmp_path / name / "second").read_text() == "10"
    assert caplog.text.count(reason) == 1


def test_a_node_that_is_not_asked_as_root_is_refused_before_a_preview_says_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(AsRoot, "command", lambda self: "echo no")
    run = nodes(tmp_path, "pi1")
    (tmp_path / "pi1/first").write_text("11")
    run.prepare(first)
    assert run.operations() == ["First | Refuse node"]
    (said,) = (line for line in caplog.messages if "Refused" in line)
    assert (
        "Refused: pyinfra does not run as root on the node; set _sudo = True in group_data/all.py"
        in said
    )
    assert "found 11" not in caplog.text


@pytest.mark.parametrize(("user", "root"), [(0, True), (65534, False)])
def test_who_asks_is_seen_without_a_program(user: int, root: bool) -> None:
    if os.getuid() != 0 and user != os.getuid():
        pytest.skip("only root can ask as somebody else")
    said = subprocess.run(
        ["/bin/sh", "-c", AS_ROOT], user=user, capture_output=True, text=True, env={}, check=True
    )
    assert AsRoot().process(said.stdout.splitlines()) is root


def test_all_reasons_are_given_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = nodes(tmp_path, "pi1")
    for name in ("first", "second"):
        (tmp_path / "pi1" / name).write_text("11")
    run.prepare(both)
    (said,) = (line for line in caplog.messages if "Refused" in line)
    assert f"{tmp_path}/pi1/first: found 11" in said
    assert f"{tmp_path}/pi1/second: found 11" in said


def test_a_preview_says_of_each_refused_node_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = nodes(tmp_path, "pi1", "pi2")
    (tmp_path / "pi1/first").write_text("11")
    (tmp_path / "pi2/second").write_text("12")

    run.prepare(both)

    for name, found in (("pi1", f"{tmp_path}/pi1/first: found 11"), ("pi2", "found 12")):
        assert any(name in line and found in line for line in caplog.messages)


def test_a_refused_node_gets_no_later_deploy(tmp_path: Path) -> None:
    run = nodes(tmp_path, "pi1", "pi2")
    (tmp_path / "pi1/first").write_text("11")
    run.prepare(first)
    run.prepare(second)
    run.prepare(lambda: count(name="Alone", path=str(tmp_path / "alone")))
    assert run.operations("pi1") == ["First | Refuse node"]
    assert len(run.operations("pi2")) == 3


@pytest.mark.parametrize("changes", [True, False], ids=["prompt", "-y"])
def test_what_was_announced_before_a_refusal_is_done(tmp_path: Path, changes: bool) -> None:
    run = nodes(tmp_path, "pi1", changes=changes)
    (tmp_path / "pi1/second").write_text("11")
    run.prepare(first)
    run.prepare(second)
    run.prepare(lambda: count(name="Alone", path=str(tmp_path / "alone")))
    announced = run.operations()
    assert announced == ["First | Count first", "Second | Refuse node"]
    with pytest.raises(Exception, match="No hosts remaining"):
        run.execute()
    assert run.changed() == announced[:1]
    assert (tmp_path / "pi1/first").read_text() == "10"
    assert run.failed == {"pi1"}


def test_a_node_that_cannot_be_read_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(self: Texts, patterns: tuple[str, ...]) -> str:
        return "; ".join(f"[ ! -e {path} ] || cat {path} || exit" for path in patterns)

    monkeypatch.setattr(Texts, "command", command)
    run = nodes(tmp_path, "pi1", "pi2")
    (tmp_path / "pi1/first").mkdir()
    run.prepare(both)
    assert run.operations("pi1") == ["Both | Refuse node"]
    (said,) = (line for line in caplog.messages if "Refused" in line)
    assert "files.Content" in said
    assert "Is a directory" in said


@pytest.mark.parametrize("another", [False, True], ids=["its settings", "others"])
def test_what_has_been_checked_is_not_checked_again(tmp_path: Path, another: bool) -> None:
    bodies = []

    @concern("Noted", FolderSettings)
    def noted(settings: FolderSettings) -> None:
        bodies.append(of_host(Preparation).phase)
        first(settings)

    def deploys() -> None:
        check(noted)
        if another:
            noted(FolderSettings(folder=str(tmp_path / "pi1")))
        else:
            noted()

    run = nodes(tmp_path, "pi1")
    run.prepare(deploys)
    assert bodies == ["collect", "check", *(["collect", "check"] if another else []), ""]
    assert run.operations() == ["Noted | First | Count first"]


def test_pyinfras_arguments_of_an_inner_deploy_count_in_the_check(tmp_path: Path) -> None:
    @concern("Outer", FolderSettings)
    def outer(settings: FolderSettings) -> None:
        first(settings, _env={"PLACE": "there"})

    run = nodes(tmp_path, "pi1")
    run.prepare(outer)
    with run.on():
        read = next(read for read in of_host(HostAnswers).known if read[0].fact is Content)
    assert "_env={'PLACE': 'there'}" in read[1]


def test_a_bad_setting_stops_the_whole_run(tmp_path: Path) -> None:
    run = Nodes("pi1")
    with pytest.raises(SettingsError, match="pi1: chaos_folder is not set; set it in"):
        run.prepare(both)
    assert run.commands() == []


def test_a_concern_takes_its_model(tmp_path: Path) -> None:
    run = Nodes("pi1")
    run.prepare(first, FolderSettings(folder=str(tmp_path)))
    run.execute()
    assert (tmp_path / "first").read_text() == "10"


def test_a_concern_keeps_its_name_and_documentation() -> None:
    assert (first.__name__, first.__doc__) == ("first", "One concern.")


def test_a_deploy_file_is_as_quickly_found_as_a_module(tmp_path: Path) -> None:
    path = tmp_path / "deploy.py"
    path.write_text("both()\nframe = inspect.currentframe()\n")
    space = {"both": both, "inspect": inspect}
    run = nodes(tmp_path, "pi1")
    run.state.current_deploy_filename = str(path)

    run.prepare(exec, compile(path.read_text(), path, "exec"), space)

    found = inspect.getmodule(space["frame"])
    assert found is not None
    assert found.__file__ == str(path)
    assert str(path) in inspect.modulesbyfile


def test_from_the_command_line_a_preview_equals_the_run(tmp_path: Path) -> None:
    """One node is this computer, the other answers that it has to be refused."""
    (tmp_path / "deploy.py").write_text("from tests.unit.counting import both\nboth()\n")
    (tmp_path / "inventory.py").write_text(
        "fake = {'fake_delay': 0, 'fake_delay_jitter': 0,"
        f" 'fake_responses': {{'first': ['text {tmp_path}/first 11'], 'echo yes': ['yes']}}}}\n"
        "nodes = ['@local', ('@fake/bad', fake)]\n"
    )

    def pyinfra(*flags: str) -> tuple[int | None, Any, str]:
        out, err = tmp_path / "out", tmp_path / "err"
        command = ["--json", "inventory.py", "deploy.py", "--data", f"chaos_folder={tmp_path}"]
        process = start(tmp_path, *command, *flags, out=out, err=err)
        process.join()
        printed, log = out.read_text(), err.read_text()
        assert printed.startswith("{"), printed + log
        return process.exitcode, json.loads(printed), log

    _, dry, log = pyinfra("--dry")
    planned = {(o["name"], host) for o in dry["plan"] for host in o["hosts_with_change"]}
    assert {host for _, host in planned} == {"@local", "@fake/bad"}, log
    assert not (tmp_path / "first").exists()
    status, run, log = pyinfra("-y")
    assert status == 1, log
    assert "found 11; write a smaller number" in log
    assert "Traceback" not in log
    results = run["results"]["operations"]
    assert {(o["name"], host) for o in results for host in [*o["success"], *o["error"]]} == planned
    assert (tmp_path / "second").read_text() == "10"


class PairSettings(FolderSettings):
    """Two values, one with a default."""

    word: str = Field("default", description="a word")


made: Any = PairSettings
"""The model without the help of a type checker."""

SEEN: list[PairSettings] = []


@concern("Pair", PairSettings)
def pair(settings: PairSettings) -> None:
    """Remember what it was called with."""
    SEEN.append(settings)


@pytest.mark.parametrize(
    ("given", "keywords"),
    [
        (PairSettings(folder="/own"), {}),
        (None, {"folder": "/own"}),
        ({"folder": "/own"}, {}),
        (PairSettings(folder="/other"), {"folder": "/own"}),
    ],
    ids=["model", "keywords", "dictionary", "both"],
)
def test_what_is_given_wins_and_the_rest_comes_from_data(
    given: Any, keywords: dict[str, str]
) -> None:
    run = Nodes("pi1", data={"chaos_folder": "/data", "chaos_word": "from data"})
    SEEN.clear()
    with run.on("pi1"):
        pair(given, **keywords)
    assert {(one.folder, one.word) for one in SEEN} == {("/own", "from data")}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pair(wrod="x"), "pi1: pair has no setting wrod; did you mean word?"),
        (lambda: pair({"chaos_wrd": "x"}), "pi1: pair has no setting chaos_wrd; did you mean word"),
        (lambda: pair(made(folder="/x", wrod="x")), "PairSettings has no setting wrod"),
        (lambda: pair(PairSettings(folder=3)), "PairSettings: folder = 3: it has to be text"),
        (lambda: pair(made()), "PairSettings: folder is missing; wanted: where numbers"),
        (lambda: pair(folder=3), "pi1, call of pair: folder = 3: it has to be text, in quotes"),
        (lambda: pair("chaos_engine.deploys.docker"), "pair takes PairSettings, a dictionary or"),
        (lambda: pair(None, "another"), "not 'another'; to run several deploys, call pyinfra"),
        (lambda: pair(Settings()), "pair takes PairSettings"),
        (lambda: pair(), "pi1: chaos_folder is not set; set it in the inventory or in group_data/"),
    ],
)
def test_what_is_given_wrongly_is_told_in_a_sentence(call: Callable[[], None], says: str) -> None:
    run = Nodes("pi1")
    with run.on("pi1"), pytest.raises(SettingsError, match=re.escape(says)) as error:
        call()
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"_run_once": True},
        {"_serial": True},
        {"_if": lambda: True},
        {"_ignore_errors": True},
        {"_retries": 2},
        {"_timeout": 30},
        {"_env": {"A": "b"}},
        {"_chdir": "/tmp"},
        {"_continue_on_error": True},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_pyinfras_arguments_work_on_a_concern_behind_one_that_changes(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    run = nodes(tmp_path, "pi1", "pi2")

    run.prepare(first)
    run.prepare(partial(second, **arguments))
    run.execute()

    assert (tmp_path / "pi1/second").read_text() == "10"
    assert (tmp_path / "pi2/second").exists() == ("_run_once" not in arguments)


@pytest.mark.parametrize("alone", [True, False])
def test_a_setting_is_named_as_whoever_gave_it_knows_it(
    alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An operation alone has no ``chaos_vip``."""
    caplog.set_level("INFO")

    @converge(reads=list)
    def refuse_vip() -> Commands:
        warn(f"consider {setting('hairpin_address')}")
        raise NodeError(f"it is taken; choose another {setting('vip')}")
        yield

    @concern("Proxy", FolderSettings)
    def proxied(settings: FolderSettings) -> None:
        refuse_vip(name="Refuse")

    nodes = Nodes("pi1", data={"chaos_folder": "/a"})
    nodes.prepare((lambda: refuse_vip(name="Refuse")) if alone else proxied)
    with pytest.raises(PyinfraError, match="No hosts remaining"):
        nodes.execute()
    prefix = "" if alone else "chaos_"
    assert f"it is taken; choose another {prefix}vip" in caplog.text
    assert f"Warning: consider {prefix}hairpin_address" in caplog.text
    assert "\x0e" not in caplog.text
