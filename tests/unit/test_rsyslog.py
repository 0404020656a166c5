"""Test logs to the log server: rsyslog's files, the settings, and the script, run by a shell."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from chaos_engine.facts.rsyslog import Snippets, main_problem, snippets_of
from chaos_engine.facts.unit_traces import UnitTraces
from chaos_engine.operations.files import File, Plan
from chaos_engine.operations.files.script import compose
from chaos_engine.operations.rsyslog import (
    NETWORK,
    PATH,
    UNIT,
    apply,
    check,
    paths_of,
    put_aside,
    with_restart,
)
from chaos_engine.templates import render
from tests.unit.scripts import GROUP, OWNER, Sandbox

HEAD = """\
# /etc/rsyslog.conf configuration file for rsyslog
module(load="imuxsock") # provides support for local system logging
module(load="imklog" permitnonkernelfacility="on")
#*.* /var/log/all
$FileOwner syslog
$PrivDropToUser syslog
$WorkDirectory /var/spool/rsyslog
"""
INCLUDE = "# Include all config files in /etc/rsyslog.d/\n#\n$IncludeConfig /etc/rsyslog.d/*.conf\n"
RULES = """\
*.*;auth,authpriv.none\t\t-/var/log/syslog
auth,authpriv.*\t\t\t/var/log/auth.log
*.emerg\t\t\t\t:omusrmsg:*
"""
UBUNTU_50_DEFAULT = """\
auth,authpriv.*\t\t\t/var/log/auth.log
*.*;auth,authpriv.none\t\t-/var/log/syslog
"""


@pytest.mark.parametrize(
    "text",
    [
        HEAD + INCLUDE,
        HEAD + INCLUDE + RULES,
        HEAD + 'include(file="/etc/rsyslog.d/*.conf" mode="optional")\n' + RULES,
        "*.emerg :omusrmsg:*\n*.* @10.0.0.1\n" + INCLUDE,
        'include(\n  file="/etc/rsyslog.d/*.conf" # all\n  mode="optional"\n)\n' + RULES,
        "$IncludeConfig /etc/rsyslog.d/\n" + RULES,
        "$IncludeConfig /etc/rsyslog.d\n" + RULES,
        "  $includeconfig \\\n /etc//rsyslog.d/[0-9]*.conf # mine\n",
        "/* *.* /var/log/a\n*/ # *.* /var/log/b \\\n*.* /var/log/c\n" + INCLUDE,
        "*.=debug /dev/console\nmail.* |/run/fifo\nmail.* | /run/fifo\nkern.* ^/bin/x\n" + INCLUDE,
        ":msg, contains, \"/var/log/\" stop\nif $msg == '/a' then stop\n" + INCLUDE,
        'module(load="builtin:omfile"\n  fileOwner="syslog" # as "$FileOwner"\n)\n' + INCLUDE,
    ],
    ids=[
        *("Ubuntu 24.04", "Debian 12 and 13", "RainerScript", "rules that write no file"),
        *("several lines", "a folder", "a folder without slash", "another pattern", "comments"),
        *("devices, pipes and programs", "filters", "a module"),
    ],
)
def test_a_main_configuration_that_lets_the_snippet_decide(text: str) -> None:
    assert main_problem(text) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "does not include /etc/rsyslog.d/*.conf"),
        (HEAD + RULES, "does not include /etc/rsyslog.d/*.conf"),
        (HEAD + "#$IncludeConfig /etc/rsyslog.d/*.conf\n", "does not include"),
        (HEAD + RULES + INCLUDE, "writes to a file before /etc/rsyslog.d is included: *.*;auth"),
        (HEAD + "kern.=debug ?PerHost\n" + INCLUDE, "writes to a file before"),
        (HEAD + 'action(type="omfile" file="/var/log/x")\n' + INCLUDE, "writes to a file before"),
        (
            HEAD + '*.* action(\n  file="/x"\n  Type="omFile")\n' + INCLUDE,
            "writes to a file before",
        ),
        (HEAD + 'if $msg == "x" then {\n -/var/log/x\n}\n' + INCLUDE, "writes to a file before"),
        (HEAD + 'if $msg == "x" then /var/log/x\n' + INCLUDE, "writes to a file before"),
        (HEAD + "mail.* @10.0.0.1\n& -/var/log/x\n" + INCLUDE, "writes to a file before"),
        (HEAD + ':msg, contains, "x" ?PerHost;Form\n' + INCLUDE, "writes to a file before"),
        ("/*\n" + INCLUDE + "*/\n", "does not include"),
        ("# a \\\n$IncludeConfig /etc/rsyslog.d/*.conf\n", "does not include"),
        ('include(file="/etc/rsyslog.d/9*.conf")\n', "does not include"),
        ('include(text="*.* /etc/rsyslog.d/*.conf")\n', "does not include"),
        ('ruleset(name="x") {\n' + INCLUDE + "}\n", "inside a block"),
    ],
)
def test_a_main_configuration_that_would_write_files(text: str, problem: str) -> None:
    found = main_problem(text)
    assert found is not None
    assert problem in found


def test_snippets_are_what_the_main_configuration_includes(tmp_path: Path) -> None:
    for name in ("50-default.conf", "a b.conf", "notes.txt", ".10-all.conf.chaos", "sub/c.conf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dead.conf").symlink_to("/nowhere")
    command = Snippets().command().get_raw_value()
    said = subprocess.check_output(
        ["sh", "-c", command.replace("/etc/rsyslog.d", str(tmp_path))], text=True
    )
    found = [line.replace(str(tmp_path), "/etc/rsyslog.d") for line in said.splitlines()]

    def names(text: str | None) -> list[str]:
        return [path.removeprefix("/etc/rsyslog.d/") for path in snippets_of(text, found)]

    usual = ["50-default.conf", "a b.conf", "dead.conf"]
    assert names(None) == names(HEAD + INCLUDE) == usual
    everything = ["50-default.conf", "a b.conf", "dead.conf", "notes.txt", "sub/c.conf"]
    assert names("$IncludeConfig /etc/rsyslog.d/\n") == everything
    assert names('include(file="/etc/rsyslog.d/*/*.conf")\n') == ["sub/c.conf"]


def test_no_folder_means_no_snippets() -> None:
    command = Snippets().command().get_raw_value().replace("/etc/rsyslog.d", "/nowhere")
    assert subprocess.check_output(["sh", "-c", command]) == b""
    with pytest.raises(ValueError, match="hello"):
        Snippets().parse(["hello"])


def test_udp_is_the_original_line_and_nothing_is_written_here() -> None:
    text = render("10-all.conf.j2", server="192.168.1.42", protocol="udp", port=514)
    rules = [line for line in text.splitlines() if not line.startswith("#")]
    assert rules == ["*.* @192.168.1.42", "*.emerg :omusrmsg:*", "stop"]
    assert text.endswith("\n")


def test_another_port_is_named() -> None:
    text = render("10-all.conf.j2", server="192.168.1.42", protocol="udp", port=5514)
    assert "*.* @192.168.1.42:5514\n" in text


def test_tcp_queues_in_ram() -> None:
    text = render("10-all.conf.j2", server="192.168.1.42", protocol="tcp", port=514)
    assert 'protocol="tcp"' in text
    assert 'queue.type="LinkedList"' in text
    # These would make it a queue on the disk
    assert "queue.filename" not in text.lower()
    assert "saveonshutdown" not in text.lower()
    assert text.endswith("stop\n")


@pytest.mark.skipif(not shutil.which("rsyslogd"), reason="rsyslogd checks its own configuration")
@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_rsyslogd_accepts_the_configuration(tmp_path: Path, protocol: str) -> None:
    path = tmp_path / "10-all.conf"
    path.write_text(render("10-all.conf.j2", server="192.168.1.42", protocol=protocol, port=514))
    subprocess.run(["rsyslogd", "-N1", "-f", str(path)], check=True, capture_output=True)


class Node(Sandbox):
    """A folder with rsyslog's files; rsyslogd, dpkg and apt-get are stand-ins."""

    def forward(self, todo: Plan, installed: bool, before: str = "", **stand_ins: str) -> int:
        """Run the script, and keep what it printed."""
        (self.root / "etc/rsyslog.d").mkdir(parents=True, exist_ok=True)
        programs = self.root / "bin"
        programs.mkdir(exist_ok=True)
        for name in ("rsyslogd", "dpkg", "apt-get"):
            body = stand_ins.get(name.replace("-", "_"), "")
            (programs / name).write_text(
                f'#!/bin/sh\necho "{name} $*" >> {self.root}/systemctl.log\n{body}\n'
            )
            (programs / name).chmod(0o755)
        todo = with_restart(todo)
        text = compose(
            todo, check(todo, installed), apply(todo, installed), before=put_aside(todo.remove)
        )
        text = text.replace("/etc/", f"{self.root}/etc/")
        files = [replace(file, path=f"{self.root}{file.path}") for file in todo.write]
        ran = self.run(text, files, f"PATH={programs}:$PATH\n{before}")
        self.said = ran.stderr
        return ran.returncode

    def etc(self, name: str) -> Path:
        return self.root / "etc/rsyslog.d" / name


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def files() -> tuple[File, ...]:
    texts = {PATH: "*.* @192.168.1.42\nstop\n", NETWORK: "[Unit]\n"}
    return tuple(File(path, text, owner=OWNER, group=GROUP) for path, text in texts.items())


