"""Check that turns hold between runs on two computers, "desk" and "shop"."""

from __future__ import annotations

import json
import re
import time

from tests.cluster.joined import KUBECONFIG, audit, cordoned, give_pods, take_pods
from tests.cluster.turns import (
    are_apart,
    in_proxys_turn_only,
    most_together,
    parse_step,
    turns,
    watched,
)
from tests.cluster.two_runs import Run, holders, racks, run
from tests.cluster.virtual_cluster import Cluster, wait_for

DOCKER = "chaos_engine.deploys.docker"
_SHOWN = re.compile(r"(chaos-engine\.\S+) +root@(desk|shop):\d+-\w+/(pi\d+) +\S+")


def edit(name: str, value: str) -> tuple[str, ...]:
    """Return a change of Docker's settings."""
    return (DOCKER, *KUBECONFIG, "--data", f"chaos_docker_{name}={value}")


def docker_option(cluster: Cluster, node: str, name: str) -> str:
    """Return an option of Docker's logs on a node."""
    config = json.loads(cluster.exec(node, "cat /etc/docker/daemon.json"))
    return str(config["log-opts"][name])


def both_end(*runs: Run) -> None:
    """Wait for the end of runs, and check that they had no problem."""
    for one in runs:
        assert one.wait() == 0, f"{one.computer}:\n{one.text}"


def two_racks(cluster: Cluster) -> None:
    """Have each computer change the nodes of its rack: all take turns one by one."""
    for node in cluster.workers:
        give_pods(cluster, node)
    change, (first, second) = edit("log_max_file", "4"), racks(cluster)
    shown: set[tuple[str, ...]] = set()
    with (
        watched(cluster) as watch,
        run(cluster, "desk", first, *change) as desk,
        run(cluster, "shop", second, *change) as shop,
    ):
        while desk.process.poll() is None or shop.process.poll() is None:
            words = ("kubectl", "get", "lease", "--namespace", "kube-system")
            printed = cluster.run(*words, ok=False).out
            found = {match.groups() for match in _SHOWN.finditer(printed)}
            if found - shown:
                print(printed)
            shown |= found
            time.sleep(0.5)
        both_end(desk, shop)
        said = desk.text + shop.text
    assert sorted(turn.node for turn in watch.turns) == sorted(cluster.workers)
    assert most_together(watch) == 1, watch.turns
    order = [turn.node in first for turn in watch.turns]
    assert order not in (sorted(order), sorted(order)[::-1]), "one run kept the other waiting"
    in_proxys_turn_only(watch)
    print("".join(sorted(f"{line}\n" for line in said.splitlines() if "Lease" in line)))
    assert "waiting for its turn; Lease chaos-engine." in said, said
    assert {computer for _, computer, _ in shown} == {"desk", "shop"}, shown
    assert {node for _, _, node in shown} <= set(cluster.workers)
    assert ("chaos-engine.controller", "desk", "pi1") in shown, shown
    assert holders(cluster) == {}
    for node in cluster.workers:
        assert docker_option(cluster, node, "max-file") == "4"


def same_nodes(cluster: Cluster) -> None:
    """Have both computers make the same change on all nodes."""
    for node in cluster.workers:
        give_pods(cluster, node)
    change = edit("log_max_file", "5")
    with (
        watched(cluster) as watch,
        run(cluster, "desk", cluster.workers, *change) as desk,
        run(cluster, "shop", cluster.workers, *change) as shop,
    ):
        both_end(desk, shop)
    assert {turn.node for turn in watch.turns} == set(cluster.workers)
    assert most_together(watch) == 1, watch.turns
    assert holders(cluster) == {}
    for node in cluster.workers:
        assert docker_option(cluster, node, "max-file") == "5"


def batch_of_two(cluster: Cluster) -> None:
    """Have two nodes that are no controllers down together, and never three."""
    for node in cluster.workers:
        give_pods(cluster, node, seconds=3)
    change = ("chaos_engine.deploys.cri_dockerd", *KUBECONFIG, "--data", "chaos_rolling_batch=2",
              "--data", 'chaos_controllers=["pi1"]',
              "--data", "chaos_cri_dockerd_version=0.3.25")  # fmt: skip
    first, second = cluster.workers[::2], cluster.workers[1::2]
    with (
        watched(cluster) as watch,
        run(cluster, "desk", first, *change) as desk,
        run(cluster, "shop", second, *change) as shop,
    ):
        both_end(desk, shop)
    assert sorted(turn.node for turn in watch.turns) == sorted(cluster.workers)
    are_apart(watch, "pi1")
    assert most_together(watch) == 2, watch.turns
    assert holders(cluster) == {}


def killed(cluster: Cluster) -> None:
    """Kill a run in its turn: the other goes on once the Lease has expired, and not before."""
    for node in cluster.workers:
        give_pods(cluster, node, seconds=60 if node == "pi1" else 1)
    change, others = edit("log_max_file", "6"), [n for n in cluster.workers if n != "pi1"]
    before, old = len(audit(cluster)), docker_option(cluster, "pi1", "max-file")
    with run(cluster, "desk", ["pi1"], *change) as desk:
        wait_for(
            "desk's turn",
            lambda: any(parse_step(e) == ("drain", "pi1") for e in audit(cluster)[before:]),
            60,
        )
        with run(cluster, "shop", others, *change) as shop:
            waits = re.compile(r"waiting for its turn; Lease \S+ is held by root@desk:\S+/pi1 for "
                               r"node pi1 since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")  # fmt: skip
            wait_for("shop's waiting", lambda: waits.search(shop.text), 60)
            held = {name for name, holder in holders(cluster).items() if "@desk" in holder}
            assert held == {"chaos-engine.controller", "chaos-engine.turn-1"}
            desk.kill()
            killed_at = time.time()
            both_end(shop)
            said = shop.text
    print("".join(f"{line}\n" for line in said.splitlines() if "Lease" in line))
    events = [e for e in audit(cluster)[before:] if (parse_step(e) or ("", ""))[1] in others
              or e["objectRef"].get("subresource") == "eviction"]  # fmt: skip
    taken = turns(events)
    assert sorted(turn.node for turn in taken) == sorted(others)
    waited = taken[0].began - killed_at
    print(f"the first turn after the kill began {waited:.1f} s after it")
    assert 40 <= waited <= 100, taken
    assert "it was not renewed for 60 s, so it has expired" in said
    assert holders(cluster) == {}
    assert cordoned(cluster) == {"pi1"}
    take_pods(cluster, "pi1")
    cluster.changed("chaos_engine.deploys.uncordon", *KUBECONFIG, "--limit", "pi1")
    assert not cordoned(cluster)
    assert docker_option(cluster, "pi1", "max-file") == old
    cluster.changed(*change, "--limit", "pi1")
    assert {docker_option(cluster, node, "max-file") for node in cluster.workers} == {"6"}
