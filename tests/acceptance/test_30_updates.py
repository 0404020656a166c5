"""Install security updates of a made-up repository on nodes of a cluster, in turns.

Three packages of each node have an update: one is on hold, and one is a kernel, but on pi4. These
kernels have no kernel in them, and ask for a reboot as Ubuntu's do.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.suites import SUITE
from tests.cluster.joined import KUBECONFIG, all_joined, cordoned, kubelet
from tests.cluster.lan_client import CONTROLLERS, ready
from tests.cluster.turns import are_apart, at_least_two_were_ready, in_proxys_turn_only, watched
from tests.cluster.virtual_cluster import CHECKOUT, LAB, Cluster, wait_for
from tests.lab import updates_repository
from tests.lab.apt_repository import SigningKey
from tests.lab.updates_repository import NEW, NEW_ABI, OLD, Made

UPDATES = ("chaos_engine.deploys.updates", *KUBECONFIG)
OPERATION = "Security updates | Install security updates"
WITHOUT_KERNEL = "pi4"
PORT = 8099
LIST = "/etc/apt/sources.list.d/lab-updates.list"
KEYRING = "/etc/apt/keyrings/lab-updates.asc"
LISTS_IN_RAM = "/run/chaos-engine-lists"
CARD = "find /var/lib/apt/lists -type f -printf '%p %s %T@\\n' | sort"
VERSIONS = (
    "dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n' 'lab-*' 'linux-image-*' "
    "| sed 's/ *$//' | sort"
)

SLOW_OLD = Made("lab-slow", "1.0")
SLOW = Made(
    "lab-slow",
    "1.1",
    pocket=True,
    scripts={"postinst": "#!/bin/sh\n[ ! -e /run/slowly ] || exec sleep 300\n"},
)
"""An update that takes long where it is told to, so that it can be interrupted."""


class Repository:
    """A repository that the lab's computer serves."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.root = folder / "repository"
        self.key = SigningKey.load_or_create(folder, "lab-updates")
        self.offer(*OLD)

    def offer(self, *packages: Made) -> None:
        """Offer these packages besides those that it has."""
        updates_repository.build(self.root, self.key, SUITE.name, packages)

    def give(self, node: str, *names: str) -> None:
        """Install packages of the repository on a node."""
        uri = f"http://{self.cluster.status['computer']}:{PORT}"
        lines = updates_repository.sources(uri, SUITE.name, KEYRING)
        self.cluster.exec(
            node,
            f"mkdir -p /etc/apt/keyrings; cat >{KEYRING} <<'END'\n{self.key.armored.read_text()}"
            f"END\ncat >{LIST} <<'END'\n{lines}END\napt-get -q update >/dev/null && "
            f"apt-get -q -y install {' '.join(names)} >/dev/null; rm -rf {LISTS_IN_RAM}",
        )


