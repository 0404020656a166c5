"""Kill pyinfra while a second proxy is added, and while one is removed.

Each run is killed at a point, and the next run at the next point. After each kill the API's address
answers soon, from one proxy, however long the next run lets wait for it. The last run goes to its
end, and the next one has nothing to change.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.cluster.failover import (
    LAN,
    await_proxies,
    owner,
    owners,
    stands_by,
    watched,
)
from tests.cluster.interruption import Killed, Met, Point, Stopped, Victim
from tests.cluster.joined import joined
from tests.cluster.lan_client import API, CLIENT
from tests.cluster.operations import (
    COPY,
    HAIRPIN,
    HAPROXY,
    IMAGE,
    KEEPALIVED,
    NETWORK,
    NO_VRRP,
    VRRP,
)
from tests.cluster.virtual_cluster import Cluster, limits, wait_for

FIRST, SECOND = PROXIES = ("pi5", "pi7")
CONTROLLERS = ("pi1", "pi4")
UNDO_HAPROXY, UNDO_VRRP, UNDO_NETWORK = "Undo HAProxy", "Undo VRRP", "Undo Proxy network"

SITE = ("--data", f"chaos_controllers={json.dumps(CONTROLLERS)}")
BOTH = ("deploy.py", *SITE, *limits(PROXIES))
ONE = ("deploy.py", *SITE, *limits([FIRST]))
NEW = ("deploy.py", *SITE, *limits([SECOND]))
UNDO = (
    "chaos_engine.deploys.undo",
    *("--limit", SECOND, "--data", "chaos_undo=haproxy,vrrp,macvlan_network"),
)

SECONDS = 3
"""Seconds without an answer at most."""
REPLACED = 10
"""Seconds at most if HAProxy's container was stopped, killed or replaced on one of the proxies."""

_UNIT = "docker_haproxy.service"
_SCRIPT = "/usr/sbin/haproxy_several.sh"
_STAYS = 5
"""Seconds for which the address is watched after the end of all work."""
_IDLE = "[ ! -e /run/chaos-engine/lock ] || flock -n /run/chaos-engine/lock true"


@dataclass(frozen=True)
class Cut:
    """A run is killed at a point of a node's part.

    + crash: the node's container is killed then, before the next run
    """

    node: str
    point: Point
    crash: bool = False

    def __str__(self) -> str:
        """Return the point in words, for the table that the tests print."""
        at = self.point
        if isinstance(at, Killed):
            words = f"{at.operation}: {at.moment}"
        elif isinstance(at, Stopped):
            words = f"command killed before {at.program} {at.words}"
        else:
            words = f"command killed when {at}"
        return f"{self.node}: {words}{', then its container' if self.crash else ''}"


def state(of: str) -> Met:
    """Return the point where HAProxy's unit gets into a state. The remote command is killed too."""
    return Met(f'[ "$(systemctl is-active {_UNIT})" = {of} ]', "KILL")


BECOMING_ONE_OF_SEVERAL = [
    Cut(FIRST, Killed(KEEPALIVED, "before")),
    Cut(FIRST, Killed(KEEPALIVED, "sent")),
    Cut(FIRST, Killed(VRRP, "before")),
    Cut(FIRST, Killed(VRRP, "half")),
    Cut(FIRST, Stopped("mv", " /etc/keepalived/chaos-engine.conf$", "KILL")),
    Cut(FIRST, Stopped("systemctl", "^start -- haproxy_vrrp", "KILL")),
    Cut(FIRST, Met("systemctl is-active haproxy_vrrp", "KILL")),
    Cut(FIRST, Killed(HAPROXY, "before")),
    Cut(FIRST, Killed(HAPROXY, "half")),
    Cut(FIRST, Stopped("docker", "^run --rm ", "KILL")),
    Cut(FIRST, Stopped("mv", f" {_SCRIPT}$", "KILL")),
    Cut(FIRST, Stopped("mv", f"/{_UNIT}$", "KILL")),
    Cut(FIRST, Stopped("systemctl", "^daemon-reload", "KILL")),
    Cut(FIRST, Stopped("systemctl", f"^restart -- {_UNIT}", "KILL")),
    Cut(FIRST, state("deactivating")),
]

