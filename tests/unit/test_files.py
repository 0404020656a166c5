"""Test the transaction that puts files in place: its decisions, and its script, run by a shell."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos_engine.facts.cloud_init import CloudInit
from chaos_engine.facts.docker_service import DockerService
from chaos_engine.facts.files import Content, FileState, Texts, parse_files
from chaos_engine.facts.kubernetes import KubeletReplaced
from chaos_engine.facts.log_mount import LogShares
from chaos_engine.facts.observe import ComposedFact, NodeError, Read
from chaos_engine.facts.observe.batch import combined
from chaos_engine.facts.swap import Swaps
from chaos_engine.facts.systemd import UnitProperties, Units, UnitState, checksum
from chaos_engine.facts.unit_traces import UNITS, VENDOR, Traces, UnitTraces
from chaos_engine.operations.files import File, Plan, Unit, model, reads
from chaos_engine.operations.files import plan as planning
from chaos_engine.operations.files.plan import plan
from chaos_engine.operations.files.script import compose, payload
from tests.unit.asking import ask, systemctl, value_in
from tests.unit.nodes import Nodes
from tests.unit.scripts import OWNER, Sandbox

SECRET = "MARKED-SECRET"
CONF = "/etc/docker/daemon.json"
DOCKER = Unit("docker.service", reads=(CONF,))


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def state(content: str, mode: str = "644", **how: str) -> FileState:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return FileState("file", mode, how.get("owner", "root"), how.get("group", "root"), 1, digest)


def running(**how: object) -> UnitState:
    values = {
        "load": "loaded",
        "active": "active",
        "sub": "running",
        "enabled": "enabled",
        "need_daemon_reload": False,
        "main_pid": 1,
        "started_with": File(CONF, "{}").sha256,
        "configured": "",
        **how,
    }
    return UnitState(**values)  # type: ignore[arg-type]


def test_reads_what_find_and_sha256sum_say() -> None:
    lines = [
        "wff 644 root root 5 /etc/a b",
        "wdd 755 root root 4096 /etc/docker",
        "-lN 777 root root 7 /etc/link",
        f"{'0' * 64}  /etc/a b",
        f"{'1' * 64}  /etc/link",
    ]
    found = parse_files(lines)
    assert found["/etc/a b"] == FileState("file", "644", "root", "root", 5, "0" * 64)
    assert found["/etc/docker"].kind == "directory"
    assert found["/etc/link"] == FileState("link", "777", "root", "root", 7)


def test_reads_units_that_run_and_that_do_not_exist(tmp_path: Path) -> None:
    conf = tmp_path / "etc/docker.conf"
    record = tmp_path / "run/chaos-engine/docker.service"
    for path, text in ((conf, "x"), (record, "abc\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    running = {
        "MainPID": "812",
        "ActiveState": "active",
        "SubState": "running",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "yes",
    }
    units = (("docker.service", ("/etc/docker.conf",)), ("nothing.service", ()), ("a.socket", ()))
    functions = systemctl(
        # systemctl prints another Id for an alias
        {"docker.service": running, "a.socket": {"Id": "b.socket", "SubState": "listening"}}
    )
    functions = functions.replace("LoadState=not-found\\n", r"LoadState=not-found\nSubState=dead\n")
    found = value_in(tmp_path, Units, functions, units=units)
    digest = hashlib.sha256(b"x").hexdigest()
    assert found == {
        "docker.service": UnitState(
            "loaded", "active", "running", "enabled", True, 812, "abc", digest
        ),
        "nothing.service": UnitState("not-found", "inactive", "dead", "", False, 0, "", ""),
        "a.socket": UnitState("loaded", "inactive", "listening", "", False, 0, "", ""),
    }
    assert found["docker.service"].stale


def test_properties_belong_to_the_names_that_were_asked_for() -> None:
    found = UnitProperties().parse(
        [
            "unit docker.service",
            "unit syslog.service",
            "ExecStart={ argv[]=sh -c a",
            "",
            "b ; ignore_errors=no }",
            "ExecStart={ argv[]=c }",
            "Id=docker.service",
            "LoadState=loaded",
            "",
            "Environment=",
            "Id=rsyslog.service",
            "LoadState=loaded",
        ]
    )
    assert found == {
        "docker.service": {
            "ExecStart": "{ argv[]=sh -c a\n\nb ; ignore_errors=no }\n{ argv[]=c }",
            "Id": "docker.service",
            "LoadState": "loaded",
        },
        "syslog.service": {"Environment": "", "Id": "rsyslog.service", "LoadState": "loaded"},
    }
    with pytest.raises(ValueError, match="Failed to connect"):
        UnitProperties().parse(["unit a", "Failed to connect to bus"])
    with pytest.raises(ValueError, match="printed 1 units instead of 2"):
        UnitProperties().parse(["unit a", "unit b", "Id=a"])


COMPOSED: tuple[type[ComposedFact[Any]], ...] = (
    *(DockerService, LogShares, Swaps, KubeletReplaced, CloudInit),
)


def test_the_facts_of_a_batch_ask_systemd_once() -> None:
    facts = (
        Read.of(Units, units=(("docker.service", (CONF,)),)),
        *(Read.of(fact) for fact in COMPOSED),
    )
    asked = [read.fact for read in combined(facts)]
    assert asked.count(UnitProperties) == 1
    assert asked.count(Texts) == 1


@given(st.binary(max_size=300))
def test_content_is_exact(data: bytes) -> None:
    """So is content with NUL, bytes that are not UTF-8, and no newline at the end."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        assert ask(Content, path=file.name) == data


