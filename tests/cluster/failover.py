"""Watch the API's address from several places while it moves from one proxy to another.

At each place a client makes 50 requests a second, each on a connection of its own, and notes when
it was answered, and through which proxy. Beside them the computer on the LAN asks 20 times a second
by ARP who has the address: how many machines answer tells how many proxies own it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from tests.cluster.faults import NOBODY
from tests.cluster.lan_client import API, CLIENT, CONTROLLERS, Json, client
from tests.cluster.virtual_cluster import Cluster, wait_for

PACE = 50
"""Requests in a second at each place."""
TIMEOUT = 5
"""Seconds after which a connection, a handshake or an answer has failed."""
LAN = "the LAN"

_ARPING = "tests/cluster/arping.py"
_VIP = API.partition(":")[0]
_ADMIN = "/run/chaos-engine/haproxy/socket/admin.sock"
_STANDS_BY = (
    "systemctl is-active --quiet docker_haproxy.service haproxy_vrrp.service && "
    'test "$(cat /run/chaos-engine/haproxy/down)" = 0 && haproxy_several.sh alive && '
    f"echo show stat | nc -NU {_ADMIN}"
)


@dataclass
class Seen:
    """What was seen while the address was watched. Times are in seconds since 1970.

    + beats: what became of the requests (`api_client.beats`), by place
    + owners: how many machines had the address (`arping.watch`)
    """

    beats: dict[str, Json] = field(default_factory=dict)
    owners: Json = field(default_factory=dict)

    def gap(self, place: str) -> float:
        """Return the longest time without an answer, in seconds."""
        return float(self.beats[place]["gap"]["seconds"])

    @property
    def worst(self) -> float:
        """Return the longest time without an answer at any place, in seconds."""
        return max(self.gap(place) for place in self.beats)

    @property
    def requests(self) -> int:
        """Return how many requests were made at all places."""
        return sum(int(each["count"]) for each in self.beats.values())

    @property
    def failures(self) -> list[str]:
        """Return the reasons of requests that failed, with their places and times."""
        return [
            f"{place}, {each['began'] + one['at']:.2f}: {one['reason']}"
            for place, each in self.beats.items()
            for one in each["failed"]
        ]

    @property
    def slowest(self) -> float:
        """Return how long the slowest answer took, in seconds."""
        return max(float(one["took"]) for each in self.beats.values() for one in each["answered"])

    def several_owners(self, since: float = 0, until: float = float("inf")) -> list[float]:
        """Return when more than one machine answered for the address, in a time."""
        times = (self.owners["began"] + at for at in self.owners["several"])
        return [time for time in times if since <= time < until]

    def through(self, place: str, since: float = 0) -> set[str]:
        """Return the addresses of the proxies that answered requests which began after a time."""
        beats = self.beats[place]
        return {one["through"] for one in beats["answered"] if beats["began"] + one["at"] >= since}


@contextmanager
def watched(cluster: Cluster, nodes: Collection[str], *, lan: bool = True) -> Iterator[Seen]:
    """Watch the address from the LAN and from nodes while the ``with`` block lasts.

    The block begins when each place has had an answer.
    """
    seen = Seen()
    arguments = ("beats", API, "--pace", str(PACE), "--patience", "0", "--timeout", str(TIMEOUT))
    places: dict[str, str | None] = {LAN: None} if lan else {}
    places |= {node: node for node in nodes}
    with ExitStack() as stack:
        clients = {
            place: stack.enter_context(client(cluster, *arguments, node=node))
            for place, node in places.items()
        }
        who = stack.enter_context(
            client(cluster, _VIP, "--watch", "--sender", NOBODY, program=_ARPING)
        )
        for each in clients.values():
            each.until("answered")
        yield seen
        with ThreadPoolExecutor(len(clients)) as pool:
            reports = pool.map(lambda each: each.stop(), clients.values())
            seen.beats = dict(zip(clients, reports, strict=True))
        seen.owners = who.stop()


def owner(cluster: Cluster, proxies: Collection[str]) -> str:
    """Return the proxy that answers a request from the LAN."""
    found = json.loads(cluster.run(sys.executable, CLIENT, "wait", API, "--seconds", "60").out)
    assert found["answered"], found
    return name_of({node: cluster.address(node) for node in proxies}, found["through"])


def name_of(addresses: Mapping[str, str], address: str) -> str:
    """Return the name of the node with this address."""
    names = [name for name, known in addresses.items() if known == address]
    assert names, f"no proxy has the address {address}: {dict(addresses)}"
    return names[0]


def other(proxies: Collection[str], node: str) -> str:
    """Return the first proxy that is not this one."""
    return next(name for name in proxies if name != node)


def stands_by(cluster: Cluster, node: str, controllers: Collection[str] = CONTROLLERS) -> bool:
    """Tell whether a proxy could take the address: its HAProxy answers and knows who is up."""
    shown = cluster.exec(node, _STANDS_BY, ok=False)
    return up(shown) == set(controllers)


def up(shown: str) -> set[str]:
    """Return the controllers that HAProxy says are up, from the CSV of `show stat`."""
    rows = [line.split(",") for line in shown.splitlines() if line.startswith("kube_controllers,")]
    states = {row[1]: row[17] for row in rows if len(row) > 17}
    return {name for name, state in states.items() if state == "UP" and name != "BACKEND"}


def await_proxies(
    cluster: Cluster, proxies: Collection[str], controllers: Collection[str] = CONTROLLERS
) -> None:
    """Wait until each proxy could have the address, and exactly one has it."""
    for node in proxies:
        wait_for(f"{node} stands by", partial(stands_by, cluster, node, controllers), 120)
    wait_for("one owner", lambda: len(owners(cluster, proxies)) == 1, 30)


def owners(cluster: Cluster, proxies: Collection[str]) -> list[str]:
    """Return the proxies that have VRRP's marker, an address of lo."""
    marked = "ip -o -4 address show dev lo | grep -q ' 127\\.60\\.'"
    return [node for node in proxies if cluster.exec(node, f"{marked} && echo yes", ok=False)]