ADDING = [
    Cut(SECOND, Killed(NETWORK, "before")),
    Cut(SECOND, Killed(NETWORK, "sent")),
    Cut(SECOND, Killed(KEEPALIVED, "before")),
    Cut(SECOND, Killed(KEEPALIVED, "after")),
    Cut(SECOND, Killed(VRRP, "before")),
    Cut(SECOND, Killed(VRRP, "half")),
    Cut(SECOND, Stopped("mv", " /etc/keepalived/chaos-engine.conf$", "KILL")),
    Cut(SECOND, Stopped("systemctl", "^start -- haproxy_vrrp", "KILL")),
    Cut(SECOND, Killed(VRRP, "after")),
    Cut(SECOND, Killed(HAIRPIN, "sent")),
    Cut(SECOND, Killed(IMAGE, "sent")),
    Cut(SECOND, Killed(HAPROXY, "before")),
    Cut(SECOND, Killed(HAPROXY, "half")),
    Cut(SECOND, Stopped("docker", "^run --rm ", "KILL")),
    Cut(SECOND, Stopped("mv", f" {_SCRIPT}$", "KILL")),
    Cut(SECOND, Stopped("mv", f"/{_UNIT}$", "KILL")),
    Cut(SECOND, Stopped("systemctl", f"^start -- {_UNIT}", "KILL")),
    Cut(SECOND, state("activating")),
    Cut(SECOND, Killed(COPY, "sent")),
]

REMOVING = [
    Cut(SECOND, Killed(UNDO_HAPROXY, "before")),
    Cut(SECOND, Stopped("systemctl", f"^stop -- {_UNIT}", "KILL")),
    Cut(SECOND, state("deactivating")),
    Cut(SECOND, Stopped("systemctl", f"^disable -- {_UNIT}", "KILL")),
    Cut(SECOND, Stopped("docker", "^image rm ", "KILL")),
    Cut(SECOND, Stopped("rm", " /usr/sbin/haproxy_start.sh$", "KILL")),
    Cut(SECOND, Killed(UNDO_HAPROXY, "sent")),
    Cut(SECOND, Killed(UNDO_VRRP, "before")),
    Cut(SECOND, Stopped("systemctl", "^stop -- haproxy_vrrp", "KILL")),
    Cut(SECOND, Stopped("rm", "/etc/keepalived/chaos-engine.conf$", "KILL")),
    Cut(SECOND, Killed(UNDO_VRRP, "sent")),
    Cut(SECOND, Stopped("docker", "^network rm ", "KILL")),
    Cut(SECOND, Killed(UNDO_NETWORK, "after")),
]

BECOMING_THE_ONLY_ONE = [
    Cut(FIRST, Killed(HAPROXY, "before")),
    Cut(FIRST, Killed(HAPROXY, "half")),
    Cut(FIRST, Stopped("sleep", "^0.1$", "KILL")),
    Cut(FIRST, Stopped("mv", f"/{_UNIT}$", "KILL")),
    Cut(FIRST, Stopped("systemctl", "^daemon-reload", "KILL"), crash=True),
    Cut(FIRST, Stopped("systemctl", f"^restart -- {_UNIT}", "KILL"), crash=True),
    Cut(FIRST, Killed(NO_VRRP, "before")),
    Cut(FIRST, Stopped("systemctl", "^(stop|disable) .*haproxy_vrrp", "KILL")),
    Cut(FIRST, Stopped("rm", "/etc/keepalived/chaos-engine.conf$", "KILL")),
    Cut(FIRST, Stopped("rm", f" {_SCRIPT}$", "KILL")),
    Cut(FIRST, Killed(NO_VRRP, "after")),
]


@pytest.fixture(scope="module")
def site(deployed: Cluster) -> Iterator[Cluster]:
    """Return a cluster with one proxy and two controllers, and give it back with one proxy."""
    with joined(deployed, CONTROLLERS):
        deployed.changed(*ONE)
        without_keepalived(deployed, FIRST)
        try:
            yield deployed
        finally:
            deployed.proxies = PROXIES
            deployed.pyinfra(*UNDO, "-y", ok=False)
            deployed.proxies = ()
    deployed.changed("deploy.py")
    assert deployed.announced("deploy.py") == {}


def killed(cluster: Cluster, run: tuple[str, ...], cut: Cut) -> None:
    """Kill a run at a point. Watch the address until nothing is at work on the proxies any more.

    It is watched long enough to see that an owner's address, which ends after 3 s, is renewed.
    """
    victim = Victim(cluster, cut.node, run)
    before = containers(cluster)
    with watched(cluster, []) as seen:
        victim.interrupt(cut.point)
        if cut.crash:
            await_idle(cluster)
            cluster.exec(cut.node, "docker kill lb-haproxy")
        began = time.time()
        await_idle(cluster)
        ended = time.time()
        wait_for("a look at what stays", lambda: time.time() > ended + _STAYS, 2 * _STAYS)
        name, chosen = who_answers(cluster), owners(cluster, PROXIES)
    replaced = containers(cluster) != before
    print(
        f"{cut}: {seen.gap(LAN):.2f} s without an answer, {len(seen.failures)} of {seen.requests} "
        f"requests failed; idle {ended - began:.1f} s later; {name} answers, chosen: {chosen}; "
        f"{len(seen.owners['none'])} and {len(seen.several_owners())} of {seen.owners['asked']} "
        "ARP requests had no answer and several",
        flush=True,
    )
    assert seen.gap(LAN) < (REPLACED if replaced else SECONDS)
    assert chosen in ([], [name])
    settled = ended + _STAYS - 2
    assert not [at for at in seen.owners["none"] if seen.owners["began"] + at > settled]
    assert not seen.several_owners(since=settled)
    # A container that comes back may find that another proxy has taken the address over
    assert cut.crash or not seen.several_owners()