def test_a_text_is_of_a_regular_file_or_masks(tmp_path: Path) -> None:
    there = tmp_path / "a b%20\nc.conf"
    there.write_text("text")
    (tmp_path / "link.conf").symlink_to(there)
    (tmp_path / "null.conf").symlink_to("/dev/null")
    (tmp_path / "zero.conf").symlink_to("/dev/zero")
    (tmp_path / "lost.conf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.conf").mkdir()
    os.mkfifo(tmp_path / "fifo.conf")
    assert ask(Texts, patterns=(f"{tmp_path}/*.conf", f"{tmp_path}/missing")) == {
        str(there): b"text",
        f"{tmp_path}/link.conf": b"text",
        f"{tmp_path}/null.conf": None,
    }


def test_only_what_a_pattern_matches_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\ntwo 1\nthree\ntwo 2")
    (tmp_path / "b").write_text("")
    (tmp_path / "c").write_text("all")
    a, b, c = (f"{tmp_path}/{name}" for name in "abc")
    found = ask(Texts, patterns=((a, "^two .*"), (b, "x"), c))
    assert found == {a: b"two 1two 2", b: b"", c: b"all"}
    # The whole text counts where another read wants only a part of it
    every = f"{tmp_path}/*"
    assert ask(Texts, patterns=(a, (every, "^t.*"))) == {
        a: b"one\ntwo 1\nthree\ntwo 2",
        b: b"",
        c: b"",
    }


def test_a_file_that_the_kernel_refuses_is_missing_and_another_is_an_error(tmp_path: Path) -> None:
    # Reading this file gives EIO until a secret was set; a user who is not root may not open it
    secret = "/proc/sys/net/ipv6/conf/lo/stable_secret"
    assert ask(Texts, patterns=(secret, "/proc/sys/kernel/ostype")) == {
        "/proc/sys/kernel/ostype": b"Linux\n"
    }
    command = Texts().command(patterns=(f"{tmp_path}/a",)).get_raw_value()
    (tmp_path / "a").write_text("x")
    refused = command.replace("open($file", "($! = 13, 0)[1] && open($file")
    said = subprocess.run(["sh", "-c", refused], capture_output=True, text=True, check=False)
    assert said.returncode
    assert said.stderr == f"{tmp_path}/a: Permission denied\n"


def test_each_read_of_texts_gets_what_its_patterns_match() -> None:
    texts = {"/etc/a.conf": b"a", "/etc/b": b"b", "/etc/d/c.conf": b"c", "/etc/e": None}
    assert Texts.share(texts, ["/etc/*.conf"]) == {"/etc/a.conf": b"a"}
    assert Texts.share(texts, ["/etc/*"]) == {"/etc/a.conf": b"a", "/etc/b": b"b", "/etc/e": None}
    assert Texts.share(texts, ["/etc/*/c*", "/etc/e", "/f"]) == {
        "/etc/d/c.conf": b"c",
        "/etc/e": None,
    }


