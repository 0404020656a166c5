"""Test the operations' decorator: phases, refused nodes, and that pyinfra prints no secret."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import OperationValueError

from chaos_engine.facts.files import Content
from chaos_engine.facts.observe import HostAnswers, Read, current, observe, of_host, phase
from chaos_engine.operations.engine.converge import Commands, converge, refuse_node
from chaos_engine.operations.files import File, install
from tests.unit.cli import start
from tests.unit.counting import count
from tests.unit.nodes import Nodes
from tests.unit.scripts import GROUP, OWNER


def test_a_wanted_change_is_planned_and_made_and_then_not_any_more(tmp_path: Path) -> None:
    for expected in (["Count"], []):
        nodes = Nodes("pi1")
        nodes.prepare(count, name="Count", path=str(tmp_path / "a"))
        assert nodes.planned() == expected
        nodes.execute()
        assert nodes.changed() == expected


def test_a_refused_node_fails_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("pi1", "pi2", "pi3", changes=False)
    (tmp_path / "pi2").write_text("11")
    for name in ("pi1", "pi2", "pi3"):
        with nodes.on(name):
            count(name="Count", path=str(tmp_path / name))
    nodes.execute()
    assert nodes.failed == {"pi2"}
    assert [(tmp_path / name).read_text() for name in ("pi1", "pi2", "pi3")] == ["10", "11", "10"]
    assert "found 11; write a smaller number" in caplog.text
    assert "Traceback" not in caplog.text


@converge(reads=lambda path: [Read.of(Content, path=path)])
def halve(path: str) -> Commands:
    """Write half of the number that a file has; there is no thought of a file without a number."""
    half = int(observe(Content, path=path) or b"2") // 2
    yield StringCommand(f"echo {half} >{path}")


@pytest.mark.parametrize("changes", [True, False])
def test_a_state_that_nobody_thought_of_fails_its_node_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: bool
) -> None:
    nodes = Nodes("pi1", "pi2", changes=changes)
    (tmp_path / "pi1").write_text("many")
    for name in ("pi1", "pi2"):
        with nodes.on(name):
            halve(name="Halve", path=str(tmp_path / name))
    nodes.execute()
    assert nodes.failed == {"pi1"}
    assert (tmp_path / "pi2").read_text() == "1\n"
    assert "in a state that was not foreseen: ValueError(" in caplog.text


def test_a_state_that_nobody_thought_of_is_found_before_the_first_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("many")
    with Nodes("pi1").on(), phase("check") as (problems, pending):
        halve(name="Halve", path=str(tmp_path / "a"))
    assert pending == []
    (problem,) = problems
    assert problem.startswith("Halve: the node is in a state that was not foreseen: ValueError(")


@converge(reads=list)
def misuse() -> Commands:
    """Have an argument that is wrong."""
    raise OperationValueError("the argument is wrong")
    yield ""


def test_a_wrong_argument_within_an_operation_ends_the_run() -> None:
    with (
        Nodes("pi1").on(),
        phase("check"),
        pytest.raises(OperationValueError, match="the argument is wrong"),
    ):
        misuse(name="Misuse")


def test_an_operation_after_a_failure_does_not_run_on_that_node(tmp_path: Path) -> None:
    nodes = Nodes("pi1", "pi2", changes=False)
    (tmp_path / "pi2").write_text("11")
    for name in ("pi1", "pi2"):
        with nodes.on(name):
            count(name="Count", path=str(tmp_path / name))
            count(name="Count again", path=str(tmp_path / f"{name}-again"))
    nodes.execute()
    assert (tmp_path / "pi1-again").exists()
    assert not (tmp_path / "pi2-again").exists()


def test_collecting_reads_and_changes_nothing(tmp_path: Path) -> None:
    nodes = Nodes("pi1")
    with nodes.on():
        with phase("collect"):
            meta = count(name="Count", path=str(tmp_path / "a"))
        assert nodes.commands() == []
        assert nodes.operations() == []
        assert not meta.did_change()
        assert of_host(HostAnswers).announced


def test_checking_says_what_would_change_and_what_is_wrong(tmp_path: Path) -> None:
    nodes = Nodes("pi1")
    (tmp_path / "bad").write_text("11")
    (tmp_path / "good").write_text("10")
    with nodes.on() as host, phase("check") as (problems, pending):
        for name in ("good", "bad", "missing"):
            count(name=f"Count {name}", path=str(tmp_path / name))
        assert host.current_op_global_arguments is None
    assert pending == ["Count missing"]
    assert problems == [f"{tmp_path}/bad: found 11; write a smaller number"]
    assert nodes.operations() == []


def test_a_refusal_is_planned_and_says_why_when_it_fails(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes("pi1")
    nodes.prepare(refuse_node, name="Refuse node", reason="no root=")
    assert nodes.planned() == ["Refuse node"]
    with pytest.raises(Exception, match="No hosts remaining"):
        nodes.execute()
    assert caplog.text.count("no root=") == 1


def test_global_arguments_reach_the_operation_and_its_reads(tmp_path: Path) -> None:
    seen = []

    @converge(reads=lambda path: [Read.of(Content, path=path)])
    def look(path: str) -> Commands:
        seen.append(current()[1].current_op_global_arguments)
        observe(Content, path=path)
        yield StringCommand("true")

    nodes = Nodes("pi1", changes=False)
    with nodes.on(), phase("check"):
        look(name="Look", path="/a", _env={"A": "1"})
    nodes.prepare(look, name="Look", path="/a", _env={"A": "1"})
    nodes.execute()
    assert [dict(arguments or {})["_env"] for arguments in seen] == [{"A": "1"}] * 2


MARK = "MARKED-SECRET-d41d8"

DEPLOY = """
from chaos_engine.operations.files import File, install, script

