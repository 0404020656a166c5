"""Interrupt a first deploy, and end as an undisturbed one: a sample of the long tests."""

from __future__ import annotations

from tests.acceptance.conftest import FirstDeploy
from tests.cluster.interrupted_deploy import KNOWN, chain
from tests.cluster.interruption import Killed, Point, PowerCut, Stopped
from tests.cluster.node_state import differences, take
from tests.cluster.operations import DOCKER
from tests.cluster.virtual_cluster import Cluster

POINTS: list[Point] = [
    Stopped("dpkg-deb", "fsys-tarfile .*glusterfs-common", "KILL"),
    Killed(DOCKER, "sent"),
    # the next run waits for what this one has left at work
    Stopped("mv", " /usr/local/bin/cri-dockerd$", "stays"),
    PowerCut("mv", " /boot/firmware/cmdline.txt$"),
]


def test_interrupted_deploy_ends_as_an_undisturbed_one(
    deployed: Cluster, first_deploy: FirstDeploy
) -> None:
    node = deployed.workers[0]
    chain(deployed, node, POINTS)
    assert differences(first_deploy.states[node], take(deployed, node), KNOWN) == []
