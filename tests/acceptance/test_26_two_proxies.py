"""Give the cluster a second proxy, lose the owner of the API's address, and go back to one proxy.

The controllers are pi1 and pi4 here, so that each proxy can be down while both controllers answer.
`make bench PARTS=failover` measures many of these failures, and other ones.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.cluster import proxy_faults as faults
from tests.cluster.failover import Seen, await_proxies, other, owner, owners, watched
from tests.cluster.joined import joined
from tests.cluster.lan_client import API, CLIENT
from tests.cluster.virtual_cluster import Cluster, limits, wait_for

FIRST, SECOND = PROXIES = ("pi5", "pi7")
CONTROLLERS = ("pi1", "pi4")
SITE = (*limits(PROXIES), "--data", f"chaos_controllers={json.dumps(CONTROLLERS)}")
DEPLOY = ("deploy.py", *SITE)
UNDO = ("chaos_engine.deploys.undo", "-y", "--limit", SECOND)
PART = ("--data", "chaos_undo=haproxy,vrrp,macvlan_network")
VERIFY = ("chaos_engine.deploys.verify", "-y", *SITE)


@pytest.fixture(scope="module")
def two(deployed: Cluster) -> Iterator[Cluster]:
    """Return the cluster with two proxies, and give it back with the one it had."""
    with joined(deployed, CONTROLLERS):
        deployed.proxies = PROXIES
        try:
            announced = deployed.announced(*DEPLOY)
            assert deployed.changed(*DEPLOY) == announced
            yield deployed
        finally:
            if deployed.proxies:  # a test has failed before the second one was removed
                deployed.pyinfra(*UNDO, *PART)
            deployed.proxies = ()
    deployed.changed("deploy.py")
    assert deployed.announced("deploy.py") == {}


def few_failed(seen: Seen) -> bool:
    """Tell whether a hand-over cut less than one request in a hundred.

    The nodes share their processors with other tests here. The benchmark counts each failure.
    """
    return len(seen.failures) < seen.requests / 100


def await_both(cluster: Cluster) -> None:
    """Wait until each proxy could have the address."""
    await_proxies(cluster, PROXIES, CONTROLLERS)


def test_the_second_run_changes_nothing(two: Cluster) -> None:
    await_both(two)
    assert two.announced(*DEPLOY) == {}


def test_verify_says_who_owns_the_address(two: Cluster) -> None:
    (owns,) = owners(two, PROXIES)
    assert owns == owner(two, PROXIES)
    found = two.pyinfra(*VERIFY).text
    assert "FAILED" not in found
    assert f"{owns} has 192.168.1.60" in found


def test_the_address_outlives_a_power_cut_of_its_owner(two: Cluster) -> None:
    owns = owner(two, PROXIES)
    standby = other(PROXIES, owns)
    with watched(two, [standby, CONTROLLERS[0]]) as seen, faults.power_cut(two, owns):
        assert owner(two, PROXIES) == standby
    print({place: seen.gap(place) for place in seen.beats})
    assert seen.worst < 3
    assert not seen.several_owners()
    await_both(two)
    # whoever owns the address keeps it
    assert owner(two, PROXIES) == standby


def test_an_owner_that_reaches_no_controller_gives_the_address_up(two: Cluster) -> None:
    await_both(two)
    owns = owner(two, PROXIES)
    standby = other(PROXIES, owns)
    with faults.cut_off(two, owns):
        wait_for(f"{standby} owns the address", lambda: owners(two, PROXIES) == [standby], 30)
        assert owner(two, PROXIES) == standby
    await_both(two)
    assert owner(two, PROXIES) == standby


@pytest.mark.parametrize("unit", ["docker", "haproxy_vrrp"])
def test_a_restart_hands_the_address_over(two: Cluster, unit: str) -> None:
    """Ubuntu restarts keepalived by itself after an update of its libraries (needrestart)."""
    for _ in PROXIES:
        await_both(two)
        owns = owner(two, PROXIES)
        with watched(two, [CONTROLLERS[0]]) as seen:
            two.exec(owns, f"systemctl restart {unit}")
            await_both(two)
        print(f"{owns}: {seen.requests} requests, the slowest took {seen.slowest} s")
        assert few_failed(seen), seen.failures
        assert seen.slowest < 3.5
        assert owner(two, PROXIES) != owns


def test_a_proxy_is_removed(two: Cluster) -> None:
    """Undo the second one's part, and deploy the first one as the only one."""
    await_both(two)
    with watched(two, [CONTROLLERS[0]]) as seen:
        two.pyinfra(*UNDO, *PART)
    assert few_failed(seen), seen.failures
    assert owners(two, PROXIES) == [FIRST]
    two.proxies = ()
    two.changed(*DEPLOY)
    assert two.announced(*DEPLOY) == {}
    assert not owners(two, PROXIES)
    # the only proxy's container is a machine of its own on the LAN
    answered = json.loads(two.run(sys.executable, CLIENT, "wait", API, "--seconds", "30").out)
    assert answered["through"] == API.partition(":")[0]
