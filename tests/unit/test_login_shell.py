"""Skip what a login shell prints; explain what it reads or changes, and how sudo refuses."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api.command import FunctionCommand, QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.connectors import local, util
from pyinfra.connectors.util import CommandOutput, OutputLine

from chaos_engine.facts.files import Content
from chaos_engine.facts.observe import NodeError, NodeFact, Read, connection, gather, observe, want
from chaos_engine.facts.observe.connection import problem_of, silence_problem
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.remote import ask
from tests.unit.nodes import Nodes

SUDO = Path(__file__).with_name("sudo_stand_in.sh")
PASSWORD = "it's secret"

PRINTS = """\
echo Welcome
printf 'Last login: never'
echo careful >&2
trap 'echo Good bye' EXIT
"""


class Home(NodeFact[str]):
    """A fact: a line from the node."""

    def command(self) -> str:
        return "echo 'a line'"

    def parse(self, lines: list[str]) -> str:
        return lines[0]


LINE = "a line"

Login = Callable[[str], None]


@pytest.fixture
def login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Login:
    """Have commands started by a login shell that reads this file first, as bash does for sshd."""
    run = util.run_local_process

    def by_login_shell(command: str, **arguments: Any) -> tuple[int, CommandOutput]:
        return run(f"exec bash -c {shlex.quote(command)}", **arguments)

    def begins_with(text: str) -> None:
        (tmp_path / "bashrc").write_text(f"unset BASH_ENV\n{text}")
        monkeypatch.setenv("BASH_ENV", str(tmp_path / "bashrc"))
        monkeypatch.setattr(local, "run_local_process", by_login_shell)

    return begins_with


@pytest.fixture
def sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Install a stand-in for sudo, of a kind, with a password. Return the prompts that it shows."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def install(kind: str, password: str = PASSWORD, typed: str = PASSWORD) -> list[str]:
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "sudo").symlink_to(SUDO)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        monkeypatch.setenv("STAND_IN_SUDO", kind)
        monkeypatch.setenv("STAND_IN_PASSWORD", password)
        prompts: list[str] = []

        def getpass(prompt: str) -> str:
            prompts.append(prompt)
            return typed

        monkeypatch.setattr(util, "getpass", getpass)
        monkeypatch.setattr(connection, "getpass", getpass)
        return prompts

    return install


@converge(reads=lambda path, content: [Read.of(Content, path=path)])
def write(path: str, content: str) -> Commands:
    """Write a file."""
    if observe(Content, path=path) != content.encode():
        yield StringCommand(
            "sh",
            "-c",
            QuoteString('cat >"$1"'),
            "sh",
            QuoteString(path),
            _stdin=[content.removesuffix("\n")],
        )


@converge(reads=list)
def look() -> Commands:
    """Run a command in the middle of an operation."""

    def turn(state: Any, host: Any) -> bool:
        return ask(host, "echo one; echo; echo 'two  '") == ["one", "", "two  "]

    yield FunctionCommand(turn, (), {})


@pytest.mark.parametrize("sudo_too", [False, True], ids=["", "sudo"])
def test_what_a_login_shell_prints_is_skipped(
    login: Login, sudo: Callable[..., list[str]], tmp_path: Path, sudo_too: bool
) -> None:
    login(PRINTS)
    sudo("sudo", password="")
    nodes = Nodes("pi1", changes=False, data={"_sudo": sudo_too})
    with nodes.on():
        assert observe(Home) == LINE
    for name in ("a", "b", "c"):
        nodes.prepare(write, name=f"Write {name}", path=str(tmp_path / name), content="x\n")
    nodes.prepare(look, name="Look")
    nodes.execute()
    assert nodes.failed == set()
    assert [(tmp_path / name).read_text() for name in "abc"] == ["x\n"] * 3
    assert len(nodes.commands()) == 6, "two reads, and one a change, which answers for the next"


@pytest.mark.parametrize("greeting", ["", PRINTS], ids=["", "a greeting"])
@pytest.mark.parametrize("kind", ["sudo", "sudo-german", "sudo-rs-0.2.15"])
@pytest.mark.parametrize("given", [False, True], ids=["asked for", "given"])
def test_a_password_for_sudo_reaches_it(
    login: Login, sudo: Callable[..., list[str]], kind: str, greeting: str, given: bool
) -> None:
    login(greeting)
    prompts = sudo(kind)
    data = {"_sudo": True} | ({"_sudo_password": PASSWORD} if given else {})
    nodes = Nodes("pi1", "pi2", data=data)
    for name in ("pi1", "pi2"):
        with nodes.on(name):
            for _ in range(2):
                want([Read.of(Home)])
                gather()
                assert observe(Home) == LINE
    assert prompts == ([] if given else ["[pi1] sudo password: ", "[pi2] sudo password: "])


def test_a_password_for_sudo_reaches_it_after_a_reboot_too(
    login: Login, sudo: Callable[..., list[str]], tmp_path: Path
) -> None:
    login(PRINTS)
    prompts = sudo("sudo")
    nodes = Nodes("pi1", changes=False, data={"_sudo": True})
    with nodes.on() as host:
        assert observe(Home) == LINE
        util.clear_askpass_cache(host)
    nodes.prepare(write, name="Write", path=str(tmp_path / "a"), content="x\n")
    nodes.execute()
    assert nodes.failed == set()
    assert (tmp_path / "a").read_text() == "x\n"
    assert len(prompts) == 1


@pytest.mark.parametrize(
    ("kind", "typed", "message"),
    [
        ("sudo", "wrong", "sudo: 3 incorrect password attempts: the password for sudo is wrong"),
        ("sudo-rs-0.2.15", "wrong", "sudo: maximum 3 incorrect .*: the password .* is wrong"),
        ("sudo-rs-0.2.5", PASSWORD, "invalid option provided: .*0.2.11.*NOPASSWD.*sudo.ws"),
    ],
)
def test_a_password_that_is_in_vain_is_told(
    login: Login, sudo: Callable[..., list[str]], kind: str, typed: str, message: str
) -> None:
    login(PRINTS)
    prompts = sudo(kind, typed=typed)
    nodes = Nodes("pi1", data={"_sudo": True})
    with nodes.on(), pytest.raises(NodeError, match=message):
        observe(Home)
    assert len(prompts) == 1


@pytest.mark.parametrize("kind", ["sudo", "sudo-german", "sudo-rs-0.2.5", "sudo-rs-0.2.15"])
def test_a_password_that_nobody_can_be_asked_for_is_told(
    monkeypatch: pytest.MonkeyPatch, sudo: Callable[..., list[str]], kind: str
) -> None:
    sudo(kind)

    def no_terminal(prompt: str) -> str:
        raise EOFError("EOF when reading a line")

    monkeypatch.setattr(util, "getpass", no_terminal)
    monkeypatch.setattr(connection, "getpass", no_terminal)
    nodes = Nodes("pi1", data={"_sudo": True})
    with nodes.on(), pytest.raises(NodeError, match="sudo asks for a password, and pyinfra has no"):
        observe(Home)


@pytest.mark.parametrize(
    ("begins", "message"),
    [
        ("exit", r"could not be read: the login shell did not run .*~/\.bashrc.*case \$-"),
        (
            "echo Use ssh2 instead; exit 3",
            r"the node printed only: Use ssh2 instead\. If .*~/\.bashrc",
        ),
        ("cat >/dev/null", r"could not be read: the login shell did not run the command"),
        ("read line", r"could not be read: the node printed only: .*the login shell did not run"),
        (
            "read a; read b; read c",
            r"could not be read: the node printed only: .*the login shell did",
        ),
        ("exec sh", "scripts arrive changed on the node: .*chsh -s /bin/bash"),
    ],
)
def test_a_login_shell_that_does_not_run_the_command_is_told(
    login: Login, tmp_path: Path, begins: str, message: str
) -> None:
    login(begins)
    with Nodes().on(), pytest.raises(NodeError, match=message):
        observe(Home)


def test_a_login_shell_that_changes_scripts_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stand-in is like fish, which takes two backslashes for one even within single quotes."""
    run = util.run_local_process

    def fish(command: str, **arguments: Any) -> tuple[int, CommandOutput]:
        return run(command.replace("\\\\", "\\"), **arguments)

    monkeypatch.setattr(local, "run_local_process", fish)
    with Nodes().on(), pytest.raises(NodeError, match=r"reads quotes differently from sh \(fish"):
        observe(Home)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"_sudo": True, "_use_sudo_login": True},
            "_use_sudo_login is set, .*; remove _use_sudo_login",
        ),
        ({"_su_user": "root", "_su_password": "x"}, "_su_password is set, .*use sudo"),
        ({"_sudo": True, "_get_pty": True}, "_get_pty is set, .*requiretty"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    data: dict[str, Any], message: str
) -> None:
    nodes = Nodes("pi1", data=data)
    with nodes.on(), pytest.raises(NodeError, match=message):
        observe(Home)
    assert nodes.commands() == []


