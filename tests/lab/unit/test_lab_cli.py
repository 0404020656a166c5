"""The lab's command line: what is passed on to the commands it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import cli, cluster, host
from tests.lab.plan import Plan, make


@pytest.fixture
def no_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Plan]:
    """Let `up` only remember what it was to bring up."""
    plans: list[Plan] = []
    monkeypatch.setenv("LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(host, "check", lambda: None)
    monkeypatch.setattr(host, "swaps", lambda: False)
    monkeypatch.setattr(cluster, "find", lambda name: None)
    monkeypatch.setattr(cluster, "up", plans.append)
    return plans


def test_up_without_options_is_the_default_lab(no_lab: list[Plan]) -> None:
    assert cli.main(["up"]) == 0
    assert no_lab == [make(name="lab")]


def test_up_takes_every_option(no_lab: list[Plan]) -> None:
    words = "--name mine up --workers pi2,pi5 --storage 1 --subnet 10.9.8.0/24 --suite forky"
    words += " --sudo-password pi5 --swap pi2 --legacy pi5 --like /disk --userland ubuntu26"
    words += " --card pi2=2G --card-speed poor"
    assert cli.main(words.split()) == 0
    assert no_lab == [
        make(
            name="mine",
            workers=("pi2", "pi5"),
            storage=("etcd1",),
            subnet="10.9.8.0/24",
            suite="forky",
            userland="ubuntu26",
            sudo_password=["pi5"],
            swap="pi2",
            legacy=["pi5"],
            like="/disk",
            card=["pi2=2G"],
            card_speed="poor",
        )
    ]


def test_no_active_swap_on_a_computer_that_swaps(
    no_lab: list[Plan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "swaps", lambda: True)
    assert cli.main(["up"]) == 0
    assert no_lab[0].swap == "none"
    assert cli.main(["up", "--swap", "pi1"]) == 1
    assert "--swap pi1" in capsys.readouterr().err


def test_of_two_labs_that_start_at_the_same_time_one_has_active_swap(no_lab: list[Plan]) -> None:
    assert cli.main(["--name", "first", "up"]) == 0
    assert cli.main(["--name", "second", "up"]) == 0
    assert [plan.swap for plan in no_lab] == ["pi1", "none"]
    assert cli.main(["--name", "third", "up", "--swap", "pi1"]) == 1


def test_a_running_lab_is_left_as_it_is(
    no_lab: list[Plan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = make(name="lab", workers=("pi3",), swap="none")
    monkeypatch.setattr(cluster, "find", lambda name: running)
    assert cli.main(["up"]) == 0
    assert cli.main(["up", "--workers", "pi3"]) == 0
    assert no_lab == [running, running]
    assert cli.main(["up", "--workers", "pi4"]) == 1
    assert "lab down" in capsys.readouterr().err


def test_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(host, "check", lambda: None)
    monkeypatch.setattr(cluster, "find", lambda name: None)
    assert cli.main(["power", "pi1", "cut"]) == 1
    assert capsys.readouterr().err.startswith("lab: no lab 'lab' is up")


@pytest.mark.parametrize("words", [["run", "--", "ssh", "-v", "pi1"], ["run", "ssh", "-v", "pi1"]])
def test_a_command_keeps_its_own_options(words: list[str]) -> None:
    assert cli._command(cli.parser().parse_args(words)) == ["ssh", "-v", "pi1"]


def test_exec_takes_a_node_and_a_command() -> None:
    options = cli.parser().parse_args(["exec", "pi1", "--", "sh", "-c", "exit 3"])
    assert options.node == "pi1"
    assert cli._command(options) == ["sh", "-c", "exit 3"]