def test_the_new_configuration_is_checked_alone_and_then_as_a_whole(node: Node) -> None:
    assert node.forward(Plan(write=files(), restart=(UNIT,)), True) == 0, node.said
    folder = node.etc("10-all.conf").parent
    assert node.calls[0] == f"rsyslogd -N1 -f {folder}/.10-all.conf.chaos"
    assert node.calls[-3:] == [
        "rsyslogd -N1",
        "reset-failed -- rsyslog.service",
        "restart -- rsyslog.service",
    ]
    assert node.etc("10-all.conf").read_text() == "*.* @192.168.1.42\nstop\n"


@pytest.mark.parametrize("refused", ["case $* in *-f*) exit 1; esac", "exit 1"])
def test_a_configuration_that_rsyslogd_refuses_changes_nothing(node: Node, refused: str) -> None:
    node.etc("x").parent.mkdir(parents=True)
    node.etc("10-all.conf").write_text("old")
    node.etc("50-default.conf").write_text(UBUNTU_50_DEFAULT)
    todo = Plan(write=files(), remove=("/etc/rsyslog.d/50-default.conf",), restart=(UNIT,))
    assert node.forward(todo, True, rsyslogd=refused) == 1
    assert node.etc("10-all.conf").read_text() == "old"
    assert node.etc("50-default.conf").read_text() == UBUNTU_50_DEFAULT
    assert not [call for call in node.calls if "restart" in call]