def test_nothing_to_do_when_all_is_as_wanted() -> None:
    wanted = File(CONF, "{}")
    found = {CONF: state("{}"), DOCKER.record.path: state(str(DOCKER.record.content))}
    assert not plan([wanted], ["/etc/old"], [DOCKER], found, {"docker.service": running()}, {})


@pytest.mark.parametrize(
    "found",
    [
        {},
        {CONF: state("other")},
        {CONF: state("{}", mode="600")},
        {CONF: state("{}", owner="ubuntu")},
        {CONF: FileState("link", "777", "root", "root", 7, state("{}").sha256)},
    ],
    ids=["missing", "content", "mode", "owner", "link"],
)
def test_a_file_that_differs_is_written(found: dict[str, FileState]) -> None:
    wanted = File(CONF, "{}")
    assert plan([wanted], [], [], found, {}, {}).write == (wanted,)


@pytest.mark.parametrize("same", [True, False])
def test_a_link_in_place_of_the_nodes_own_file_is_refused(same: bool) -> None:
    """GNU stow makes such links to dotfiles. Undo would have no original to restore."""
    link = FileState("link", "777", "root", "root", 7, state("{}").sha256 if same else None, "file")
    with pytest.raises(NodeError, match="is a symbolic link, and would be replaced"):
        plan([File(CONF, "{}", merged=True)], [], [], {CONF: link}, {}, {})


def test_a_file_system_without_modes_is_compared_by_content_only() -> None:
    wanted = File("/boot/firmware/cmdline.txt", "x", mode=None)
    found = {wanted.path: state("x", mode="755", owner="nobody")}
    assert not plan([wanted], [], [], found, {}, {})


def test_a_directory_in_a_files_place_refuses_the_node() -> None:
    found = {CONF: FileState("directory", "755", "root", "root", 4096)}
    with pytest.raises(NodeError, match=r"is a folder.*move it away"):
        plan([File(CONF, "{}")], [], [], found, {}, {})


@pytest.mark.parametrize(
    ("unit", "actions"),
    [
        (running(), ""),
        (running(started_with="old"), "restart"),
        (running(started_with=""), "restart"),
        (running(need_daemon_reload=True), "restart"),
        (running(active="inactive"), "start"),
        (running(active="failed"), "start"),
        (running(enabled="disabled"), "enable"),
        (running(enabled="masked"), "unmask enable"),
        (running(enabled="masked-runtime"), "unmask enable"),
    ],
)
def test_a_unit_is_made_to_run_with_its_files(unit: UnitState, actions: str) -> None:
    record = DOCKER.record
    found = {CONF: state("{}"), record.path: state(str(record.content))}
    todo = plan([File(CONF, "{}")], [], [DOCKER], found, {"docker.service": unit}, {})
    kinds = ("start", "restart", "stop", "unmask", "enable")
    assert [name for name in kinds if getattr(todo, name)] == actions.split()


@pytest.mark.parametrize(("configured", "restarts"), [("a", False), ("b", True)])
def test_the_files_that_only_a_unit_reads_are_looked_at_with_it(
    configured: str, restarts: bool
) -> None:
    unit = Unit("rsyslog.service", reads=("/etc/rsyslog.conf", "/etc/rsyslog.d/*.conf"))
    found = {unit.record.path: state(str(unit.record.content))}
    states = {unit.name: running(started_with="a", configured=configured)}
    assert plan([], [], [unit], found, states, {}).restart == ((unit,) if restarts else ())


def test_no_checksum_is_asked_for_twice() -> None:
    nodes = Nodes("pi1")
    more = Unit("rsyslog.service", reads=(CONF, "/etc/rsyslog.d/*.conf"))
    with nodes.on():
        asked = reads([File(CONF, "{}")], units=[DOCKER, more])
    units = Read.of(Units, units=((DOCKER.name, ()), (more.name, more.reads)))
    assert units in asked


def test_a_changed_file_restarts_the_unit_that_reads_it_once() -> None:
    todo = plan([File(CONF, "{}")], [], [DOCKER], {}, {"docker.service": running()}, {})
    assert todo.restart == (DOCKER,)
    assert todo.start == ()
    assert todo.daemon_reload, "its drop-in is new"
    script = compose(todo)
    assert len(re.findall(r"systemctl restart -- ", script.split("$reload\n")[-1])) == 1


