"""Read nodes by few commands, drop answers in time, and never take a failure for a default."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import FactProcessError
from pyinfra.operations import server

from chaos_engine.facts.files import Content
from chaos_engine.facts.observe import (
    HostAnswers,
    NodeError,
    NodeFact,
    Read,
    SeveralFact,
    ahead,
    answers,
    batch,
    forget,
    gather,
    observe,
    of_host,
    want,
    warn,
)
from chaos_engine.facts.observe.answers import MAX_AGE_SECONDS
from chaos_engine.facts.observe.batch import PROBE, combined, marked, script, split
from chaos_engine.operations.engine.converge import Commands, converge
from tests.unit.nodes import Nodes


class Line(NodeFact[str]):
    """A fact: the first line that a command prints."""

    def command(self, text: str) -> StringCommand:
        return StringCommand(text)

    @staticmethod
    def default() -> str:
        return "default"

    def parse(self, lines: list[str]) -> str:
        return lines[0]


class Number(Line):
    def parse(self, lines: list[str]) -> Any:
        return int(lines[0])


class Absent(Line):
    def requires_command(self, text: str) -> str:
        return "no-such-program"


class Bash(Line):
    shell_executable = "bash"


class Stateful(NodeFact[str]):
    """A fact that stores its argument on itself, as some of pyinfra's facts do."""

    def command(self, path: str) -> StringCommand:
        self.path = path
        return StringCommand("echo x")

    def parse(self, lines: list[str]) -> str:
        return self.path


class Elsewhere(Line):
    of_others = True


class Named(SeveralFact[int]):
    """Things that each have a name."""

    argument = "things"


class Sizes(SeveralFact[int]):
    """The size of each file in bytes. It reads the files, so one that hangs makes all fail."""

    argument = "paths"

    def command(self, paths: tuple[str, ...]) -> StringCommand:
        quoted = [QuoteString(path) for path in paths]
        return StringCommand(
            "for f in", *quoted, '; do echo "$f $(cat "$f" | wc -c)" || exit; done'
        )

    def parse(self, lines: list[str]) -> dict[str, int]:
        return {line.split()[0]: int(line.split()[1]) for line in lines}


@pytest.fixture
def nodes() -> Nodes:
    return Nodes("pi1")


def test_one_command_answers_all_that_is_wanted(nodes: Nodes) -> None:
    with nodes.on():
        want([Read.of(Line, text="echo a"), Read.of(Line, text="echo b"), Read.of(Line, text=":")])
        assert observe(Line, text="echo a") == "a"
        assert observe(Line, text="echo b") == "b"
        assert observe(Line, text=":") == "default"
        assert observe(Line, text="echo c") == "c", "not announced, but read"
    assert len(nodes.commands()) == 2


def test_reads_that_ask_for_several_things_are_joined() -> None:
    a, ab, c = (Read.of(Sizes, paths=paths) for paths in (("/a",), ("/a", "/b"), ("/c",)))
    line = Read.of(Line, text="echo a")

    questions = combined([a, line, ab, c])

    assert questions == {line: [line], Read.of(Sizes, paths=("/a", "/b", "/c")): [a, ab, c]}


def test_reads_that_ask_for_another_thing_of_one_name_stay_apart() -> None:
    one, other, more = (
        Read.of(Named, things=things) for things in ((("a", "1"),), (("a", "2"),), (("b", "1"),))
    )

    questions = combined([one, other, more])

    both = Read.of(Named, things=(("a", "1"), ("b", "1")))
    assert questions == {other: [other], both: [one, more]}


