"""Take over nodes of this project's predecessor, on Debian 12, by the same deploy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.suites import BOOKWORM
from tests.cluster import legacy_state, seen
from tests.cluster.virtual_cluster import Cluster, own_lab

FRESH, WORKER, PROXY = "pi4", "pi1", seen.PROXY
LEGACY = (WORKER, PROXY)
CMDLINE = "/boot/firmware/cmdline.txt"

SCARS = (
    # as the predecessor's README has the line
    f"sed -i 's/$/`/' {CMDLINE}",
    # gpg had nothing to read
    ": >/etc/apt/keyrings/kubernetes-apt-keyring.gpg",
    # a share whose client has died
    "pkill -KILL -x glusterfs",
    # its unit of that name has come to life
    "systemctl disable --now -q rsyslog.service; systemctl daemon-reload; "
    "systemctl enable --now -q syslog.service",
    "apt-mark hold docker.io >/dev/null",
)
"""What else such a node may have been through."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a lab with a fresh worker, a damaged one of the predecessor, and its proxy."""
    options = ("--workers", f"{WORKER},{FRESH},{PROXY}", "--suite", BOOKWORM.name)
    legacy = [word for node in LEGACY for word in ("--legacy", node)]
    with own_lab("legacy", "LEGACY_KEEP", *options, *legacy) as cluster:
        yield cluster


@dataclass(frozen=True)
class Takeover:
    """What the deploy announced and did, and the files that it found."""

    announced: dict[str, set[str]]
    changed: dict[str, set[str]]
    found: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def takeover(cluster: Cluster) -> Takeover:
    """Do the one run that takes the nodes over."""
    if not cluster.exec(WORKER, "ls -d /var/lib/chaos-engine || true"):  # a lab that is kept
        for scar in SCARS:
            cluster.exec(WORKER, scar)
    found = {node: legacy_state.contents(cluster, node, replaced(node)) for node in LEGACY}
    return Takeover(cluster.announced("deploy.py"), cluster.changed("deploy.py"), found)


def replaced(node: str) -> tuple[str, ...]:
    """Return the files of a node that the deploy replaces or removes."""
    return legacy_state.REPLACED + (legacy_state.PROXYS_REPLACED if node == PROXY else ())


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, takeover: Takeover) -> Cluster:
    """Return the cluster when its nodes are deployed."""
    return cluster


def test_the_legacy_nodes_are_at_work_as_they_were_left(cluster: Cluster) -> None:
    """Check the state before, so that there is something to take over."""
    for node in LEGACY:
        assert cluster.exec(node, "findmnt -rno FSTYPE --mountpoint /var/log") == "fuse.glusterfs"
        gone = {
            "units among those of packages",
            "links to its units",
            "units that not all may read",
        }
        assert gone <= legacy_state.remains(cluster, node).keys()
    found = legacy_state.remains(cluster, PROXY)
    assert found.keys() >= {"the link foobar", "another container", "what apt complains of"}
    seen.haproxy(cluster, PROXY, cluster.host(PROXY))


def test_preview_lists_exactly_what_the_run_changes(takeover: Takeover) -> None:
    assert takeover.announced == takeover.changed
    assert {*takeover.changed} == {WORKER, FRESH, PROXY}


def test_nodes_run_what_bookworm_brings(deployed: Cluster) -> None:
    for node in deployed.workers:
        host = deployed.host(node)
        version = host.check_output("docker version -f '{{.Server.Version}}'")
        assert version.startswith(BOOKWORM.docker)


@pytest.mark.parametrize("concern", seen.CONCERNS)
def test_concern_is_seen_on_every_node(deployed: Cluster, concern: str) -> None:
    for node in deployed.workers:
        seen.CONCERNS[concern](deployed, node, deployed.host(node))


@pytest.mark.parametrize("concern", seen.PROXY_CONCERNS)
def test_proxy_is_seen(deployed: Cluster, concern: str) -> None:
    seen.PROXY_CONCERNS[concern](deployed, PROXY, deployed.host(PROXY))


def test_nothing_of_the_predecessor_is_at_work(deployed: Cluster) -> None:
    assert {node: legacy_state.remains(deployed, node) for node in deployed.workers} == {
        node: {} for node in deployed.workers
    }


def test_what_was_replaced_is_kept(deployed: Cluster, takeover: Takeover) -> None:
    for node in LEGACY:
        assert legacy_state.kept_originals(deployed, node, replaced(node)) == takeover.found[node]


def test_second_run_changes_nothing(deployed: Cluster) -> None:
    assert deployed.announced("deploy.py") == {}
    assert deployed.changed("deploy.py") == {}
    assert "FAILED" not in deployed.pyinfra("chaos_engine.deploys.verify", "-y").text


def test_docker_that_does_not_start_gets_its_old_options_back(deployed: Cluster) -> None:
    """Check the fallback, as Docker 20.10 cannot check a file before it starts."""
    config = deployed.exec(FRESH, "touch /srv/file; cat /etc/docker/daemon.json")
    run = deployed.pyinfra(
        *("chaos_engine.deploys.docker", "-y", "--limit", FRESH),
        *("--data", "chaos_docker_data_root=/srv/file/docker"),
        ok=False,
    )
    assert run.status
    assert "the old files were restored" in run.text
    assert deployed.exec(FRESH, "cat /etc/docker/daemon.json") == config
    deployed.exec(FRESH, "rm /srv/file")
    seen.docker(deployed, FRESH, deployed.host(FRESH))


def test_proxy_runs_the_haproxy_of_that_age(deployed: Cluster) -> None:
    old = (
        "chaos_engine.deploys.proxy",
        "--limit",
        PROXY,
        "--data",
        "chaos_haproxy_image=haproxy:2.6",
    )
    assert deployed.announced(*old) == deployed.changed(*old)
    assert deployed.exec(PROXY, "docker exec lb-haproxy haproxy -v").startswith(
        "HAProxy version 2.6"
    )
    seen.haproxy(deployed, PROXY, deployed.host(PROXY))
    assert deployed.changed("deploy.py").keys() == {PROXY}


def test_reboot_brings_nothing_back(deployed: Cluster) -> None:
    for node in LEGACY:
        deployed.power(node, "cycle")
    assert deployed.changed("deploy.py") == {}
    for node in LEGACY:
        for look in seen.CONCERNS.values():
            look(deployed, node, deployed.host(node))
        assert legacy_state.remains(deployed, node) == {}
    seen.haproxy(deployed, PROXY, deployed.host(PROXY))