@pytest.mark.parametrize(
    ("path", "restarts"),
    [("x.service.d/a.conf", True), ("x.service", True), ("x.service-old.d/a.conf", False)],
)
def test_only_a_units_own_drop_ins_restart_it(path: str, restarts: bool) -> None:
    todo = plan(
        [File(f"{UNITS}/{path}", "[Unit]\n")],
        [],
        [Unit("x.service")],
        {},
        {"x.service": running()},
        {},
    )
    assert bool(todo.restart) == restarts


@pytest.mark.parametrize("load", ["loaded", "masked", "not-found"])
def test_a_drop_in_of_a_unit_that_is_not_there_is_read_with_the_unit(load: str) -> None:
    states = {"docker.service": running(load=load, active="inactive", enabled="")}
    assert plan([], [], [DOCKER], {}, states, {}).daemon_reload == (load != "not-found")
    own = File("/etc/systemd/system/docker.service", "[Service]\n")
    assert plan([own], [], [DOCKER], {}, states, {}).daemon_reload


def test_a_unit_that_shall_not_run_is_stopped_and_disabled() -> None:
    unit = Unit("apt-daily.timer", enabled=False, running=False)
    todo = plan([], [], [unit], {}, {unit.name: running()}, {})
    assert (todo.stop, todo.disable) == ((unit,), (unit,))


VARLOG = "/etc/systemd/system/var-log.service"
WANTS = "/etc/systemd/system/multi-user.target.wants/var-log.service"


@pytest.mark.parametrize(
    ("traces", "remove", "reenable"),
    [
        (UnitTraces(links={WANTS: VARLOG}), False, False),
        (UnitTraces(links={WANTS: VARLOG, WANTS.replace("multi-user", "x"): VARLOG}), False, True),
        (UnitTraces(links={WANTS: "/usr/lib/systemd/system/var-log.service"}), False, True),
        (UnitTraces("/usr/lib/systemd/system/var-log.service", {WANTS: VARLOG}), True, False),
    ],
    ids=["its own", "another target", "another file", "a second file"],
)
def test_what_an_earlier_installation_left_of_a_unit_goes(
    traces: UnitTraces, remove: bool, reenable: bool
) -> None:
    unit, wanted = Unit("var-log.service"), File(VARLOG, "[Install]\nWantedBy=multi-user.target\n")
    found = {VARLOG: state(str(wanted.content))}
    todo = plan([wanted], [], [unit], found, {unit.name: running()}, {unit.name: traces})
    assert todo.remove == (("/usr/lib/systemd/system/var-log.service",) if remove else ())
    assert todo.reenable == ((unit,) if reenable else ())
    assert todo.daemon_reload == remove
    assert not todo.restart, "it runs by the file that counts already"
    assert not todo.enable
    assert f"systemctl reenable -- {unit.name}" in compose(todo) or not reenable


def test_a_unit_that_is_not_enabled_is_no_more_than_enabled() -> None:
    unit, wanted = Unit("var-log.service"), File(VARLOG, "[Install]\nWantedBy=multi-user.target\n")
    states = {unit.name: running(enabled="disabled")}
    todo = plan([wanted], [], [unit], {}, states, {unit.name: UnitTraces()})
    assert (todo.enable, todo.reenable) == ((unit,), ())


def test_traces_of_units_are_read(tmp_path: Path) -> None:
    """Files of packages are not reported."""
    vendor, own, programs = (tmp_path / name for name in ("vendor", "own", "bin"))
    for folder in (vendor, own / "a.target.wants", own / "b.service.wants", programs):
        folder.mkdir(parents=True)
    for name in ("mine.service", "packaged.service"):
        (vendor / name).touch()
        (own / "a.target.wants" / name).symlink_to(f"{vendor}/{name}")
    (own / "b.service.wants/mine.service").symlink_to("../mine.service")
    (programs / "dpkg-query").write_text(
        '#!/bin/sh\ncase $2 in */packaged.service) echo "a: $2";; *) exit 1;; esac\n'
    )
    (programs / "dpkg-query").chmod(0o755)
    command = Traces().command(("mine.service", "packaged.service", "no.service"))
    text = command.get_raw_value().replace(VENDOR, str(vendor)).replace(UNITS, str(own))
    path = f"{programs}:/usr/bin:/bin"
    ran = subprocess.run(["sh", "-c", text], capture_output=True, text=True, env={"PATH": path})
    assert Traces().parse(ran.stdout.splitlines()) == {
        "mine.service": UnitTraces(
            f"{vendor}/mine.service",
            {
                f"{own}/a.target.wants/mine.service": f"{vendor}/mine.service",
                f"{own}/b.service.wants/mine.service": f"{own}/mine.service",
            },
        ),
        "packaged.service": UnitTraces(
            "", {f"{own}/a.target.wants/packaged.service": f"{vendor}/packaged.service"}
        ),
        "no.service": UnitTraces(),
    }