def without_keepalived(cluster: Cluster, node: str) -> None:
    """Remove keepalived from a node, as on a fresh one. It stays where it was needed once."""
    cluster.exec(node, "DEBIAN_FRONTEND=noninteractive apt-get -yq purge keepalived")


def await_idle(cluster: Cluster) -> None:
    """Wait until no script and no job of systemd is at work on the proxies."""
    for node in PROXIES:
        wait_for(f"{node}: nothing at work", partial(idle, cluster, node), 180)


def containers(cluster: Cluster) -> list[str]:
    """Return the identifiers of HAProxy's containers that run on the proxies."""
    return [cluster.exec(node, "docker ps -q -f name=lb-haproxy", ok=False) for node in PROXIES]


def idle(cluster: Cluster, node: str) -> bool:
    """Tell whether no script and no job of systemd is at work on a proxy."""
    jobs = "! systemctl list-jobs --no-legend | grep -q haproxy"
    return bool(cluster.exec(node, f"{{ {_IDLE}; }} && {jobs} && echo yes", ok=False))


def who_answers(cluster: Cluster) -> str:
    """Return the proxy that answers. One that has its address for itself is the first one here."""
    command = (sys.executable, CLIENT, "wait", API, "--seconds", str(REPLACED))
    found = json.loads(cluster.run(*command).out)
    assert found["answered"], f"the address is lost: {found}"
    names = {cluster.address(node): node for node in PROXIES}
    return {**names, API.partition(":")[0]: FIRST}[found["through"]]


def to_its_end(cluster: Cluster, run: tuple[str, ...]) -> None:
    """Do a run to its end. The next one has nothing to change."""
    cluster.changed(*run)
    assert cluster.announced(*run) == {}


def test_the_address_stays_while_the_only_proxy_becomes_one_of_several(site: Cluster) -> None:
    site.proxies = PROXIES
    for cut in BECOMING_ONE_OF_SEVERAL:
        killed(site, BOTH, cut)
    to_its_end(site, BOTH)
    await_proxies(site, PROXIES, CONTROLLERS)


def test_the_address_stays_while_a_proxy_is_removed(site: Cluster) -> None:
    for cut in REMOVING:
        if stands_by(site, SECOND, CONTROLLERS) and owner(site, PROXIES) == FIRST:
            site.exec(FIRST, f"systemctl restart {_UNIT}")
            await_proxies(site, PROXIES, CONTROLLERS)
            assert owner(site, PROXIES) == SECOND
        killed(site, UNDO, cut)
    site.pyinfra(*UNDO, "-y")


def test_the_address_stays_while_a_proxy_becomes_the_only_one(site: Cluster) -> None:
    site.proxies = ()
    for cut in BECOMING_THE_ONLY_ONE:
        killed(site, ONE, cut)
    to_its_end(site, ONE)


def test_the_address_stays_while_another_node_becomes_a_proxy(site: Cluster) -> None:
    without_keepalived(site, SECOND)
    site.proxies = PROXIES
    for cut in ADDING:
        killed(site, NEW, cut)
    to_its_end(site, NEW)


def test_a_container_that_comes_back_meanwhile_gives_way(site: Cluster) -> None:
    """The new proxy has taken the address over in between."""
    # keepalived waits on both then, and the next part of systemd's to be killed is HAProxy's
    killed(site, BOTH, Cut(FIRST, Killed(HAPROXY, "before")))
    killed(site, BOTH, Cut(FIRST, Stopped("systemctl", "^daemon-reload", "KILL"), crash=True))
    assert owner(site, PROXIES) == SECOND
    to_its_end(site, BOTH)
    await_proxies(site, PROXIES, CONTROLLERS)
    assert owner(site, PROXIES) == SECOND


def test_points_are_enough() -> None:
    assert len([*BECOMING_ONE_OF_SEVERAL, *ADDING]) >= 20
    assert len([*REMOVING, *BECOMING_THE_ONLY_ONE]) >= 20