def output(*lines: str) -> CommandOutput:
    """Return a command's output that has these lines on standard error."""
    return CommandOutput([OutputLine("stderr", line) for line in lines])


# Messages of real programs on Debian 13 and forky, without a terminal: sudo 1.9.16p2 and 1.9.17p2,
# sudo-rs 0.2.5 and 0.2.15, opendoas 6.8.2, su of util-linux 2.41
@pytest.mark.parametrize(
    ("lines", "advice"),
    [
        (["sudo: sorry, you must have a tty to run sudo"], "Defaults:USER !requiretty"),
        (["sudo: a password is required"], "--same-sudo-password"),
        (["sudo-rs: interactive authentication is required"], "--same-sudo-password"),
        (["sudo: interactive authentication is required"], "--same-sudo-password"),
        (["ubuntu is not in the sudoers file."], "ALL=(ALL) ALL"),
        (["sudo-rs: I'm sorry ubuntu. I'm afraid I can't do that"], "ALL=(ALL) ALL"),
        (["sudo: I'm sorry ubuntu. I'm afraid I can't do that"], "ALL=(ALL) ALL"),
        (["invalid option provided", "usage: sudo -h | -K | -k | -V"], "0.2.11"),
        (
            [
                "sudo: unable to run /tmp/pyinfra-sudo-askpass-aaaaaaaaaaaa: Permission denied",
                "sudo: no password was provided",
                "sudo: a password is required",
            ],
            "TEMP_DIR",
        ),
        (
            [
                "sudo: Failed to run askpass program /tmp/pyinfra-sudo-askpass-aaaaaaaaaaaa: "
                "Permission denied (os error 13)",
                "sudo: Authentication required but not attempted",
            ],
            "TEMP_DIR",
        ),
        (["doas: Authentication required"], "permit nopass USER"),
        (["doas: Operation not permitted"], "permit nopass USER"),
        (
            ["doas: doas is not enabled, /etc/doas.conf: No such file or directory"],
            "permit nopass USER",
        ),
        (["Password: su: Authentication failure"], "_sudo = True"),
        (["bash: line 1: doas: command not found"], "install the missing program"),
        (["sh: 1: sudo: not found"], "install the missing program"),
        (["sudo: unable to resolve host pi1: Name or service not known"], ""),
        (["E: Unable to locate package sudo"], ""),
    ],
)
def test_a_refusal_is_quoted_with_what_to_do(lines: list[str], advice: str) -> None:
    node: Any = SimpleNamespace(connector=SimpleNamespace())
    stderr = ["Welcome", "sudo: unable to resolve host pi1: Name or service not known", *lines]
    message = problem_of(node, output=output(*stderr))
    assert message == "" if not advice else message.startswith(lines[0]) and advice in message


def test_what_is_not_known_is_quoted_too() -> None:
    message = silence_problem(output("sudo: Entschuldigung", "", "sudo: Abbruch"))
    assert message.startswith("the node printed only: sudo: Entschuldigung / sudo: Abbruch. If")


def test_sudo_that_refuses_in_the_middle_says_why(
    monkeypatch: pytest.MonkeyPatch,
    sudo: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sudo("sudo-rs-0.2.15", password="")
    nodes = Nodes("pi1", changes=False, data={"_sudo": True})

    @converge(reads=list)
    def refuse() -> Commands:
        if nodes.state.is_executing:
            monkeypatch.setenv("STAND_IN_PASSWORD", PASSWORD)
        yield StringCommand("true")

    nodes.prepare(refuse, name="Refuse")
    with pytest.raises(PyinfraError, match="No hosts remaining"):
        nodes.execute()
    assert "interactive authentication is required: sudo asks for a password" in caplog.text