def test_a_unit_records_the_checksum_that_the_fact_computes(tmp_path: Path) -> None:
    """systemd.service(5): in ExecStartPre= `%%` and `$$` stand for `%` and `$`, and a double
    quoted argument is unescaped as in C."""
    conf = tmp_path / 'a $HOME 100% "b".conf'
    conf.write_text("x")
    unit = Unit("docker.service", reads=(str(conf), str(tmp_path / "missing")))
    line = next(x for x in str(unit.record.content).splitlines() if x.startswith("ExecStartPre"))
    quoted = line.removeprefix('ExecStartPre=-+/bin/sh -c "').removesuffix('"')
    command = re.sub(r"\\(.)", r"\1", quoted).replace("$$", "$").replace("%%", "%")
    command = command.replace("/run/chaos-engine", str(tmp_path / "run"))
    subprocess.run(["sh", "-c", command], check=True)
    recorded = (tmp_path / "run/docker.service").read_text()
    asked = subprocess.check_output(["sh", "-c", checksum(unit.reads).get_raw_value()], text=True)
    assert recorded == asked
    assert recorded.strip() == hashlib.sha256(b"x").hexdigest()


def test_a_unit_may_read_all_files_of_a_folder(tmp_path: Path) -> None:
    for name, content in {"b.conf": "2", "a.conf": "1", "c.txt": "3"}.items():
        (tmp_path / name).write_text(content)
    command = checksum((f"{tmp_path}/*.conf",)).get_raw_value()
    said = subprocess.check_output(["sh", "-c", command], text=True)
    assert said.strip() == hashlib.sha256(b"12").hexdigest()


@pytest.mark.parametrize(
    ("path", "restarted"), [("/etc/rsyslog.d/50.conf", True), ("/etc/other/50.conf", False)]
)
def test_a_file_removed_from_its_folder_restarts_a_unit(path: str, restarted: bool) -> None:
    unit = Unit("rsyslog.service", reads=("/etc/rsyslog.d/*.conf",))
    found = {path: state("x"), unit.record.path: state(str(unit.record.content))}
    todo = plan([], [path], [unit], found, {unit.name: running(started_with="")}, {})
    assert (todo.remove, todo.restart) == ((path,), (unit,) if restarted else ())


def test_files_arrive_whole_with_mode_and_owner(sandbox: Sandbox) -> None:
    files = (
        sandbox.file("etc/a.conf", "a\n"),
        sandbox.file("etc/deep/er/b b'.bin", b"\0\xff\n", mode="755"),
        sandbox.file("etc/client.key", SECRET, mode="600", secret=True),
    )
    ran = sandbox.apply(Plan(write=files))
    assert ran.returncode == 0, ran.stderr
    for file in files:
        found = Path(file.path)
        assert found.read_bytes() == file.data
        assert f"{stat.S_IMODE(found.stat().st_mode):o}" == file.mode
        assert found.owner() == OWNER
    assert stat.S_IMODE(sandbox.path("etc/deep").stat().st_mode) == 0o755
    assert sandbox.leftovers == []


def test_each_file_is_synchronised_before_it_is_renamed_and_its_folder_after(
    sandbox: Sandbox,
) -> None:
    log = sandbox.path("log")
    before = f"""
    sync() {{ [ "$1" = --version ] || echo "sync $*" >> {log}; }}
    mv() {{ echo "mv $*" >> {log}; command mv "$@"; }}"""
    sandbox.path("etc").mkdir()
    sandbox.path("etc/a").write_text(
        "old"
    )  # without an old file the list of new files would be synchronised too
    sandbox.apply(Plan(write=(sandbox.file("etc/a", "a"),)), before=before)
    etc = sandbox.path("etc")
    steps = [line for line in log.read_text().splitlines() if "/var" not in line]
    assert steps == [
        f"sync -- {etc}/.a.chaos",
        f"mv -fT -- {etc}/.a.chaos {etc}/a",
        f"sync -- {etc}",
    ]