def test_an_enabled_rsyslog_is_one_that_syslog_socket_finds(node: Node) -> None:
    """Started before it is enabled, it has not got its alias syslog.service, and gets no socket."""
    assert node.forward(Plan(start=(UNIT,), enable=(UNIT,)), True) == 0, node.said
    assert node.calls.index("enable rsyslog.service") < node.calls.index(
        "restart -- rsyslog.service"
    )


def test_rsyslog_does_not_run_while_it_gets_its_other_name(node: Node) -> None:
    """systemd would take it for dead, and start a second one beside it."""
    assert node.forward(Plan(enable=(UNIT,)), True) == 0, node.said
    acts = [call for call in node.calls if "rsyslog.service" in call and "reset" not in call]
    assert acts[:4] == [
        "stop rsyslog.service",
        "unmask rsyslog.service",
        "enable rsyslog.service",
        "restart -- rsyslog.service",
    ]


def test_rsyslog_is_installed_with_its_configuration_in_place(node: Node) -> None:
    brings = f"""case $* in *install*) test -e {node.etc("10-all.conf")} || exit 1
      echo '{UBUNTU_50_DEFAULT}' > {node.etc("50-default.conf")};; esac"""
    assert node.forward(Plan(write=files(), start=(UNIT,)), False, apt_get=brings) == 0
    assert [path.name for path in node.etc("x").parent.iterdir()] == ["10-all.conf"]
    kept = node.path(f"var/originals{node.etc('50-default.conf')}")
    assert "auth.log" in kept.read_text()
    assert node.calls[-1] == "restart -- rsyslog.service", "apt has started it with other files"


def test_another_unit_under_the_other_name_is_stopped_before_rsyslog_takes_it(node: Node) -> None:
    left = ("/usr/lib/x", "/etc/systemd/system/multi-user.target.wants/syslog.service")
    todo = Plan(remove=(left[1],), start=(UNIT,), enable=(UNIT,), daemon_reload=True)
    link = node.path(left[1].lstrip("/"))
    link.parent.mkdir(parents=True)
    link.symlink_to("/usr/lib/systemd/system/syslog.service")
    separate = f'systemctl() {{ echo "$*" >>{node.root}/systemctl.log; test $1 != show || echo '
    assert node.forward(todo, True, separate + "syslog.service; }") == 0, node.said
    assert not link.is_symlink()
    order = ["daemon-reload", "stop syslog.service", "enable rsyslog.service"]
    assert [call for call in node.calls if call in order] == order
    link.symlink_to("/usr/lib/systemd/system/syslog.service")
    (node.root / "systemctl.log").unlink()
    assert node.forward(todo, True, separate + "rsyslog.service; }") == 0, node.said
    assert "stop syslog.service" not in node.calls, "that is rsyslog itself"
    traces = UnitTraces(left[0], {left[1]: "/usr/lib/systemd/system/syslog.service"})
    assert paths_of(traces) == left
    assert paths_of(UnitTraces()) == ()


def test_a_failed_installation_leaves_nothing(node: Node) -> None:
    fails = "case $* in *install*) exit 100; esac"
    assert node.forward(Plan(write=files(), start=(UNIT,)), False, apt_get=fails) == 1
    assert list(node.etc("x").parent.iterdir()) == []


def test_whatever_is_put_aside_is_kept_each_time(node: Node) -> None:
    mine = node.etc("05-mine.conf")
    mine.parent.mkdir(parents=True)
    todo = Plan(remove=("/etc/rsyslog.d/05-mine.conf",), restart=(UNIT,))
    for text in ("first", "second", "second", "first"):
        mine.write_text(text)
        assert node.forward(todo, True) == 0, node.said
        assert not mine.exists()
    folders = [node.path(f"var/{name}{mine.parent}") for name in ("originals", "aside")]
    kept = [path.read_text() for folder in folders for path in folder.iterdir()]
    assert kept == ["first", "second"]