@pytest.fixture(scope="module")
def repository(deployed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """Serve a repository to all nodes. Take away all that came from it."""
    made = Repository(deployed, tmp_path_factory.mktemp("updates"))
    server = subprocess.Popen(
        (LAB, "--name", deployed.name, "run", "--", sys.executable, "-m", "http.server", str(PORT),
         "--directory", str(made.root)),
        cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield made
        for node in deployed.workers:
            deployed.exec(
                node,
                "apt-get -q -y --allow-change-held-packages purge 'lab-*' linux-image-lab "
                f"{NEW_ABI} >/dev/null; rm -rf {LIST} {KEYRING} {LISTS_IN_RAM}; "
                "apt-get -q update >/dev/null",
            )
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def nodes(repository: Repository) -> Iterator[Cluster]:
    """Have the nodes join a cluster, and give them packages that have an update."""
    cluster = repository.cluster

    def answers() -> bool:
        uri = f"http://{cluster.status['computer']}:{PORT}/"
        return not cluster.run("curl", "-fsS", "-o", "/dev/null", uri, ok=False).status

    wait_for("the repository", answers, 20)
    for node in cluster.workers:
        kernel = [] if node == WITHOUT_KERNEL else ["linux-image-lab"]
        repository.give(node, "lab-plain", "lab-held", *kernel)
        cluster.exec(node, "apt-mark hold lab-held")
    repository.offer(*NEW)
    with all_joined(cluster):
        yield cluster


def versions(cluster: Cluster, node: str) -> dict[str, str]:
    """Return the versions of a node's packages of the repository, all of which are complete."""
    lines = [line.split() for line in cluster.exec(node, VERSIONS).splitlines()]
    own = [line for line in lines if len(line) == 3 and line[1][:2] in ("1.", "99")]
    assert {state for _, _, state in own} <= {"ii", "hi"}
    return {name: version for name, version, _ in own}


def test_the_preview_lists_packages_and_changes_nothing(nodes: Cluster) -> None:
    before = {node: (nodes.exec(node, CARD), versions(nodes, node)) for node in nodes.workers}

    assert nodes.announced(*UPDATES) == {node: {OPERATION} for node in nodes.workers}

    for node in nodes.workers:
        kernel = [
            "update linux-image-lab 1.0 -> 1.1",
            f"install {NEW_ABI} 1.1, which the updates need",
            f"reboot, for the new kernel {NEW_ABI}",
        ]
        expected = ["update lab-plain 1.0 -> 1.1", *(kernel if node != WITHOUT_KERNEL else [])]
        assert nodes.announced_why[node][OPERATION] == expected
    said = nodes.pyinfra(*UPDATES, "--dry", "--limit", "pi1").text
    assert "on hold, so they are not updated: lab-held 1.0 -> 1.1" in " ".join(said.split())
    after = {node: (nodes.exec(node, CARD), versions(nodes, node)) for node in nodes.workers}
    assert after == before
    assert not cordoned(nodes)


def test_nodes_are_updated_and_rebooted_in_turns(nodes: Cluster) -> None:
    boots = {node: nodes.boot_id(node) for node in nodes.workers}
    lists = {node: nodes.exec(node, CARD) for node in nodes.workers}

    with watched(nodes) as watch:
        done = nodes.changed(*UPDATES, "--data", "chaos_rolling_batch=2")

    assert done == {node: {OPERATION} for node in nodes.workers}
    # `watched` has found one cordon, one drain and one uncordon in each turn
    assert sorted(turn.node for turn in watch.turns) == sorted(nodes.workers)
    are_apart(watch, *CONTROLLERS)
    at_least_two_were_ready(watch)
    in_proxys_turn_only(watch)
    rebooted = {node for node in nodes.workers if nodes.boot_id(node) != boots[node]}
    assert rebooted == {*nodes.workers} - {WITHOUT_KERNEL}
    for node in nodes.workers:
        kernel = {"linux-image-lab": "1.1", NEW_ABI: "1.1"} if node in rebooted else {}
        assert versions(nodes, node) == {"lab-plain": "1.1", "lab-held": "1.0", **kernel}
        assert nodes.exec(node, CARD) == lists[node], "package lists were written to the card"
        assert nodes.exec(node, "cat /var/lib/chaos-engine/reboot", ok=False) == ""
    assert not cordoned(nodes)


def test_a_second_run_has_nothing_to_do(nodes: Cluster) -> None:
    assert nodes.announced(*UPDATES) == {}
    assert nodes.changed(*UPDATES) == {}


def test_an_update_that_loses_its_power_is_finished_by_the_next_run(
    nodes: Cluster, repository: Repository
) -> None:
    """Cut the power in a package's script, in the node's turn. What was not on the card is lost."""
    node = nodes.carded
    here = ("--limit", node)
    repository.offer(SLOW_OLD)
    repository.give(node, "lab-slow")
    repository.offer(SLOW)
    nodes.exec(node, f"rm -rf {LISTS_IN_RAM}; touch /run/slowly")

    command = (LAB, "--name", nodes.name, "run", "--", "pyinfra", "inventory.py", *UPDATES, "-y")
    with subprocess.Popen(
        (*command, *here), cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        at_work = "pgrep -fx 'sleep 300'"
        wait_for("the package's script", lambda: nodes.exec(node, at_work, ok=False), 120)
        nodes.lab("power", node, "cut", "--lose")
        run.kill()
    assert cordoned(nodes) == {node}
    nodes.power(node, "on")
    nodes.await_shares(node)
    wait_for("kubelet", lambda: kubelet(nodes, node), 120)
    wait_for("the API server", lambda: ready(nodes, [node]) == {node}, 120)

    fixed = nodes.announced(*UPDATES, *here)
    assert OPERATION in fixed[node]
    (why, *_) = nodes.announced_why[node][OPERATION]
    assert why == "finish the interrupted installation of lab-slow"
    done = nodes.changed(*UPDATES, *here)
    assert done[node] >= {OPERATION}
    assert versions(nodes, node)["lab-slow"] == "1.1"
    assert not cordoned(nodes)
    assert nodes.announced(*UPDATES, *here) == {}
