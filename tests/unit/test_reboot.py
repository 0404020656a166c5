"""Test the reboot: when it is due, who goes when, and the message if a node does not come back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent  # type: ignore[import-untyped]
import gevent.pool  # type: ignore[import-untyped]
import pytest
from pyinfra.api.exceptions import ConnectError
from pyinfra.connectors.util import CommandOutput, OutputLine

from chaos_engine.deploys import reboot as deploy
from chaos_engine.facts.kernel import RECORD, Cmdline
from chaos_engine.facts.observe import ComposedFact
from chaos_engine.facts.standing import Standing, StandingState
from chaos_engine.facts.swap import SwapArea, SwapState
from chaos_engine.operations.reboot import boot_cycle, reboot
from chaos_engine.operations.reboot.boot_cycle import reboot_and_wait, reboot_script, remove_note
from chaos_engine.operations.reboot.reboot import causes, in_vain, without_memory
from chaos_engine.operations.rolling import cordon
from chaos_engine.operations.rolling import turns as rolling
from chaos_engine.operations.rolling.gate import Gate, Lane
from tests.unit.counting import first
from tests.unit.nodes import Nodes
from tests.unit.test_cmdline import ADDED, PI_FIRMWARE, UBUNTU_2404, WANTED
from tests.unit.test_kernel import BOOT, boot_file, cmdline
from tests.unit.test_swap import USED
from tests.unit.test_swap import state as swap_state

OTHER_BOOT = "7b1f3a52-0000-4c6e-8a11-2d9d0a4a3f10"
NO_SWAP = swap_state()
EDITED = boot_file(UBUNTU_2404 + ADDED)
WORDS = tuple((PI_FIRMWARE + UBUNTU_2404 + ADDED).split())

FRESH = cmdline()
DUE = cmdline(file=EDITED)
DONE = cmdline(file=EDITED, words=WORDS, memory=True, boot_id=OTHER_BOOT)


def test_it_is_due_while_the_kernel_lacks_a_word_whatever_the_file_says() -> None:
    for found in (FRESH, DUE):
        (why,) = causes(found, NO_SWAP, WANTED, last=False).values()
        assert why == f"the kernel was started without {' '.join(WANTED)}"
    assert causes(DONE, NO_SWAP, WANTED, last=True) == {}


def test_a_machine_whose_kernel_needs_no_words_is_never_due() -> None:
    found = cmdline(file=None, memory=True)

    assert causes(found, NO_SWAP, WANTED, last=True) == {}
    assert without_memory(found, WANTED) == []


def test_swap_that_cannot_be_turned_off_makes_it_due() -> None:
    short = swap_state(areas=USED, available=1000)

    assert causes(DONE, short, WANTED, last=True) == {
        "swap": "swap (/swapfile) is in use and does not fit into RAM"
    }
    assert causes(DONE, swap_state(areas=USED), WANTED, last=True) == {}


def record(found: Cmdline, swaps: SwapState = NO_SWAP) -> dict[str, str]:
    """Return what a node has noted after a reboot for all causes that were due."""
    return dict.fromkeys(causes(found, swaps, WANTED, last=True), found.boot_id)


def vain(found: Cmdline, swaps: SwapState = NO_SWAP) -> list[str]:
    return in_vain(found, causes(found, swaps, WANTED, last=True), WANTED)


def test_a_reboot_that_was_ordered_and_did_not_happen_is_still_due() -> None:
    assert vain(replace(DUE, rebooted=record(DUE))) == []


def test_a_reboot_that_was_in_vain_says_where_to_look() -> None:
    (problem,) = vain(replace(DUE, rebooted=record(DUE), boot_id=OTHER_BOOT))

    assert problem == (
        f"the kernel was started without {' '.join(WANTED)}, even after a reboot; "
        "/boot/firmware/cmdline.txt has these words, so the firmware reads another file. Look at "
        "cmdline= and os_prefix= in config.txt, and check from which medium the node boots. Fix "
        "the problem and reboot the node"
    )


def test_another_content_of_the_file_is_worth_another_reboot() -> None:
    other = boot_file("quiet " + UBUNTU_2404 + ADDED)

    assert vain(replace(DUE, file=other, rebooted=record(DUE), boot_id=OTHER_BOOT)) == []


def test_a_reboot_for_other_words_was_not_in_vain_for_these() -> None:
    more = (*WANTED, "psi=1")
    noted = replace(DONE, rebooted=record(DUE))

    assert list(causes(replace(DUE, words=()), NO_SWAP, more, last=True)) != list(record(DUE))
    for last in (False, True):
        assert in_vain(noted, causes(noted, NO_SWAP, more, last), more) == []


def test_words_that_no_file_has_were_not_rebooted_for_in_vain() -> None:
    for found in (FRESH, cmdline(file=None, grub=True)):
        assert vain(replace(found, rebooted=record(found), boot_id=OTHER_BOOT)) == []


def test_swap_that_is_back_after_a_reboot_for_it_is_not_rebooted_for_again() -> None:
    short = swap_state(areas=(SwapArea("/dev/zram0", "partition", 9999, 9999),), available=0)
    found = replace(DONE, rebooted={"swap": BOOT})

    (problem,) = vain(found, short)

    assert problem.startswith("swap (/dev/zram0) is in use")
    assert "find out what turns swap on" in problem


def test_a_kernel_that_does_not_know_the_words_is_told_apart_from_a_wrong_file() -> None:
    (problem,) = without_memory(replace(DONE, memory=False), WANTED)

    assert "only Raspberry Pi's own kernels know cgroup_enable=" in problem
    assert without_memory(DUE, WANTED) == []
    assert without_memory(replace(DONE, memory=False), ["quiet"]) == []


@pytest.fixture
def pyinfra_on(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a run on nodes that answer as given; a reboot only adds a word to a list."""

    def run(
        found: dict[str, Cmdline],
        executing: bool = True,
        before: Any = None,
        swaps: SwapState = NO_SWAP,
        joined: tuple[str, ...] = (),
        **data: Any,
    ) -> Nodes:
        groups: Any = {"proxy": (["pi5"], {})} if "pi5" in found else {}
        keys = {f"chaos_{key}": value for key, value in data.items()}
        nodes = Nodes(*found, data={"chaos_nodes": {}, **keys}, groups=groups)
        monkeypatch.setattr(reboot, "LocalConnector", int)

        def standing() -> StandingState:
            return StandingState(joined=reboot.current()[1].name in joined)

        monkeypatch.setattr(
            reboot,
            "observe",
            lambda fact: found[reboot.current()[1].name] if fact is reboot.KernelCmdline else swaps,
        )
        monkeypatch.setattr(rolling, "observe", lambda fact: standing())
        for module in (cordon, rolling):
            monkeypatch.setattr(module, "read_standing", lambda host: standing())
        for fact in (reboot.KernelCmdline, reboot.Swaps, Standing):
            if issubclass(fact, ComposedFact):
                monkeypatch.setattr(fact, "reads", lambda self: ())
                monkeypatch.setattr(fact, "compose", lambda self: None)
            else:
                monkeypatch.setattr(fact, "command", lambda self: ":")
        if before:
            nodes.prepare(before)
        monkeypatch.setattr("chaos_engine.deploys.concern.gather", lambda: None)
        nodes.prepare(deploy)
        if executing:
            nodes.execute()
        return nodes

    return run


