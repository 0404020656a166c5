"""Test repairs: when a change counts as one, who is suspected, and the warnings."""

from __future__ import annotations

import logging
import re
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import FactProcessError

from chaos_engine.facts.files import FileState
from chaos_engine.facts.observe import Read
from chaos_engine.facts.repairs import REPAIRS, PastRepair, Repairs
from chaos_engine.facts.suspects import Search, Suspect, Suspects
from chaos_engine.facts.sysctl import BootSetting, Sysctl
from chaos_engine.operations import swap, sysctl
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.repairs import (
    MAX_SUSPECTS,
    Repair,
    in_files,
    literal,
    messages,
    of_docker,
    of_file,
    of_hold,
    of_removed,
    of_unit,
    warn_of_repeats,
    will_set,
)
from chaos_engine.operations.engine.shell import NOTES
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.files.plan import plan
from chaos_engine.operations.files.script import compose
from chaos_engine.operations.log_mount import repairs as mount_repairs
from chaos_engine.operations.macvlan_network.hairpin import repairs as hairpin_repairs
from chaos_engine.operations.undo.concerns import UNDOING
from tests.unit.nodes import Nodes
from tests.unit.scripts import Sandbox
from tests.unit.test_files import running, state


@pytest.fixture
def box(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def counted(box: Sandbox) -> dict[str, int]:
    """Return how often each thing was fixed, as the node has noted it."""
    path = box.path("var/repairs")
    lines = path.read_text().splitlines() if path.exists() else []
    return {one.thing.replace(f"{box.root}/", ""): one.count for one in Repairs().parse(lines)}


def write(box: Sandbox, content: str, found: FileState | None, **how: str) -> None:
    """Run with a file that shall have this content, and has another one."""
    todo = plan(
        [box.file("a", content)], [], [], {str(box.path("a")): found} if found else {}, {}, {}
    )
    ran = box.apply(todo, **how)
    assert ran.returncode == 0, ran.stderr


def test_the_first_deploy_is_no_repair_and_writes_no_more_than_before(box: Sandbox) -> None:
    write(box, "ours", None)
    write(box, "ours too", state("ours"))
    assert not box.path("var/repairs").exists()


def test_a_file_that_somebody_changes_again_and_again_is_counted(box: Sandbox) -> None:
    write(box, "ours", None)
    for count, found in enumerate((state("theirs"), None, state("ours", mode="600")), 1):
        write(box, "ours", found)
        assert counted(box) == {"a": count}
    assert box.leftovers == []


def test_a_change_of_settings_is_no_repair_and_ends_the_count(box: Sandbox) -> None:
    write(box, "ours", None)
    write(box, "ours", state("theirs"))
    write(box, "new", state("ours"))
    assert counted(box) == {}
    # and back: this package wrote what is found
    write(box, "ours", state("new"))
    assert counted(box) == {}
    write(box, "ours", state("theirs"))
    assert counted(box) == {"a": 1}


def test_what_a_run_that_was_cut_short_has_left_is_no_repair(box: Sandbox) -> None:
    todo = plan([box.file("a", "ours")], [], [], {}, {}, {})
    assert box.apply(todo, apply="kill -9 $$").returncode == -9
    write(box, "ours", None)
    assert counted(box) == {}
    write(box, "ours", state("theirs"))
    assert counted(box) == {"a": 1}


def test_what_a_script_notes_itself_is_no_trace_of_an_earlier_run(box: Sandbox) -> None:
    """Note it before files are written, as what is lost by a power cut in between."""
    area = Repair("swap on /swap", "off", "swap", "/swap", Search("swap on /swap", "swapon"))
    contents = ("first", None), ("second", state("first")), ("third", state("second"))
    for content, found in contents:
        before = {str(box.path("a")): found} if found else {}
        todo = plan([box.file("a", content)], [], [], before, {}, {})
        script = compose(replace(todo, repairs=(area,)), before="note swap -2 /swap")
        ran = box.run(script, todo.write)
        assert ran.returncode == 0, ran.stderr
        assert counted(box) == ({area.thing: contents.index((content, found))} if found else {})


def test_what_fails_was_not_fixed(box: Sandbox) -> None:
    write(box, "ours", None)
    todo = plan([box.file("a", "ours")], [], [], {}, {}, {})
    assert box.apply(todo, apply="false").returncode == 1
    assert counted(box) == {}


def test_a_unit_that_may_fail_to_start_counts_once_it_runs(box: Sandbox) -> None:
    unit = Unit("share.service", required=False)
    todo = plan([], [], [unit], {}, {unit.name: running(active="failed")}, {})
    assert [repair.thing for repair in todo.repairs] == [unit.name]
    for active in ("true", "false"):
        systemctl = f"systemctl() {{ case $1 in is-active) {active} ;; esac; }}"
        for _ in range(2):
            ran = box.apply(todo, before=systemctl)
            assert ran.returncode == 0, ran.stderr
        assert counted(box) == {unit.name: 1}


def test_a_unit_whose_files_change_is_told_by_these(box: Sandbox) -> None:
    unit = Unit("a.service")
    file = box.file("system/a.service", "[Service]\n")
    file = type(file)("/etc/systemd/system/a.service", file.content)
    todo = plan([file], [], [unit], {}, {unit.name: running(active="inactive")}, {})
    assert [repair.thing for repair in todo.repairs] == [file.path]


def test_a_file_that_comes_back_is_counted(box: Sandbox) -> None:
    path = str(box.path("b"))
    for _ in range(3):
        box.path("b").write_text("theirs")
        assert box.apply(plan([], [path], [], {path: state("theirs")}, {}, {})).returncode == 0
    assert counted(box) == {"b": 2}


def test_a_card_that_is_full_is_no_reason_to_fail(box: Sandbox) -> None:
    write(box, "ours", None)
    write(box, "ours", state("theirs"), before=f"date() {{ mkdir {box.root}/var/repairs; }}")
    assert box.path("a").read_text() == "ours"


def test_each_concern_has_its_own_and_undo_forgets_them(box: Sandbox) -> None:
    for concern in ("docker", "swap"):
        for _ in range(2):
            line = will_set([of_unit("a.service", "masked")])[0]
            script = f"{NOTES}{line}\nnote unit x a.service; settle\nwere_set"
            ran = box.run(f"set -eu; concern={concern}\n{script}")
            assert ran.returncode == 0, ran.stderr
    lines = box.path("var/repairs").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["docker", "swap"]
    for left in (["swap"], []):
        concern = "docker" if left else "swap"
        ran = box.run(f"set -eu; concern={concern}\n{NOTES}{UNDOING}forget")
        assert ran.returncode == 0, ran.stderr
        path = box.path("var/repairs")
        found = path.read_text().splitlines() if path.exists() else []
        assert [line.split("\t")[0] for line in found] == left
    assert not box.path("var/repairs").exists()


def test_a_line_that_a_power_cut_has_shortened_is_none() -> None:
    line = "swap\tswap.target\tabc\t2\t2026-11-01 10:00\t2026-11-02 10:00"
    assert Repairs().parse([line, f"{line}\t.", "a\tb\tc\td\te\tf\t.", ""]) == (
        PastRepair("swap", "swap.target", "abc", 2, "2026-11-01 10:00", "2026-11-02 10:00"),
    )


def test_reading_starts_no_program(tmp_path: Path) -> None:
    """Each run reads it, even where it finds nothing to do."""
    for text in ("", "a\\b\tc\n"):
        file = tmp_path / "repairs"
        file.write_text(text)
        script = f"PATH=/nowhere\n{Repairs().command().replace(REPAIRS, str(file))}"
        ran = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
        assert (ran.stdout, ran.stderr) == (text, "")


SEARCH = Search("a thing", "a thing")
REPAIR = Repair("a thing", "on", "unit", "a thing", SEARCH)
ONCE = PastRepair("swap", "a thing", "x", 1, "2026-11-02 10:00", "2026-11-02 10:00")
OFTEN = PastRepair("swap", "a thing", "x", 5, "2026-10-02 10:00", "2026-11-02 10:00")


def test_what_is_said_tells_how_often_when_who_and_what_to_do() -> None:
    unit = "/etc/systemd/system/t.service"
    (text,) = messages({REPAIR: OFTEN}, {"a thing": [Suspect("file", unit, "/opt/t", "t.timer")]})
    assert text == (
        "something keeps changing a thing: runs have fixed it 5 times before (first on 2026-10-02 "
        "10:00, last on 2026-11-02 10:00, by the node's clock); "
        f"suspected: {unit}, which calls /opt/t (systemctl disable --now t.timer)"
    )


@pytest.mark.parametrize(
    ("suspect", "said"),
    [
        (
            Suspect("file", "/etc/systemd/system/t.service.d/a.conf", "/opt/t"),
            "which calls /opt/t (systemctl disable --now t.service)",
        ),
        (
            Suspect("file", "/etc/cron.d/a", "/etc/cron.d/a"),
            "/etc/cron.d/a (remove the lines that cause this)",
        ),
        (Suspect("manager", "puppet.service"), "puppet.service, which manages this node's"),
        (Suspect("ansible", "/root/.ansible/tmp"), "since the last fix (correct the playbook)"),
        (Suspect("package", "procps"), "package procps, installed or upgraded since the last fix"),
    ],
)
def test_each_kind_of_suspect_is_told_with_a_way_out(suspect: Suspect, said: str) -> None:
    (text,) = messages({REPAIR: ONCE}, {"a thing": [suspect]})
    assert "fixed it once before (on 2026-11-02 10:00, by" in text
    assert said in text


@pytest.mark.parametrize("kind", ["networkd", "networkmanager"])
def test_who_manages_a_link_is_told_to_leave_it(kind: str) -> None:
    (repair,) = hairpin_repairs({"the link lb": ""}, "lb", "eth0", VIP, "script")
    (text,) = messages({repair: ONCE}, {repair.thing: [Suspect(kind, "/run/a.network")]})
    assert "which manages lb" in text


def test_things_of_which_the_same_is_said_share_a_line_and_many_suspects_are_counted() -> None:
    other = Repair("b", "on", "unit", "b", Search("b", "b"))
    (text,) = messages({REPAIR: ONCE, other: ONCE}, {})
    assert text.startswith("something keeps changing a thing, b: runs have fixed them once before")
    assert "no suspect was found among this node's units" in text
    many = [Suspect("manager", str(number)) for number in range(MAX_SUSPECTS + 2)]
    (text,) = messages({REPAIR: ONCE}, {"a thing": many})
    assert text.endswith("; and 2 more")


def found(root: Path, there: dict[str, str], search: Search, disabled: str = "") -> set[str]:
    """Return who is suspected on a node with these files, and with this package of ours."""
    for path, text in {"/var/lib/chaos-engine/manifest": "", **there}.items():
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(re.sub(r"(?<=[ =@])(?=/(opt|usr))", str(root), text))
        file.chmod(0o755)
    command = Suspects().command((search,)).get_raw_value()
    command = re.sub(r"(?<![\w.*])/(etc|usr|var|run|root|home|boot|sys)/", rf"{root}/\1/", command)
    programs = {
        "systemctl": f"case $1,$4 in is-enabled,*.timer) [ -e {root}/etc/systemd/system/$4 ] ;; "
        f"is-enabled,{disabled or '-'}) false ;; esac",
        "dpkg-query": "echo 'a-package: x'",
    }
    (root / "bin").mkdir(exist_ok=True)
    for name, text in programs.items():
        (root / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (root / "bin" / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", f"PATH={root}/bin:$PATH\n{command}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    answer = Suspects().parse(done.stdout.replace(str(root), "").splitlines())
    assert set(answer) == {search.thing}
    return {
        "|".join(filter(None, (s.kind, s.name, s.script, s.timer))) for s in answer[search.thing]
    }


UNIT = "/etc/systemd/system/t.service"
FORWARD = sysctl.repair("kubernetes", "net.ipv4.ip_forward", "1", Sysctl("0")).search
SHIM = of_unit("cri-docker.service", "on").search
LINK = "the address of lb-hairpin"
VIP = IPv4Address("192.168.1.222")
(ADDRESS,) = (one.search for one in hairpin_repairs({LINK: ""}, "lb-hairpin", "eth0", VIP, ""))
NETWORK = of_docker("network", "lb-network", "").search
OFF = "/etc/systemd/system/off.service"


@pytest.mark.parametrize(
    ("search", "there", "expected"),
    [
        # a unit of the user's own that calls a script, started by a timer
        (
            FORWARD,
            {
                UNIT: "[Service]\nExecStart=/opt/t\n",
                "/opt/t": "#!/bin/sh\nsysctl -w net.ipv4.ip_forward=0\n",
                UNIT.replace("service", "timer"): "[Timer]\n",
            },
            {f"file|{UNIT}|/opt/t|t.timer"},
        ),
        (FORWARD, {"/etc/cron.d/a": "* * * * * root echo 0 > /proc/sys/net/ipv4/ip_forward\n"},
         {"file|/etc/cron.d/a|/etc/cron.d/a"}),
        # another name of the parameter, in the format of ufw
        (FORWARD, {"/etc/ufw/sysctl.conf": "net/ipv4/conf/all/forwarding=0\n"},
         {"file|/etc/ufw/sysctl.conf|/etc/ufw/sysctl.conf"}),
        # files that set it as wanted, are off, or only mention it
        (FORWARD, {"/etc/ufw/a.conf": "net/ipv4/ip_forward=1\n#net/ipv4/ip_forward=0\n"}, set()),
        (FORWARD, {"/etc/rc.local": "#!/bin/sh\necho 1 > /proc/sys/net/ipv4/ip_forward\n"}, set()),
        (FORWARD, {OFF: "ExecStart=sysctl net.ipv4.ip_forward=0"}, set()),
        (FORWARD, {"/etc/cron.d/a": "* * * * * root sysctl net.ipv4.ip_forward_use_pmtu\n"}, set()),
        (SHIM, {"/etc/cron.daily/a": "#!/bin/sh\nsystemctl disable --now cri-docker\n"},
         {"file|/etc/cron.daily/a|/etc/cron.daily/a"}),
        (SHIM, {"/etc/systemd/system-preset/a.preset": "disable cri-docker.service\n"},
         {"file|/etc/systemd/system-preset/a.preset|/etc/systemd/system-preset/a.preset"}),
        # to come after ours is no reason for suspicion
        (SHIM, {UNIT: "[Unit]\nAfter=b.service cri-docker.service\n"}, set()),
        (SHIM, {"/etc/cron.daily/a": "systemctl restart docker my-cri-docker\n"}, set()),
        (ADDRESS, {"/etc/NetworkManager/dispatcher.d/9": "ip address flush dev lb-hairpin\n"},
         {"file|/etc/NetworkManager/dispatcher.d/9|/etc/NetworkManager/dispatcher.d/9"}),
        (ADDRESS, {"/sys/class/net/lb-hairpin/ifindex": "7\n",
                   "/run/systemd/netif/links/7":
                   "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/a.network\n"},
         {"networkd|/etc/systemd/network/a.network"}),
        (ADDRESS, {"/sys/class/net/lb-hairpin/ifindex": "7\n",
                   "/run/systemd/netif/links/7": "ADMIN_STATE=unmanaged\n",
                   "/run/NetworkManager/devices/7": "[device]\nmanaged=true\n"},
         {"networkmanager"}),
        (in_files("/etc/crictl.yaml"), {"/etc/cron.d/p": "@daily root ansible-pull -U x\n"},
         {"manager|/etc/cron.d/p"}),
        (of_removed("snapd").search, {"/etc/cron.d/a": "@daily root apt-get -y install snapd\n"},
         {"file|/etc/cron.d/a|/etc/cron.d/a"}),
        (of_removed("snapd").search, {"/etc/cron.d/a": "@daily root apt install snapd-x\n"}, set()),
        (of_hold("kubelet").search, {"/etc/rc.local": "apt-mark unhold kubeadm kubelet\n"},
         {"file|/etc/rc.local|/etc/rc.local"}),
        (NETWORK, {"/etc/cron.daily/clean": "#!/bin/sh\ndocker system prune -af\n"},
         {"file|/etc/cron.daily/clean|/etc/cron.daily/clean"}),
        (NETWORK, {"/etc/cron.daily/clean": "docker image prune -f\ndocker network ls\n"}, set()),
        # our own
        (in_files("/etc/crictl.yaml"), {
            UNIT: "ExecStart=rm /etc/crictl.yaml\n",
            "/var/lib/chaos-engine/manifest": f"a\twrote\t-\t0 @ROOT@{UNIT}\t.\n"}, set()),
        (in_files("/etc/crictl.yaml"), {}, set()),
    ],
)  # fmt: skip
def test_who_may_undo_it_is_found(
    tmp_path: Path, search: Search, there: dict[str, str], expected: set[str]
) -> None:
    there = {path: text.replace("@ROOT@", str(tmp_path)) for path, text in there.items()}
    # the pattern has paths of a node, which are in another folder here
    search = search._replace(pattern=search.pattern.replace("/etc/", f"{tmp_path}/etc/"))
    there = {path: text.replace("rm /etc", f"rm {tmp_path}/etc") for path, text in there.items()}
    assert found(tmp_path, there, search, disabled="off.service") == expected


def test_a_package_is_suspected_if_it_was_installed_since(tmp_path: Path) -> None:
    list_ = "/var/lib/dpkg/info/a-package.list"
    assert (
        found(tmp_path, {list_: "", "/var/lib/chaos-engine/repairs": ""}, in_files("/x/y")) == set()
    )
    (tmp_path / list_[1:]).touch()
    assert found(tmp_path, {}, in_files("/x/y")) == {"package|a-package"}


def test_a_file_that_sets_a_parameter_otherwise_is_known_without_a_search() -> None:
    boot = (
        BootSetting("/etc/sysctl.d/10-a.conf", "net/ipv4/conf/all/forwarding", "0"),
        BootSetting("/etc/sysctl.d/20-b.conf", "net/ipv4/ip_forward", "1"),
        BootSetting("/etc/sysctl.d/99-kubernetes.conf", "net/ipv4/ip_forward", "1"),
    )
    repair = sysctl.repair("kubernetes", "net.ipv4.ip_forward", "1", Sysctl("0", boot))
    (known,) = repair.suspects
    assert known.startswith("/etc/sysctl.d/10-a.conf, which sets net.ipv4.conf.all.forwarding = 0")


def test_swap_is_known_by_area_table_and_unit() -> None:
    todo = swap.Plan(turn_off=("/swapfile",), mask=("swap.target",))
    assert [(one.thing, one.kind, one.name) for one in swap.repairs(todo)] == [
        ("swap on /swapfile", "swap", "/swapfile"),
        ("swap.target", "unit", "swap.target"),
    ]


def test_who_unmounts_the_share_is_looked_for() -> None:
    (repair,) = mount_repairs(Plan(), "pi1", "")
    for line, match in (
        ("umount -l /var/log", True),
        ("systemctl stop var-log", True),
        ("umount /var/log/journal", False),
    ):
        assert bool(grep(repair.search.pattern, line)) == match
    assert "storage servers" in repair.suspects[0]
    (repair,) = mount_repairs(Plan(), "", "16M")
    assert repair.suspects == ()


def test_another_volume_is_a_change_of_settings() -> None:
    written = Plan(write=(File("/usr/local/sbin/var-log-mount", "volume=pi2"),))
    assert mount_repairs(written, "pi2", "") == ()


def grep(pattern: str, line: str) -> bool:
    done = subprocess.run(
        ["grep", "-E", "-e", pattern], input=line, text=True, capture_output=True, check=False
    )
    assert done.stderr == ""
    return done.returncode == 0


@given(st.text(alphabet=r".*+?(){}[]|^$\/-ab ", min_size=1, max_size=8))
def test_a_text_is_found_as_it_is(text: str) -> None:
    assert grep(f"^{literal(text)}$", text)
    assert not grep(f"^{literal(text)}$", f"{text}x")


@pytest.mark.parametrize("line", ["x\ty", "file\ta\tb\tc\td", "file", "package\ta"])
def test_an_answer_that_makes_no_sense_is_an_error_of_the_search_alone(line: str) -> None:
    with pytest.raises(FactProcessError):
        Suspects().process([line] if line.startswith("package") else ["thing\ta", line])


@converge(reads=lambda: [Read.of(Repairs)])
def work() -> Commands:
    """Fix a thing."""
    warn_of_repeats([REPAIR])
    yield StringCommand("true")


@pytest.mark.parametrize(
    "search", ["printf 'thing\\ta thing\\nmanager\\tpuppet.service\\n'", "false"]
)
def test_a_preview_and_the_run_say_the_same_also_where_the_search_fails(
    search: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyinfra")
    line = "\t".join(
        ("other", "a thing", REPAIR.digest, "2", "2026-11-01 9:00", "2026-11-02 9:00", ".")
    )
    monkeypatch.setattr(Repairs, "command", lambda self: f"echo '{line}'")
    monkeypatch.setattr(Suspects, "command", lambda self, searches: StringCommand(search))
    nodes = Nodes("pi1")
    nodes.prepare(work, name="Do it")
    preview = warnings(caplog)
    assert len(preview) == 1
    assert ("puppet.service" in preview[0]) == (search != "false")
    assert "twice before" in preview[0]
    caplog.clear()
    again = Nodes("pi1", changes=False)
    again.prepare(work, name="Do it")
    again.execute()
    assert warnings(caplog) == preview
    assert again.changed() == ["Do it"]


def test_a_run_that_fixes_another_thing_or_the_same_otherwise_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyinfra")
    for thing, digest, concern in (
        ("another", REPAIR.digest, "other"),
        ("a thing", "0" * 16, "other"),
        ("a thing", REPAIR.digest, "swap"),
    ):
        line = "\t".join((concern, thing, digest, "2", "2026-11-01 9:00", "2026-11-02 9:00", "."))
        monkeypatch.setattr(Repairs, "command", lambda self, line=line: f"echo '{line}'")
        nodes = Nodes("pi1")
        nodes.prepare(work, name="Do it")
        nodes.execute()
        assert warnings(caplog) == []
        # and no suspects are looked for
        assert not [one for one in nodes.commands() if "mentions" in one]


def test_a_damaged_note_is_no_reason_to_refuse_a_node(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Repairs, "command", lambda self: r"printf '\377\n'")
    nodes = Nodes("pi1", changes=False)
    nodes.prepare(work, name="Do it")
    nodes.execute()
    assert nodes.changed() == ["Do it"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings that were printed."""
    texts = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in caplog.messages)
    return [text for text in texts if "something keeps changing" in text]


def test_a_repair_without_what_it_was_set_by_is_told_by_its_path() -> None:
    assert of_file("/etc/a", "00", "644 root:root", None).line.split("\t")[2:] == [
        "wrote",
        "00 /etc/a",
        "",
    ]
    assert Plan() == Plan(repairs=(REPAIR,))