def test_a_joined_read_answers_each_with_its_own(nodes: Nodes, tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    for path in (a, b):
        Path(path).write_text(path)
    with nodes.on():
        want([Read.of(Sizes, paths=(a,)), Read.of(Sizes, paths=(b, a)), Read.of(Sizes, paths=(b,))])
        assert observe(Sizes, paths=(a,)) == {a: len(a)}
        assert observe(Sizes, paths=(b, a)) == {a: len(a), b: len(b)}
        assert observe(Sizes, paths=(b,)) == {b: len(b)}
    assert len(nodes.commands()) == 1


def test_what_spoils_a_joined_read_spoils_only_its_own(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "PART_SECONDS", 1)
    good, hangs = str(tmp_path / "good"), str(tmp_path / "hangs")
    Path(good).write_text("12345")
    os.mkfifo(hangs)
    with nodes.on():
        want([Read.of(Sizes, paths=(good,)), Read.of(Sizes, paths=(hangs,))])
        assert observe(Sizes, paths=(good,)) == {good: 5}
        with pytest.raises(NodeError, match="no answer in 1 s"):
            observe(Sizes, paths=(hangs,))
    assert len(nodes.commands()) == 2


def test_gather_reads_once(nodes: Nodes) -> None:
    with nodes.on():
        gather()
        want([Read.of(Line, text="echo a")])
        gather()
        gather()
        observe(Line, text="echo a")
    assert len(nodes.commands()) == 1


def test_the_script_is_in_no_argument_list(nodes: Nodes) -> None:
    with nodes.on():
        observe(Line, text="echo marked")
    assert [command.split("'")[0] for command in nodes.commands()] == ["sh -s "]


def test_each_part_has_its_own_shell_and_no_standard_input(nodes: Nodes) -> None:
    with nodes.on():
        want([Read.of(Line, text=f"{i}") for i in ("x=1; exit 0", 'echo "x$x"', "cat")])
        want([Read.of(Bash, text="[[ a == a ]] && echo $((RANDOM >= 0))")])
        assert observe(Line, text='echo "x$x"') == "x"
        assert observe(Line, text="cat") == "default"
        assert observe(Bash, text="[[ a == a ]] && echo $((RANDOM >= 0))") == "1"


def test_a_fact_may_keep_its_arguments(nodes: Nodes) -> None:
    with nodes.on():
        want([Read.of(Stateful, path="/a"), Read.of(Stateful, path="/b")])
        assert (observe(Stateful, path="/a"), observe(Stateful, path="/b")) == ("/a", "/b")


def test_facts_work_alone_too(nodes: Nodes) -> None:
    with nodes.on() as host:
        assert host.get_fact(Line, text="echo a") == "a"


def test_binary_content_is_exact(nodes: Nodes, tmp_path: Path) -> None:
    data = bytes(range(256)) * 50 + b"no newline at the end"
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "empty").write_bytes(b"")
    with nodes.on():
        want([Read.of(Content, path=str(tmp_path / n)) for n in ("file", "empty", "none")])
        assert observe(Content, path=str(tmp_path / "file")) == data
        assert observe(Content, path=str(tmp_path / "empty")) == b""
        assert observe(Content, path=str(tmp_path / "none")) is None
    assert len(nodes.commands()) == 1


def test_output_that_is_not_utf8_is_an_error_and_not_cut(nodes: Nodes) -> None:
    with nodes.on():
        want([Read.of(Line, text="printf 'one\\n\\377two\\n'")])
        assert observe(Line, text="echo good") == "good"
        with pytest.raises(NodeError, match="not UTF-8"):
            observe(Line, text="printf 'one\\n\\377two\\n'")


def test_output_cannot_imitate_the_frame(nodes: Nodes) -> None:
    with nodes.on():
        want([Read.of(Line, text="printf '\\nnonce 0\\n'; ps -o args= $PPID; echo >&2")])
        want([Read.of(Line, text="echo behind")])
        gather()
        assert observe(Line, text="echo behind") == "behind"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo first; echo last words >&2; exit 3", "ended with status 3: last words"),
        ("echo 'unbalanced", "ended with status 2"),
        ("no-such-command-here", "status 127: .*not found"),
        # The message of systemctl 252
        (
            "echo 'System has not been booted with systemd as init system (PID 1).' >&2; exit 1",
            "systemd does not run on the node; use a system that boots with systemd",
        ),
    ],
)
def test_a_part_that_fails_spoils_only_itself(nodes: Nodes, text: str, message: str) -> None:
    with nodes.on():
        want([Read.of(Line, text="echo before"), Read.of(Line, text=text)])
        want([Read.of(Line, text="echo behind")])
        assert observe(Line, text="echo before") == "before"
        with pytest.raises(NodeError, match=message):
            observe(Line, text=text)
        with pytest.raises(NodeError, match=message):
            observe(Line, text=text)  # errors are kept too
        assert observe(Line, text="echo behind") == "behind"
    assert len(nodes.commands()) == 1


