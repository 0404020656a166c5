"""Test security updates: what apt says of them, what is decided, and when a node reboots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos_engine.deploys import updates as deploy
from chaos_engine.facts.apt import Interrupted
from chaos_engine.facts.kernel import Cmdline, KernelCmdline
from chaos_engine.facts.observe import NodeError
from chaos_engine.facts.standing import StandingState
from chaos_engine.facts.updates import (
    RebootNeed,
    RebootNeedState,
    SecurityUpdates,
    Update,
    Updates,
    kind_of,
)
from chaos_engine.operations import updates as module
from chaos_engine.operations.rolling import cordon, turns
from chaos_engine.operations.updates import (
    SPARE_MIB,
    causes,
    check_updates,
    compose,
    in_vain,
    new_kernels,
    warnings,
)
from tests.unit.nodes import Nodes
from tests.unit.test_kernel import BOOT, cmdline

POCKET = ("http://deb.debian.org/debian-security", "trixie-security")
SSL = Update("libssl3t64", "3.5.1-1", "3.5.1-1+deb13u1")
ABI = Update("linux-image-6.12.48+deb13-arm64", "", "6.12.48-1")
META = Update("linux-image-arm64", "6.12.43-1", "6.12.48-1")
FOUND = Updates(
    updates=(SSL, META),
    others=(ABI,),
    held=(Update("docker.io", "26.1.5", "26.1.6"),),
    left_out={"needy": "it would remove victim"},
    pockets=(POCKET,),
    needs=100,
    free=1000,
)
NONE = Updates(pockets=(POCKET,))
RUNNING = RebootNeedState("6.12.43+deb13-arm64", ("6.12.43+deb13-arm64",))
NEWER = replace(RUNNING, installed=("6.12.43+deb13-arm64", "6.12.48+deb13-arm64"))
ASKED = replace(RUNNING, required=True, packages=("dbus", "libc6"))

SAID = [  # of a node with apt 3.0
    "pocket http://deb.debian.org/debian-security trixie-security/main arm64 Packages",
    "pocket http://deb.debian.org/debian-security trixie-security/contrib arm64 Packages",
    "security libssl3t64 3.5.1-1 3.5.1-1+deb13u1",
    "held docker.io 26.1.5 26.1.6",
    "security linux-image-arm64 6.12.43-1 6.12.48-1",
    "security needy 1.0 1.1",
    "left needy it would remove victim",
    "Inst libssl3t64 [3.5.1-1] (3.5.1-1+deb13u1 Debian-Security:13/stable-security [arm64])",
    "Inst linux-image-6.12.48+deb13-arm64 (6.12.48-1 Debian-Security:13/stable-security [arm64])",
    "Inst linux-image-arm64 [6.12.43-1] (6.12.48-1 Debian-Security:13/stable-security, "
    "Debian:13.2/stable [arm64]) []",
    "size 40960 30720 30720",
    "free 1024000",
]


def test_what_apt_says_is_sorted() -> None:
    assert SecurityUpdates().parse(SAID) == FOUND


def test_a_node_without_apts_answer_has_no_updates() -> None:
    assert SecurityUpdates().parse([]) == Updates()


def test_a_line_of_unknown_form_is_no_answer() -> None:
    with pytest.raises(ValueError, match="libssl3t64"):
        SecurityUpdates().parse(["Inst libssl3t64"])


@pytest.mark.parametrize(
    ("release", "kind"),
    [
        ("6.12.43+deb13-arm64", "arm64"),
        ("6.12.43+deb13+1-cloud-amd64", "cloud-amd64"),
        ("6.1.0-37-rt-arm64", "rt-arm64"),
        ("6.12.34+rpt-rpi-2712", "rpi-2712"),
        ("6.8.0-1031-raspi", "raspi"),
        ("6.18.44", ""),
    ],
)
def test_the_kind_of_a_kernel_is_what_follows_its_version(release: str, kind: str) -> None:
    assert kind_of(release) == kind


@pytest.mark.parametrize(
    ("running", "installed", "newer"),
    [
        ("6.8.0-999-raspi", ["6.8.0-999-raspi", "6.8.0-1031-raspi"], "6.8.0-1031-raspi"),
        ("6.8.0-1031-raspi", ["6.8.0-999-raspi", "6.8.0-1031-raspi"], ""),
        ("6.12.34+rpt-rpi-v8", ["6.12.34+rpt-rpi-v8", "6.12.47+rpt-rpi-2712"], ""),
        ("6.1.0-9-arm64", ["6.1.0-10-arm64", "6.1.0-37-arm64"], "6.1.0-37-arm64"),
    ],
)
def test_only_a_newer_kernel_of_the_same_kind_is_missing(
    running: str, installed: list[str], newer: str
) -> None:
    lines = [f"running {running}", *(f"installed {one}" for one in installed)]
    assert RebootNeed().parse(lines).newer_kernel == newer


def test_packages_that_ask_for_a_reboot_are_named() -> None:
    lines = ["running 6.12.43+deb13-arm64", "required", "package libc6", "package dbus"]
    found = RebootNeed().parse([*lines, "package libc6"])
    assert causes(found) == {"reboot-required": "dbus, libc6 asks for it"}


def test_a_reboot_for_a_kernel_is_made_once() -> None:
    reasons = causes(NEWER)
    (cause,) = reasons
    assert reasons[cause].startswith("the kernel 6.12.48+deb13-arm64 is installed, but 6.12.43")
    assert in_vain(reasons, cmdline()) == {}
    assert in_vain(reasons, cmdline(rebooted={cause: BOOT})) == {}
    assert in_vain(reasons, cmdline(rebooted={cause: "other"})) == reasons
    asked = causes(ASKED)
    assert in_vain(asked, cmdline(rebooted=dict.fromkeys(asked, "other"))) == {}


def test_a_kernel_is_announced_if_it_replaces_the_running_one() -> None:
    same = Update("linux-image-6.12.43+deb13-arm64", "6.12.43-1", "6.12.43-2")
    other = Update("linux-image-6.12.48+deb13-cloud-arm64", "", "6.12.48-1")
    assert new_kernels(FOUND, RUNNING) == [ABI.name]
    assert new_kernels(Updates(updates=(same,), others=(other,)), RUNNING) == [same.name]
    assert "ask_for_reboot" not in compose(FOUND, "", RUNNING.running).splitlines()[-1]
    asks = compose(Updates(updates=(same,)), "", RUNNING.running).splitlines()[-1]
    assert asks == f"ask_for_reboot {same.name}"


def test_a_source_without_security_updates_may_be_away() -> None:
    said = ("Failed to fetch http://other/dists/x/InRelease  Connection refused",)
    found = replace(FOUND, said=said)
    check_updates(found)
    assert f"not all package lists could be fetched: {said[0]}" in [*warnings(found)]


@pytest.mark.parametrize(
    "message",
    [
        "Failed to fetch http://deb.debian.org/debian-security/dists/trixie-security/InRelease  x",
        "GPG error: http://deb.debian.org/debian-security trixie-security InRelease: x",
        "Release file for http://deb.debian.org/debian-security/dists/trixie-security/InRelease "
        "is not valid yet (invalid for another 3h 2min 1s).",
        "Write error - write (28: No space left on device)",
    ],
)
def test_a_pocket_that_is_away_is_an_error(message: str) -> None:
    with pytest.raises(NodeError) as error:
        check_updates(replace(FOUND, said=("Some index files failed to download.", message)))
    assert f"apt says: {message.rstrip('.')}. Fix" in str(error.value)


def test_what_does_not_fit_is_refused_before_it_begins() -> None:
    check_updates(replace(FOUND, free=100 + SPARE_MIB))
    with pytest.raises(NodeError, match="need 150 MiB on /, but only 149 MiB are free"):
        check_updates(replace(FOUND, free=99 + SPARE_MIB))
    check_updates(replace(FOUND, free=0), damaged=True)


def test_packages_that_stay_are_named() -> None:
    pinned = replace(FOUND, pinned=(Update("curl", "8.1", "8.2"),))
    held, pin, left = warnings(pinned)
    assert held.startswith(
        "these packages are on hold, so they are not updated: docker.io 26.1.5 ->"
    )
    assert pin == "a pin in /etc/apt keeps these packages at their version: curl 8.1 -> 8.2"
    assert left == (
        "needy is not updated: it would remove victim; update it yourself: apt-get install needy"
    )
    assert len([*warnings(pinned, damaged=True)]) == 2


Answers = dict[type, Any]


class Run:
    """A run of the deploy on nodes that answer as given. A script of updates empties the list."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.answers: dict[str, Answers] = {}
        self.joined: set[str] = set()
        self.scripts: list[tuple[str, str]] = []
        self.reboots: list[tuple[str, tuple[str, ...]]] = []
        self.after: RebootNeedState = RUNNING
        """What a node needs after its updates."""

    def __call__(
        self, nodes: dict[str, Answers], execute: bool = True, joined: bool = False, **data: Any
    ) -> Nodes:
        usual: Answers = {
            SecurityUpdates: FOUND,
            RebootNeed: RUNNING,
            KernelCmdline: cmdline(),
            Interrupted: (),
        }
        self.answers = {name: {**usual, **own} for name, own in nodes.items()}
        self.joined = {*nodes} if joined else set()
        for place in (module, turns):
            self.patch.setattr(place, "observe", self.observe)
        self.patch.setattr(cordon, "read_standing", lambda host: self.standing(host.name))
        self.patch.setattr(module, "perform", self.perform)
        self.patch.setattr(module, "reboot_and_wait", self.reboot)
        self.patch.setattr(module, "remove_note", lambda host: "")
        self.patch.setattr(module, "LocalConnector", int)
        self.patch.setattr("chaos_engine.deploys.concern.gather", lambda: None)
        self.patch.setattr("chaos_engine.deploys.concern.observe", lambda fact: True)
        keys = {f"chaos_{key}": value for key, value in data.items()}
        run = Nodes(*nodes, data={"chaos_nodes": {}, **keys})
        run.prepare(deploy)
        if execute:
            run.execute()
        return run

    def standing(self, name: str) -> StandingState:
        return StandingState(joined=name in self.joined)

    def observe(self, fact: type, **arguments: Any) -> Any:
        name = module.current()[1].name
        own = self.answers[name]
        return own[fact] if fact in own else self.standing(name)

    def perform(self, command: Any, state: Any, host: Any) -> str:
        script = command.get_raw_value()
        self.scripts.append((host.name, script))
        if "broken" in host.name:
            return "No space left on device"
        if "install_updates libssl3t64=" in script:
            self.answers[host.name] |= {SecurityUpdates: NONE, RebootNeed: self.after}
        else:
            self.answers[host.name] |= {Interrupted: ()}
        return ""

    def reboot(self, host: Any, found: Cmdline, noted: dict[str, str], seconds: int) -> str:
        self.reboots.append((host.name, tuple(noted)))
        need = self.answers[host.name][RebootNeed]
        running = need.newer_kernel or need.running
        self.answers[host.name][RebootNeed] = RebootNeedState(running, need.installed)
        return ""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