@pytest.mark.parametrize("check", ["grep -q good {}", "grep -q good {}; true", "exit 3", "if"])
def test_files_that_the_check_refuses_change_nothing(sandbox: Sandbox, check: str) -> None:
    old = sandbox.path("daemon.json")
    old.write_text("old")
    todo = Plan(
        write=(sandbox.file("daemon.json", "bad"), sandbox.file("new", "bad")),
        restart=(DOCKER,),
    )
    ran = sandbox.apply(todo, check=check.format(f'"$stage"{old}'))
    assert ran.returncode == 1
    assert "the new files were refused by:" in ran.stderr
    assert old.read_text() == "old"
    assert not sandbox.path("new").exists()
    assert sandbox.calls == []
    assert sandbox.leftovers == []


def test_the_check_sees_the_new_files_under_their_paths(sandbox: Sandbox) -> None:
    todo = Plan(write=(sandbox.file("a/x", "good"), sandbox.file("b/y", "good")))
    check = f'grep -q good "$stage"{sandbox.root}/a/x && grep -q good {sandbox.root}/b/.y.chaos'
    assert sandbox.apply(todo, check=check).returncode == 0


def test_what_the_check_says_is_shown(sandbox: Sandbox) -> None:
    todo = Plan(write=(sandbox.file("a", "x"),))
    assert "line 3 is wrong" in sandbox.apply(todo, check="echo line 3 is wrong; false").stderr


def test_what_the_check_says_of_a_secret_is_not_shown(sandbox: Sandbox) -> None:
    todo = Plan(write=(sandbox.file("a", SECRET, secret=True), sandbox.file("b", "x")))
    ran = sandbox.apply(todo, check=f"cat {sandbox.root}/.a.chaos; false")
    assert ran.returncode == 1
    assert SECRET not in ran.stdout + ran.stderr


def test_a_secret_is_never_readable_by_others(sandbox: Sandbox) -> None:
    """The files are read after each step of the script."""
    log = sandbox.path("log")
    look = f"find {sandbox.root} -type f -exec grep -lF {SECRET} {{}} + | xargs -r stat -c '%a %n'"
    before = f"""
    look() {{ {look} >> {log}; }}
    tar() {{ command tar "$@"; look; }}
    chown() {{ look; command chown "$@"; look; }}
    chmod() {{ look; command chmod "$@"; look; }}
    cp() {{ command cp "$@"; look; }}
    mv() {{ command mv "$@"; look; }}"""
    sandbox.path("client.key").write_text(f"old {SECRET}")
    sandbox.path("client.key").chmod(0o600)
    key = sandbox.file("client.key", SECRET, mode="600", secret=True)
    ran = sandbox.apply(Plan(write=(key,)), check="true", before=before)
    assert ran.returncode == 0, ran.stderr
    seen = log.read_text().splitlines()
    assert len(seen) > 5
    assert {line.split()[0] for line in seen} == {"600"}


def test_a_unit_that_does_not_start_gets_its_old_files_back(sandbox: Sandbox) -> None:
    conf = sandbox.path("daemon.json")
    conf.write_text("good")
    before = f"""
    systemctl() {{
      echo "$*" >> {sandbox.root}/systemctl.log
      case $1 in restart) grep -q good {conf} ;; esac
    }}
    journalctl() {{ case $* in *"-u docker.service") echo broken pipe ;; esac; }}"""
    todo = Plan(
        write=(sandbox.file("daemon.json", "bad"), sandbox.file("new", "bad")),
        remove=(str(sandbox.path("gone")),),
        restart=(DOCKER,),
    )
    sandbox.path("gone").symlink_to("/nowhere")
    ran = sandbox.apply(todo, before=before)
    assert ran.returncode == 1
    assert "did not restart with the new files, so the old files were restored" in ran.stderr
    assert "broken pipe" in ran.stderr
    assert "either" not in ran.stderr
    assert conf.read_text() == "good"
    assert not sandbox.path("new").exists()
    assert sandbox.path("gone").is_symlink()
    assert [call for call in sandbox.calls if call.startswith("restart")] == [
        "restart -- docker.service"
    ] * 2
    assert sandbox.leftovers == []