@pytest.fixture
def rebooted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the nodes that were rebooted; a node with "broken" in its name fails."""
    names: list[str] = []

    def reboots(host: Any, found: Any, noted: dict[str, str], seconds: int) -> str:
        names.append(host.name)
        assert set(noted.values()) == {BOOT}
        gevent.sleep(0.01)
        return "did not come back" if "broken" in host.name else ""

    monkeypatch.setattr(reboot, "reboot_and_wait", reboots)
    monkeypatch.setattr(reboot, "_check_outcome", lambda before, wanted: "")
    monkeypatch.setattr(reboot, "remove_note", lambda host: "")
    return names


def test_a_fresh_node_shows_it_in_a_preview(pyinfra_on: Any) -> None:
    nodes = pyinfra_on({"pi1": FRESH, "pi2": DONE}, executing=False)

    assert nodes.planned("pi1") == ["Reboot | Reboot node"]
    assert nodes.planned("pi2") == []


def test_it_is_not_made_for_words_that_the_next_boot_would_not_bring(
    pyinfra_on: Any, rebooted: list[str]
) -> None:
    nodes = pyinfra_on({"pi1": FRESH, "pi2": DUE})

    assert rebooted == ["pi2"]
    assert nodes.failed == {"pi1"}


def test_a_node_of_a_cluster_is_pending_unless_forced(
    pyinfra_on: Any, rebooted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    nodes = pyinfra_on({"pi1": DUE}, joined=("pi1",))

    assert rebooted == []
    assert not nodes.failed
    assert "a reboot is pending: the kernel was started without" in caplog.text
    assert nodes.planned() == []
    pyinfra_on({"pi1": DUE}, joined=("pi1",), reboot_force=True)
    assert rebooted == ["pi1"]


def test_after_a_failure_no_further_node_of_the_cluster_is_rebooted(
    pyinfra_on: Any, rebooted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    joined = ("broken1", "broken2", "broken3")
    nodes = pyinfra_on(dict.fromkeys([*joined, "fresh"], DUE), joined=joined, reboot_force=True)

    (first,) = {*rebooted} - {"fresh"}
    assert len(rebooted) == 2
    assert nodes.failed == {"broken1", "broken2", "broken3"}
    assert f"not rebooted, because of a problem on {first}: did not come back; fix" in caplog.text


def test_nodes_without_a_cluster_do_not_hold_each_other_up(
    pyinfra_on: Any, rebooted: list[str]
) -> None:
    nodes = pyinfra_on({"broken": DUE, "pi2": DUE, "pi5": DUE})

    assert sorted(rebooted) == ["broken", "pi2", "pi5"]
    assert nodes.failed == {"broken"}


def test_a_reboot_in_vain_refuses_the_node(
    pyinfra_on: Any, rebooted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = replace(DUE, rebooted=record(DUE), boot_id=OTHER_BOOT)

    nodes = pyinfra_on({"pi1": found, "pi2": DUE})

    assert nodes.failed == {"pi1"}
    assert nodes.operations("pi1") == ["Reboot | Refuse node"]
    assert "the kernel was started without" in caplog.text
    assert rebooted == ["pi2"]


def test_what_was_announced_before_a_reboot_in_vain_is_done(
    pyinfra_on: Any, rebooted: list[str], tmp_path: Path
) -> None:
    found = replace(DUE, rebooted=record(DUE), boot_id=OTHER_BOOT)

    nodes = pyinfra_on({"pi1": found, "pi2": DUE}, before=first, folder=str(tmp_path))

    count, refusal = nodes.operations("pi1")
    assert count == "First | Count first"
    assert refusal == "Reboot | Refuse node"
    assert nodes.changed("pi1") == [count]
    assert (tmp_path / "first").exists()
    assert nodes.failed == {"pi1"}


def test_a_new_word_reaches_the_file_and_is_rebooted_for(pyinfra_on: Any) -> None:
    noted = replace(DONE, rebooted=record(DUE))

    nodes = pyinfra_on({"pi1": noted}, executing=False, kernel_words=[*WANTED, "psi=1"])

    assert nodes.planned() == ["Reboot | Reboot node"]


def test_swap_that_can_still_be_turned_off_is_no_reboot_in_vain(
    pyinfra_on: Any,
) -> None:
    late = swap_state(areas=USED, available=0, units={"swapfile.swap": "generated"})
    noted = replace(DONE, rebooted={"swap": BOOT})

    nodes = pyinfra_on({"pi1": noted}, executing=False, swaps=late)

    assert nodes.planned() == ["Reboot | Reboot node"]


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (DONE, None),
        (replace(DUE, boot_id=OTHER_BOOT), "even after a reboot; /boot/firmware/cmdline.txt has"),
        (replace(FRESH, boot_id=OTHER_BOOT), "even after the reboot; run again"),
    ],
    ids=["well", "in vain", "file lost"],
)
def test_the_note_goes_when_the_reboot_brought_all(
    pyinfra_on: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    found: Cmdline,
    problem: str | None,
) -> None:
    nodes = {"pi1": DUE, "pi2": DONE}
    withdrawn = []

    def reboots(host: Any, before: Any, noted: dict[str, str], seconds: int) -> str:
        nodes["pi1"] = replace(found, rebooted=noted)
        return ""

    def withdraws(host: Any) -> str:
        withdrawn.append(host.name)
        return ""

    monkeypatch.setattr(reboot, "reboot_and_wait", reboots)
    monkeypatch.setattr(reboot, "remove_note", withdraws)

    run = pyinfra_on(nodes)

    assert withdrawn == ([] if problem else ["pi1"])
    assert run.failed == ({"pi1"} if problem else set())
    assert problem is None or problem in caplog.text


@dataclass
class Traffic:
    """The nodes that are down at the same time."""

    down: set[str] = field(default_factory=set)
    seen: list[set[str]] = field(default_factory=list)

    def pass_gate(self, gate: Gate, name: str, lane: Lane, joined: bool) -> None:
        with gate.turn("pi1", lane, joined):
            self.down.add(name)
            self.seen.append({*self.down})
            gevent.sleep(0.01)
            self.down.remove(name)


def test_turns_keep_to_the_batch_the_lanes_and_the_proxy_apart() -> None:
    gate, traffic = Gate(3), Traffic()
    nodes: list[tuple[str, Lane]] = [
        *((f"worker{n}", "") for n in range(5)),
        *((f"controller{n}", "controller") for n in range(3)),
        ("proxy", "proxy"),
        ("proxy2", "proxy"),
    ]

    # fewer places than nodes, as with pyinfra's --parallel
    pool = gevent.pool.Pool(6)
    for name, lane in nodes:
        pool.spawn(traffic.pass_gate, gate, name, lane, True)

    assert pool.join(timeout=60)
    assert max(len(down) for down in traffic.seen) == 3
    for down in traffic.seen:
        assert sum(name.startswith("controller") for name in down) <= 1
        if any(name.startswith("proxy") for name in down):
            assert len(down) == 1


def test_nodes_without_a_cluster_wait_for_nobody() -> None:
    gate, traffic = Gate(1), Traffic()

    gevent.joinall(
        [
            gevent.spawn(traffic.pass_gate, gate, f"pi{n}", lane, False)
            for n, lane in enumerate(("", "", "controller", "controller", "proxy"))
        ]
    )

    assert max(len(down) for down in traffic.seen) == 5


HELPER = "/tmp/pyinfra-sudo-askpass-x"


class Node:
    """A host that gives prepared answers, from a login shell that prints around them.

    ``None`` is no connection."""

    name = "pi1"
    client = None
    state = SimpleNamespace(print_output=False, print_input=False)
    executing_op_hash = nested_executing_op_hash = None
    print_prefix = "[pi1] "
    current_op_global_arguments = {"_sudo": True, "_if": None}  # noqa: RUF012

    def __init__(self, *looks: tuple[str, str] | Exception | None, refuse: str = "") -> None:
        self.connector_data = {"sudo_askpass_path__/tmp": HELPER, "prompted_sudo_password": "y"}
        self.connected = True
        self.connector = self
        self.said: list[str] = []
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self._looks = self._answers(looks)
        self._refuse = refuse
        self._new = False

    @staticmethod
    def _answers(looks: tuple[Any, ...]) -> Iterator[Any]:
        yield from looks
        while True:
            yield looks[-1]

    def connect(self) -> None:
        assert not self.connector_data["sudo_askpass_path__/tmp"]
        self._look = next(self._looks)
        self._new = True
        if self._look is None:
            raise ConnectError("Could not connect")

    def disconnect(self) -> None:
        assert not self.connector_data["sudo_askpass_path__/tmp"]

    def log(self, message: str) -> None:
        self.said.append(message)

    def run_shell_command(self, command: Any, **arguments: Any) -> tuple[bool, CommandOutput]:
        self.commands.append((str(command), arguments))
        if len(self.commands) == 1:
            lines = [OutputLine("stderr", self._refuse)] if self._refuse else []
            return not self._refuse, CommandOutput(lines)
        if not self._new:
            self._look = next(self._looks)
        self._new = False
        if self._look is None:
            raise EOFError
        if isinstance(self._look, Exception):
            raise self._look
        said = ["Welcome", f"chaos-engine {' '.join(self._look)}", "Good bye"]
        return True, CommandOutput([OutputLine("stdout", line) for line in said])

    def get_temp_dir_config(self) -> str:
        return "/tmp"


@pytest.fixture
def run_cycle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Restart a node, by a clock that only moves while somebody waits."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    waits = SimpleNamespace(sleep=sleep, Timeout=gevent.Timeout)
    monkeypatch.setattr(boot_cycle, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(boot_cycle, "gevent", waits)

    def run(node: Node, found: Cmdline = DUE, seconds: float = 60) -> str:
        host: Any = node
        return reboot_and_wait(host, found, {"swap": found.boot_id}, seconds)  # type: ignore[arg-type]

    return run


def test_a_node_is_back_when_another_boot_has_finished_its_start(run_cycle: Any) -> None:
    node = Node(
        (BOOT, "running"),
        (BOOT, "stopping"),
        None,
        ConnectionResetError("reset"),
        (OTHER_BOOT, "starting"),
        (OTHER_BOOT, "degraded"),
    )

    assert run_cycle(node) == ""
    assert node.connected
    assert node.said == ["Back after 6 s"]
    ordered, *looks = node.commands
    assert ordered[1] == {"print_output": False, "print_input": False, "_sudo": True}
    assert [arguments for _, arguments in looks] == [{}] * len(looks)
    assert node.connector_data["prompted_sudo_password"] == "y"


def test_a_node_with_an_untested_kernel_boots_twice(run_cycle: Any) -> None:
    third = "11111111-2222-4333-8444-555555555555"
    node = Node(
        None,
        (OTHER_BOOT, "running unknown"),
        (OTHER_BOOT, "stopping trying"),
        None,
        (third, "running trying"),
        (third, "running"),
    )

    assert run_cycle(node) == ""
    assert len(node.commands) == 6


def test_a_start_that_does_not_finish_is_not_awaited_for_ever(run_cycle: Any) -> None:
    node = Node(None, (OTHER_BOOT, "starting"))

    assert run_cycle(node, seconds=300) == ""
    assert node.said == ["Back after 64 s"]


def test_a_node_that_never_comes_back_is_rescued_on_another_computer(run_cycle: Any) -> None:
    problem = run_cycle(Node((BOOT, "stopping"), None), seconds=90)

    assert problem == (
        "the node did not come back within 90 s; look at the node's power supply and screen. If "
        "the node does not boot, switch it off and put its card into another computer. In the "
        "node's folder /boot/firmware, copy cmdline.txt.chaos-engine.bak over cmdline.txt. Then "
        "start the node and run again"
    )


def test_a_node_that_does_not_go_down_is_told_apart(run_cycle: Any) -> None:
    problem = run_cycle(Node((BOOT, "running")), seconds=90)

    assert problem == "the node did not shut down within 90 s; look at: systemctl list-jobs"


def test_a_node_that_refuses_the_order_is_not_awaited(run_cycle: Any) -> None:
    node = Node(None, refuse="somebody else has rebooted the node meanwhile; run again")

    assert run_cycle(node) == (
        "could not be rebooted: somebody else has rebooted the node meanwhile; run again"
    )
    assert len(node.commands) == 1


def test_a_reboot_is_noted_before_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "boot_id").write_text(BOOT + "\n")
    noted = tmp_path / "var/reboot"
    calls = f'systemd-run() {{ echo "$*"; cat {noted}; }}\n'.replace("systemd-run", "systemd_run")

    def run(boot_id: str) -> subprocess.CompletedProcess[str]:
        script = reboot_script(boot_id, {"cmdline-1": boot_id, "swap": BOOT})
        script = script.replace("/proc/sys/kernel/random", str(tmp_path))
        script = script.replace(RECORD, str(noted)).replace("systemd-run", "systemd_run")
        script = script.replace("/var/lib/chaos-engine", str(tmp_path / "var"))
        script = script.replace("/run/chaos-engine", str(tmp_path / "run"))
        return subprocess.run(["sh", "-c", calls + script], capture_output=True, text=True)

    done = run(BOOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"systemctl reboot\ncmdline-1 {BOOT}\nswap {BOOT}\n")

    noted.unlink()
    done = run(OTHER_BOOT)
    assert (done.returncode, done.stdout) == (1, "")
    assert "somebody else has rebooted" in done.stderr
    assert not noted.exists()


def test_the_note_is_removed_as_it_was_made() -> None:
    node, broken = Node(None), Node(None, refuse="Read-only file system")

    assert remove_note(node) == ""  # type: ignore[arg-type]
    ((command, arguments),) = node.commands
    assert f"rm -f -- {RECORD}; sync /var/lib/chaos-engine" in command
    assert arguments["_sudo"]
    assert remove_note(broken) == (  # type: ignore[arg-type]
        f"{RECORD} could not be removed: Read-only file system"
    )
