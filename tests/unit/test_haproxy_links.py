"""Test how several proxies own the address in turn: the start script, in network namespaces."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.lan import Lan, lan, wait

pytestmark = pytest.mark.skipif(
    subprocess.run(
        ["unshare", "--net", "ip", "link", "add", "type", "veth"],
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode
    != 0
    or not shutil.which("nsenter"),
    reason="only root has network namespaces of its own",
)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Lan]:
    with lan(tmp_path) as made:
        yield made


def test_only_the_owner_answers(two: Lan) -> None:
    one, other = two.proxies
    assert two.who().startswith("error: ")
    one.elect()
    assert (two.who(), one.up(), other.up()) == ("p1", True, False)
    other.elect()
    one.dismiss()
    assert (two.who(), one.up(), other.up()) == ("p2", False, True)
    assert (one.root / "run/down").read_text() == "0\n"


def test_the_address_moves_without_a_request_lost(two: Lan) -> None:
    one, other = two.proxies
    one.elect()
    with two.asking(2) as answers:
        old = threading.Thread(target=one.dismiss)
        old.start()
        other.elect()
        old.join()
    assert {new for new, _, _ in answers} == {"p1", "p2"}
    assert answers[-1][0] == "p2"
    assert max(took for _, _, took in answers) < 1


def test_an_address_that_nobody_renews_goes(two: Lan) -> None:
    """So it is on a node that is frozen."""
    one, _ = two.proxies
    one.elect()
    assert "valid_lft 4sec" in one.address()
    time.sleep(2)
    assert one.call("alive") == 0
    assert "valid_lft 4sec" in one.address()
    wait(lambda: not one.address())
    assert two.who().startswith("error: ")
    assert one.call("alive") == 0
    assert two.who() == "p1"


def test_a_standby_is_asked_without_a_change(two: Lan) -> None:
    one, _ = two.proxies
    assert one.call("alive") == 0
    assert not one.up()
    assert one.call("follow") == 0
    assert not one.up()


def test_a_container_that_is_gone_is_not_alive(two: Lan) -> None:
    one, _ = two.proxies
    one.elect()
    one.end()
    assert one.call("alive") != 0
    assert one.call("hand-over") == 0
    assert (one.root / "run/down").read_text() == "50\n"
    assert one.call("follow") != 0
    assert one.call("ended") == 0
    assert one.call("follow") == one.call("hand-over") == 0
    assert one.call("alive") != 0


def test_a_new_container_of_the_owner_gets_the_address(two: Lan) -> None:
    one, _ = two.proxies
    one.elect()
    one.end()
    one.start()
    assert two.who() == "p1"
    assert (one.root / "run/down").read_text() == "0\n"