@pytest.mark.parametrize("ready", ["echo not yet >&2; exit 1", "false", "true\nfalse"])
def test_a_unit_that_starts_and_does_not_do_its_work_gets_its_old_files_back(
    sandbox: Sandbox, ready: str
) -> None:
    conf = sandbox.path("daemon.json")
    conf.write_text("good")
    unit = Unit("docker.service", reads=(str(conf),), ready=ready)
    ran = sandbox.apply(Plan(write=(sandbox.file("daemon.json", "bad"),), restart=(unit,)))
    assert ran.returncode == 1
    assert "the old files were restored" in ran.stderr
    assert conf.read_text() == "good"


def test_a_unit_that_starts_and_does_its_work_keeps_its_new_files(sandbox: Sandbox) -> None:
    unit = Unit("docker.service", ready=f"grep -q new {sandbox.root}/a")
    ran = sandbox.apply(Plan(write=(sandbox.file("a", "new"),), restart=(unit,)))
    assert ran.returncode == 0, ran.stderr
    assert sandbox.path("a").read_text() == "new"


def test_a_large_file_is_packed_once_for_all_hosts() -> None:
    def large() -> File:
        return File("/usr/local/bin/program", b"\0" * (2 << 20))

    assert payload((large(),)) is payload((large(),))
    assert not large().shown


def test_units_that_run_already_get_the_old_files_back_too(sandbox: Sandbox) -> None:
    sandbox.path("a").write_text("old")
    one, two = Unit("one.service"), Unit("two.service")
    before = f"""
    systemctl() {{
      echo "$1 $(cat {sandbox.root}/a) $3" >> {sandbox.root}/systemctl.log
      [ "$1 $3" != "restart two.service" ] || grep -q old {sandbox.root}/a
    }}"""
    todo = Plan(write=(sandbox.file("a", "new"),), restart=(one, two))
    assert sandbox.apply(todo, before=before).returncode == 1
    assert [call for call in sandbox.calls if "restart" in call] == [
        "restart new one.service",
        "restart new two.service",
        "try-restart old one.service",
        "restart old two.service",
    ]


def test_a_unit_that_is_not_required_keeps_the_new_files(sandbox: Sandbox) -> None:
    unit = Unit("var-log.service", required=False)
    todo = Plan(write=(sandbox.file("a", "new"),), start=(unit,))
    ran = sandbox.apply(todo, before='systemctl() { [ "$1" != start ]; }')
    assert ran.returncode == 0
    assert sandbox.path("a").read_text() == "new"


@pytest.mark.parametrize("apply", ["false", "false\ntrue", "exit 4", "true && false; true"])
def test_files_without_effect_are_taken_back(sandbox: Sandbox, apply: str) -> None:
    """They are restored even when a step in the middle of several fails."""
    sandbox.path("a").write_text("old")
    ran = sandbox.apply(Plan(write=(sandbox.file("a", "new"),)), apply=apply)
    assert ran.returncode == 1
    assert "the old files were restored" in ran.stderr
    assert sandbox.path("a").read_text() == "old"


def test_units_are_reloaded_started_and_enabled_in_order(sandbox: Sandbox) -> None:
    one, two = Unit("one.service"), Unit("two.service")
    todo = Plan(
        daemon_reload=True,
        stop=(one,),
        start=(one,),
        restart=(two,),
        unmask=(two,),
        enable=(one, two),
    )
    assert sandbox.apply(todo).returncode == 0
    assert [call for call in sandbox.calls if not call.startswith("reset-failed")] == [
        "daemon-reload",
        "unmask -- two.service",
        "stop -- one.service",
        "start -- one.service",
        "restart -- two.service",
        "enable -- one.service two.service",
    ]