def test_a_part_that_ends_the_shell_of_all_is_asked_apart_with_those_behind_it(
    nodes: Nodes,
) -> None:
    texts = "echo before", "echo x; kill -9 $$", "echo behind"
    with nodes.on():
        want([Read.of(Line, text=text) for text in texts])
        assert observe(Line, text="echo before") == "before"
        with pytest.raises(NodeError, match=r"no answer|ended with status"):
            observe(Line, text="echo x; kill -9 $$")
        assert observe(Line, text="echo behind") == "behind"
    assert len(nodes.commands()) == 2


def test_a_part_that_hangs_is_an_error(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PART_SECONDS", 1)
    with nodes.on():
        want([Read.of(Line, text="sleep 30"), Read.of(Line, text="trap '' TERM; echo a")])
        with pytest.raises(NodeError, match=r"no answer in 1 s"):
            observe(Line, text="sleep 30")
        assert observe(Line, text="trap '' TERM; echo a") == "a"
    assert len(nodes.commands()) == 2


def test_an_absent_program_is_the_default(nodes: Nodes) -> None:
    with nodes.on():
        want([Read.of(Line, text="echo a")])
        assert observe(Absent, text="echo never") == "default"
        assert observe(Line, text="echo a") == "a"


def test_an_answer_without_sense_is_an_error(nodes: Nodes) -> None:
    with nodes.on(), pytest.raises(NodeError, match=r"unexpected answer.*'five'"):
        observe(Number, text="echo five")


def test_alone_an_answer_without_sense_is_contained() -> None:
    with pytest.raises(FactProcessError, match="five"):
        Number().process(["five"])


def test_a_number_that_python_cannot_compute_with_is_contained() -> None:
    class Thousandth(Line):
        def parse(self, lines: list[str]) -> Any:
            return int(lines[0]) / 1000

    with pytest.raises(FactProcessError, match="OverflowError"):
        Thousandth().process([str(10**400)])


@pytest.mark.parametrize(
    "output",
    [
        [],
        [""],
        ["chaos-engine"],
        ["chaos-engine out"],
        ["chaos-engine out !"],
        ["chaos-engine out YWJj"],
        ["chaos-engine out YWJjCg==", "chaos-engine err %"],
        ["chaos-engine err YWJjCg=="],
    ],
)
def test_a_damaged_answer_is_an_error(output: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        split(output)


@pytest.mark.parametrize("apart", [False, True])
def test_a_truncated_answer_has_fewer_parts(apart: bool) -> None:
    import subprocess

    reads = [Read.of(Line, text="echo a"), Read.of(Line, text="echo b")]
    whole = subprocess.run(
        ["sh", "-s", PROBE], input=script(reads, apart), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    parts = split(whole)
    assert [(part.status, part.out) for part in parts] == [(0, b"a\n"), (0, b"b\n")]
    answer = base64.b64decode(marked(whole)["out"])
    for length in range(answer.index(b"\n") + 1, len(answer)):
        cut = base64.b64encode(answer[:length]).decode()
        few = split([f"chaos-engine out {cut}", *(line for line in whole if " err " in line)])
        assert few == parts[: len(few)]
        assert len(few) < 2


def test_a_node_that_cannot_be_read_is_an_error() -> None:
    nodes = Nodes("pi1", "pi2")
    with nodes.on("pi1") as host:
        host.data._shell_executable = "/no/such/shell"
        with pytest.raises(NodeError, match="could not be read"):
            observe(Line, text="echo a")
    with nodes.on("pi2"):
        assert observe(Line, text="echo a") == "a"
    assert nodes.failed == set(), "it is refused by what reads it"


@converge(reads=lambda path, content: [Read.of(Line, text=f"cat {path} 2>&1; true")])
def write(path: str, content: str) -> Commands:
    """Write a file."""
    if observe(Line, text=f"cat {path} 2>&1; true") != content:
        yield StringCommand("printf %s", QuoteString(content), ">", QuoteString(path))


def read_back(path: str) -> bytes | None:
    return observe(Content, path=path)


def test_own_operations_without_change_share_one_read(nodes: Nodes, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text("x")
    nodes = Nodes("pi1", changes=False)
    for name in "abc":
        nodes.prepare(write, name=f"Write {name}", path=str(tmp_path / name), content="x")
    nodes.execute()
    assert len(nodes.commands()) == 1
    assert nodes.changed() == []


@pytest.mark.parametrize("changes", [True, False], ids=["prompt", "-y"])
def test_what_an_own_operation_changed_is_read_again(tmp_path: Path, changes: bool) -> None:
    nodes = Nodes("pi1", changes=changes)
    path = str(tmp_path / "a")
    for content in ("x", "y", "y"):
        nodes.prepare(write, name=f"Write {content}", path=path, content=content)
    nodes.execute()
    assert Path(path).read_text() == "y"
    assert nodes.changed() == ["Write x", "Write y"]


def test_what_a_stock_operation_changed_is_read_again(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)
    path = str(tmp_path / "a")
    nodes.prepare(write, name="Write", path=path, content="x")
    nodes.prepare(server.shell, name="Spoil", commands=[f"echo spoilt > {path}"])
    nodes.prepare(write, name="Mend", path=path, content="x")
    nodes.execute()
    assert Path(path).read_text() == "x"
    assert nodes.changed() == ["Write", "Spoil", "Mend"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record how many facts each remote command reads."""
    sizes: list[int] = []

    def counted(reads: Any, apart: bool = False) -> str:
        sizes.append(len(reads))
        return script(reads, apart)

    for module in (batch, ahead):
        monkeypatch.setattr(module, "script", counted)
    return sizes


@converge(reads=lambda path: [Read.of(Content, path=path)])
def speak(path: str) -> Commands:
    """Create a file, and print something."""
    if not observe(Content, path=path):
        yield StringCommand(f"echo x > {path} && echo done && echo careful >&2")


def test_between_changes_an_operation_reads_only_what_it_needs(
    tmp_path: Path, read: list[int]
) -> None:
    nodes = Nodes("pi1", changes=False)
    for name in ("f", "e"):
        (tmp_path / name).write_text("x")
    for name in ("a", "b", "c", "d", "e", "f"):
        nodes.prepare(write, name=f"Write {name}", path=str(tmp_path / name), content="x")

    nodes.execute()

    assert nodes.changed() == ["Write a", "Write b", "Write c", "Write d"]
    # The first command reads all. Each change also reads for the next operation. Once "e" has
    # changed nothing, "f" reads all that is not known
    assert read == [6, 1, 1, 1, 1, 5]
    assert len(nodes.commands()) == 6, "one a change"


def test_the_answers_that_a_change_brings_are_not_its_output(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)
    for name in ("a", "b"):
        nodes.prepare(speak, name=f"Speak {name}", path=str(tmp_path / name))
    nodes.execute()
    assert len(nodes.commands()) == 3
    for data in nodes.state.ops[nodes["pi1"]].values():
        assert data.operation_meta.stdout_lines == ["done"]
        assert data.operation_meta.stderr_lines == ["careful"]


def test_a_change_that_fails_brings_no_answers(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)
    (tmp_path / "b").write_text("")
    nodes.prepare(speak, name="Fail", path=str(tmp_path / "none/a"), _ignore_errors=True)
    nodes.prepare(speak, name="Speak", path=str(tmp_path / "b"))
    nodes.execute()
    assert nodes.changed() == ["Speak"]
    assert len(nodes.commands()) == 4, "read, failed, read again, changed"


def test_an_answer_that_a_change_spoils_is_asked_again(tmp_path: Path, read: list[int]) -> None:
    """A process that the change has started writes between the answers."""
    asked, spoilt = tmp_path / "asked", tmp_path / "spoilt"
    question = f"touch {asked}; until test -e {spoilt}; do sleep 0.01; done; echo there"

    @converge(reads=list)
    def start() -> Commands:
        yield StringCommand(
            f"(until test -e {asked}; do sleep 0.01; done; echo x; touch {spoilt}) &"
        )

    @converge(reads=lambda: [Read.of(Line, text=question)])
    def look() -> Commands:
        assert observe(Line, text=question) == "there"
        yield StringCommand("true")

    nodes = Nodes("pi1", changes=False)
    nodes.prepare(start, name="Start")
    nodes.prepare(look, name="Look")
    nodes.execute()
    assert nodes.changed() == ["Start", "Look"]
    assert read == [1, 1]


def test_the_answers_that_a_long_change_brings_are_new(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)

    @converge(reads=lambda: [Read.of(Line, text="echo 1")])
    def install() -> Commands:
        observe(Line, text="echo 1")
        of_host(HostAnswers).oldest_at -= MAX_AGE_SECONDS  # as if that time had passed
        yield StringCommand("true")

    for number in range(3):
        nodes.prepare(install, name=f"Install {number}")
    nodes.execute()
    assert len(nodes.commands()) == 4


def test_nobody_answers_for_an_operation_that_runs_as_another(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)
    path = str(tmp_path / "a")
    nodes.prepare(write, name="Write", path=path, content="x")
    nodes.prepare(write, name="As another", path=path, content="y", _env={"LANG": "C"})
    nodes.execute()
    assert Path(path).read_text() == "y"
    assert len(nodes.commands()) == 4, "one a change, and one to read for each"


def test_output_that_is_shown_has_no_answers(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)
    nodes.state.print_output = True
    for name in ("a", "b"):
        nodes.prepare(speak, name=f"Speak {name}", path=str(tmp_path / name))
    nodes.execute()
    assert len(nodes.commands()) == 4


def test_after_a_change_an_unannounced_read_is_made_alone(tmp_path: Path, read: list[int]) -> None:
    """It does not matter whether it is before or after the operation's own command."""

    @converge(reads=lambda: [Read.of(Line, text="echo 1"), Read.of(Line, text="echo 2")])
    def look() -> Commands:
        observe(Line, text="echo 1")
        observe(Line, text="echo 3")
        yield StringCommand("true")
        observe(Line, text="echo 4")
        observe(Line, text="echo 2")

    nodes = Nodes("pi1", changes=False)
    for name in ("a", "b"):
        nodes.prepare(write, name=f"Write {name}", path=str(tmp_path / name), content="x")
    nodes.prepare(look, name="Look")
    nodes.execute()
    assert read == [4, 1, 2, 1, 1, 2]


def test_no_change_of_the_node_outdates_what_others_have_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    question = f"echo x >> {asked}; echo there"

    @converge(reads=lambda: [Read.of(Elsewhere, text=question)])
    def ask() -> Commands:
        assert observe(Elsewhere, text=question) == "there"
        yield StringCommand("true")

    nodes = Nodes("pi1", changes=False)
    for number in range(3):
        nodes.prepare(ask, name=f"Ask {number}")
    nodes.execute()
    assert asked.read_text() == "x\n"

    monkeypatch.setattr(answers, "MAX_AGE_SECONDS", -1)
    nodes = Nodes("pi1", changes=False)
    nodes.prepare(ask, name="Ask")
    nodes.prepare(ask, name="Ask again")
    nodes.execute()
    assert asked.read_text() == "x\nx\nx\n", "it is old: read anew"


def test_what_a_failed_operation_changed_is_read_again(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)
    path = str(tmp_path / "a")
    nodes.prepare(write, name="Write", path=path, content="x")
    nodes.prepare(
        server.shell,
        name="Spoil",
        commands=[f"echo spoilt > {path}; false"],
        _ignore_errors=True,
    )
    nodes.prepare(write, name="Mend", path=path, content="x")
    nodes.execute()
    assert Path(path).read_text() == "x"


def test_what_a_nested_operation_changed_is_read_again(tmp_path: Path) -> None:
    from pyinfra.operations import python

    nodes = Nodes("pi1", changes=False)
    path = str(tmp_path / "a")
    seen = []

    def nested() -> None:
        server.shell(name="Spoil", commands=[f"echo spoilt > {path}"])
        write(name="Mend", path=path, content="x")
        seen.append(Path(path).read_text())

    nodes.prepare(write, name="Write", path=path, content="x")
    nodes.prepare(python.call, name="Nest", function=nested)
    nodes.prepare(write, name="Write again", path=path, content="y")
    nodes.execute()
    assert seen == ["x"]
    assert Path(path).read_text() == "y"


def test_a_retry_reads_again(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)
    path = tmp_path / "a"
    seen = []

    @converge(reads=lambda: [Read.of(Content, path=str(path))])
    def twice() -> Commands:
        seen.append(observe(Content, path=str(path)))
        yield StringCommand(f"test -e {path} || {{ echo x > {path}; false; }}")

    nodes.prepare(twice, name="Twice", _retries=1, _retry_delay=0)
    nodes.execute()
    assert seen == [None, b"x\n"]
    assert nodes.failed == set()


def test_a_read_behind_a_yield_reads_again(tmp_path: Path) -> None:
    nodes = Nodes("pi1", changes=False)
    path = tmp_path / "a"
    seen = []

    @converge(reads=lambda: [Read.of(Content, path=str(path))])
    def look() -> Commands:
        seen.append(observe(Content, path=str(path)))
        yield StringCommand(f"echo x > {path}")
        seen.append(observe(Content, path=str(path)))

    nodes.prepare(look, name="Look")
    nodes.execute()
    assert seen == [None, b"x\n"]


def test_another_stage_reads_again(nodes: Nodes, tmp_path: Path) -> None:
    """Between the preview and the run people may change the node."""
    path = tmp_path / "a"
    nodes.prepare(write, name="Write", path=str(path), content="x")
    assert nodes.planned() == ["Write"]
    path.write_text("x")
    nodes.execute()
    assert nodes.changed() == []


def test_a_run_that_nobody_is_asked_about_reads_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    nodes = Nodes("pi1", changes=False)
    with nodes.on():
        observe(Line, text=f"cat {path} 2>&1; true")
    nodes.prepare(write, name="Write", path=str(path), content="x")
    nodes.execute()
    assert nodes.changed() == []
    assert len(nodes.commands()) == 1


def test_an_old_answer_is_read_again(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    with nodes.on():
        observe(Line, text="echo a")
        observe(Line, text="echo a")
        assert len(nodes.commands()) == 1
        monkeypatch.setattr(answers, "MAX_AGE_SECONDS", -1)
        observe(Line, text="echo a")
    assert len(nodes.commands()) == 2


def test_forget_reads_again(nodes: Nodes) -> None:
    with nodes.on():
        observe(Line, text="echo a")
        forget()
        observe(Line, text="echo a")
    assert len(nodes.commands()) == 2


def test_answers_as_another_user_are_kept_apart(nodes: Nodes) -> None:
    with nodes.on() as host:
        observe(Line, text="echo $WHO")
        host.data._env = {"WHO": "other"}
        assert observe(Line, text="echo $WHO") == "other"
    assert len(nodes.commands()) == 2


def test_hosts_do_not_share_answers(tmp_path: Path) -> None:
    nodes = Nodes("pi1", "pi2")
    path = tmp_path / "a"
    with nodes.on("pi1"):
        assert observe(Content, path=str(path)) is None
    path.write_text("x")
    with nodes.on("pi2"):
        assert observe(Content, path=str(path)) == b"x"
    with nodes.on("pi1"):
        assert observe(Content, path=str(path)) is None


def test_a_warning_is_printed_once(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    with nodes.on(), caplog.at_level("INFO", logger="pyinfra"):
        warn("the clock is wrong")
        warn("the clock is wrong")
    assert caplog.text.count("the clock is wrong") == 1