script.RECORDS, script.DIRECTORY, script.STAGED = "{root}/run", "{root}/var", "{root}/var/staged"
for name in ("PRELUDE", "NOTES"):
    text = getattr(script, name).replace("/run/chaos-engine", "{root}/run")
    setattr(script, name, text.replace("/var/lib/chaos-engine", "{root}/var"))
how = dict(owner="{owner}", group="{group}")
install(
    name="Put key",
    files=[
        File("{root}/client.key", {content!r}, mode="600", secret=True, **how),
        File("{root}/client.crt", "public\\n", **how),
    ],
    check={check!r},
)
"""

# Nothing goes on before the test has looked at what is staged
WAIT = "touch {root}/staged; until test -e {root}/looked; do sleep 0.01; done; "


@pytest.mark.parametrize(
    ("flags", "check"),
    [
        ("-y -vvv --debug --diff", "true"),
        ("-y -vvv --debug --diff", "cat {root}/.client.key.chaos; false"),
        ("--dry -vvv --debug --diff", "true"),
        ("--json -y --debug-operations", "true"),
    ],
    ids=["run", "refused", "dry", "json"],
)
def test_a_secret_is_shown_nowhere(tmp_path: Path, flags: str, check: str) -> None:
    """It is neither in pyinfra's output, nor in a command line or environment while it runs, nor in
    a file that others can read."""
    content = f"-----BEGIN PRIVATE KEY-----\n{MARK}\n"
    (tmp_path / "client.key").write_text(f"old {MARK}\n")
    (tmp_path / "client.key").chmod(0o600)
    deploy = DEPLOY.format(
        root=tmp_path,
        owner=OWNER,
        group=GROUP,
        content=content,
        check=WAIT.format(root=tmp_path) + check.format(root=tmp_path),
    )
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "deploy.py").write_text(deploy)
    (folder / "deploy.py").chmod(0o600)
    process = start(folder, "@local", "deploy.py", *flags.split(), out=tmp_path / "output")
    found = []
    while process.is_alive():
        staged = (tmp_path / "staged").exists()
        found += _processes_with(MARK, process.pid) + _readable_with(tmp_path, MARK)
        if staged:
            (tmp_path / "looked").touch()
        time.sleep(0.02)
    output = (tmp_path / "output").read_text()
    assert MARK not in output
    assert found == []
    assert (tmp_path / "looked").exists() == flags.startswith("-y"), output
    assert "Put key" in output
    assert (process.exitcode == 0) == (check == "true"), output
    if flags.startswith("-y") and check == "true":
        assert (tmp_path / "client.key").read_text() == content
        assert "content is secret, not shown" in output
        assert "public" in output, "what is not secret is shown by --diff"


def _processes_with(mark: str, session: int | None) -> list[str]:
    found = []
    for process in os.listdir("/proc"):
        try:
            if not process.isdigit() or os.getsid(int(process)) != session:
                continue
            for name in ("cmdline", "environ"):
                if mark.encode() in Path("/proc", process, name).read_bytes():
                    found.append(f"{process}/{name}")
        except OSError:  # it ended
            continue
    return found


def _readable_with(root: Path, mark: str) -> list[str]:
    found = []
    # os.walk passes over folders that go away while it looks, as the transaction's do
    for path in [Path(folder, name) for folder, _, names in os.walk(root) for name in names]:
        try:
            if path.is_file() and path.stat().st_mode & 0o077 and mark in path.read_text():
                found.append(str(path))
        except OSError:  # it is gone again
            continue
    return found


def test_content_of_files_is_read_for_a_diff_only(tmp_path: Path) -> None:
    nodes = Nodes("pi1")
    files = [File(str(tmp_path / "a"), "x", owner=OWNER, group=GROUP)]
    with nodes.on(), phase("collect"):
        install(name="Put", files=files)
        assert Content not in {read.fact for read, _ in of_host(HostAnswers).announced}
        nodes.state.config.DIFF = True
        install(name="Put", files=files)
        assert Content in {read.fact for read, _ in of_host(HostAnswers).announced}


def test_a_diff_is_shown_once_before_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes("pi1")
    nodes.state.config.DIFF = True
    files = [File(str(tmp_path / "a"), "new\n", owner=OWNER, group=GROUP)]
    with nodes.on(), phase("check"):
        install(name="Put", files=files)
    assert "Will write" not in caplog.text
    with caplog.at_level("INFO", logger="pyinfra"):
        nodes.prepare(install, name="Put", files=files)
    assert caplog.text.count("Will write") == 1