def test_the_preview_lists_packages_and_versions(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    nodes = run({"pi1": {}, "pi2": {SecurityUpdates: NONE}}, execute=False)

    assert nodes.planned("pi1") == ["Security updates | Install security updates"]
    assert nodes.planned("pi2") == []
    for line in (
        "update libssl3t64 3.5.1-1 -> 3.5.1-1+deb13u1",
        "update linux-image-arm64 6.12.43-1 -> 6.12.48-1",
        "install linux-image-6.12.48+deb13-arm64 6.12.48-1, which the updates need",
        "reboot, for the new kernel linux-image-6.12.48+deb13-arm64",
        "docker.io 26.1.5 -> 26.1.6",
        "needy is not updated: it would remove victim",
    ):
        assert line in caplog.text
    assert run.scripts == []
    assert run.reboots == []


def test_a_node_is_updated_and_rebooted_for_its_kernel(run: Run) -> None:
    run.after = NEWER
    nodes = run({"pi1": {}})

    assert not nodes.failed
    ((_, script),) = run.scripts
    assert "install_updates libssl3t64=3.5.1-1+deb13u1 linux-image-arm64=6.12.48-1\n" in script
    assert run.reboots == [("pi1", ("kernel-6.12.48+deb13-arm64",))]


def test_a_node_that_needs_no_reboot_has_none(run: Run) -> None:
    nodes = run({"pi1": {}})
    assert len(run.scripts) == 1
    assert run.reboots == []
    assert not nodes.failed


def test_a_reboot_that_an_earlier_run_did_not_make_is_made(run: Run) -> None:
    run({"pi1": {SecurityUpdates: NONE, RebootNeed: ASKED}, "pi2": {SecurityUpdates: NONE}})
    assert run.scripts == []
    assert run.reboots == [("pi1", ("reboot-required",))]


def test_a_kernel_that_does_not_boot_is_warned_of_and_not_booted_again(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    found = cmdline(rebooted={"kernel-6.12.48+deb13-arm64": "other"})
    run.after = NEWER
    nodes = run({"pi1": {RebootNeed: NEWER, KernelCmdline: found}})

    assert not nodes.failed
    assert len(run.scripts) == 1
    assert run.reboots == []
    assert "6.12.43+deb13-arm64 runs, even after a reboot; find out why" in caplog.text


def test_an_interrupted_installation_is_finished_first(run: Run) -> None:
    nodes = run({"pi1": {Interrupted: ("libc6",)}})

    assert not nodes.failed
    first, second = (script for _, script in run.scripts)
    assert "install_updates" not in first
    assert "install_updates libssl3t64=" in second


def test_an_interrupted_installation_without_updates_is_finished(run: Run) -> None:
    nodes = run({"pi1": {Interrupted: ("libc6",), SecurityUpdates: NONE}})
    assert nodes.changed() == ["Security updates | Install security updates"]
    assert len(run.scripts) == 1


def test_a_node_of_a_cluster_without_kubeconfig_is_not_rebooted(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run.after = NEWER
    nodes = run({"pi1": {}}, joined=True)

    assert not nodes.failed
    assert len(run.scripts) == 1
    assert run.reboots == []
    assert "chaos_kubeconfig is not set, so nodes that have joined" in caplog.text
    assert "a reboot is pending: the kernel 6.12.48+deb13-arm64 is installed" in caplog.text
    assert "set chaos_reboot_force" in caplog.text
    run({"pi1": {}}, joined=True, reboot_force=True)
    assert [name for name, _ in run.reboots] == ["pi1"]


def test_after_a_failure_no_further_node_of_the_cluster_is_updated(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    nodes = run(
        {"broken1": {}, "broken2": {}, "pi3": {SecurityUpdates: NONE}}, joined=True, rolling_batch=1
    )

    ((tried, _),) = run.scripts
    assert nodes.failed == {"broken1", "broken2"}
    assert f"not updated, because of a problem on {tried}: No space left" in caplog.text


def test_a_failure_of_apt_is_no_reason_to_reboot(run: Run) -> None:
    nodes = run({"broken": {RebootNeed: ASKED}, "pi2": {SecurityUpdates: NONE}})
    assert nodes.failed == {"broken"}
    assert run.reboots == []


def test_nothing_to_do_is_no_change(run: Run) -> None:
    nodes = run({"pi1": {SecurityUpdates: NONE}})
    assert nodes.changed() == []
    assert run.scripts == []