@pytest.mark.parametrize("starts", [True, False])
def test_a_unit_that_comes_with_its_file_is_enabled_as_long_as_that_is_there(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    """They are enabled before the reload, so that one reload is enough."""
    for module in (model, planning):
        monkeypatch.setattr(module, "UNITS", str(sandbox.root))
    unit, file = Unit("own.service"), sandbox.file("own.service", "[Install]\nWantedBy=x.target\n")
    before = f"""
    systemctl() {{
      [ -e {file.path} ] && echo "$*" >> {sandbox.root}/systemctl.log
      case $1 in start) {str(starts).lower()} ;; esac
    }}
    journalctl() {{ :; }}"""
    todo = Plan(write=(file,), daemon_reload=True, start=(unit,), enable=(unit,))
    ran = sandbox.apply(todo, before=before)
    name = "-- own.service"
    begun = [f"--no-reload enable {name}", "daemon-reload", f"reset-failed {name}", f"start {name}"]
    assert sandbox.calls == begun + ([] if starts else [f"--no-reload disable {name}"])
    assert (ran.returncode, Path(file.path).exists()) == (int(not starts), starts)


def test_what_apt_has_enabled_meanwhile_is_left(sandbox: Sandbox) -> None:
    units = (Unit("one.service"), Unit("two.service"))
    before = f"""
    systemctl() {{
      case "$*" in
        show* | "is-enabled --quiet -- two.service") ;;
        is-enabled*) false ;;
        *) echo "$*" >> {sandbox.root}/systemctl.log ;;
      esac
    }}"""
    assert sandbox.apply(Plan(enable=units), before=before).returncode == 0
    assert sandbox.calls == ["enable -- one.service"]
    assert sandbox.apply(Plan(enable=units[1:]), before=before).returncode == 0
    assert sandbox.calls == ["enable -- one.service"]


@pytest.mark.parametrize("step", ["tar", "sync", "mv"])
def test_a_run_that_is_killed_leaves_whole_files_and_the_next_finishes(
    sandbox: Sandbox, step: str
) -> None:
    old = {"a": "old a\n" * 1000, "b": "old b\n" * 1000}
    new = {"a": "new a\n" * 1000, "b": "new b\n" * 1000}
    for name, content in old.items():
        sandbox.path(name).write_text(content)
    todo = Plan(write=tuple(sandbox.file(name, content) for name, content in new.items()))
    killed = sandbox.apply(todo, before=f'{step}() {{ command {step} "$@"; kill -9 $$; }}')
    assert killed.returncode == -9
    for name in old:
        assert sandbox.path(name).read_text() in (old[name], new[name])
    assert sandbox.apply(todo).returncode == 0
    for name, content in new.items():
        assert sandbox.path(name).read_text() == content
    assert sandbox.leftovers == []


def test_what_a_rollback_that_was_killed_has_left_goes_too(sandbox: Sandbox) -> None:
    sandbox.path(".a.chaos-old").write_text("old")
    sandbox.path("run/stage.123456").mkdir(parents=True)
    assert sandbox.apply(Plan(write=(sandbox.file("a", "new"),))).returncode == 0
    assert sandbox.leftovers == []


def test_applying_twice_is_applying_once(sandbox: Sandbox) -> None:
    todo = Plan(write=(sandbox.file("a", "new"),), remove=(str(sandbox.path("b")),))
    sandbox.path("b").write_text("x")
    assert sandbox.apply(todo).returncode == 0
    once = {p: p.read_bytes() for p in sandbox.root.rglob("*") if p.is_file()}
    assert sandbox.apply(todo).returncode == 0
    assert {p: p.read_bytes() for p in sandbox.root.rglob("*") if p.is_file()} == once


def test_originals_are_kept_once(sandbox: Sandbox) -> None:
    sandbox.path("a").write_text("first")
    sandbox.path("a").chmod(0o640)
    for content in ("second", "third"):
        files = (sandbox.file("a", content), sandbox.file("b", content))
        assert sandbox.apply(Plan(write=files)).returncode == 0
    kept = sandbox.path(f"var/originals{sandbox.root}/a")
    assert kept.read_text() == "first"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert stat.S_IMODE(sandbox.path("var").stat().st_mode) == 0o700
    noted = [line for line in sandbox.manifest if line.startswith("file ")]
    assert noted == ["file original /a", "file created /b"]


def test_a_removed_link_is_kept_as_a_link(sandbox: Sandbox) -> None:
    sandbox.path("link").symlink_to("/dev/null")
    assert sandbox.apply(Plan(remove=(str(sandbox.path("link")),))).returncode == 0
    assert not sandbox.path("link").is_symlink()
    assert str(sandbox.path(f"var/originals{sandbox.root}/link").readlink()) == "/dev/null"


def test_neither_repr_nor_script_shows_content() -> None:
    key = File("/etc/kubernetes/client.key", SECRET, mode="600", secret=True)
    todo = plan([key], [], [], {}, {}, {})
    assert SECRET not in repr(key) + repr(todo) + str([todo]) + compose(todo, check="true")
    assert SECRET not in payload((key,)), "base64"
