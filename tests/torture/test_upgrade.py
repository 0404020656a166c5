"""Kill upgrades of a cluster at random points. The next run goes on, and the end is the same.

The cluster goes from 1.34 to 1.37. Each upgrade is killed several times, at random moments of the
time that an undisturbed one takes, and each time the next run begins at once. The last run of each
upgrade goes to its end.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.cluster.joined import cordoned
from tests.cluster.lan_client import CONTROLLERS, client, readyz
from tests.cluster.upgrades import begun, made_by_kubeadm, state, to
from tests.cluster.virtual_cluster import Cluster

FIRST, *VERSIONS = ("1.34.1", "1.34.2", "1.35.0", "1.35.1", "1.36.1", "1.36.2", "1.37.0")
KILLS = 4
"""How often each upgrade but the first is killed."""

SEED = int(os.environ.get("SEED") or "7")
"""Chooses the points."""


@pytest.fixture(scope="module")
def old(deployed: Cluster) -> Iterator[Cluster]:
    with made_by_kubeadm(deployed, FIRST) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(old: Cluster) -> tuple[dict[str, list[str]], float]:
    """Do the first upgrade. Return the nodes' state after it, and the seconds that it took."""
    began = time.monotonic()
    old.changed(*to(VERSIONS[0]))
    return state(old), time.monotonic() - began


def expected(found: dict[str, list[str]], version: str) -> dict[str, list[str]]:
    """Return a state of the nodes with another version in place of the first upgrade's.

    The number of flags that kubelet 1.35 does not know is left out: it is 1 before.
    """
    minor = version.rpartition(".")[0]
    return {
        node: sorted(
            line.replace(VERSIONS[0], version).replace("/v1.34/", f"/v{minor}/")
            for line in lines
            if line not in ("0", "1")
        )
        for node, lines in found.items()
    }


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_a_killed_upgrade_ends_as_an_undisturbed_one(
    old: Cluster, undisturbed: tuple[dict[str, list[str]], float], version: str
) -> None:
    wanted, seconds = undisturbed
    points = random.Random(f"{SEED} {version}")
    with client(old, *readyz(old, CONTROLLERS)) as answers:
        for number in range(KILLS):
            moment = points.uniform(5, seconds)
            with begun(old, *to(version)) as run:
                try:
                    said = run.communicate(timeout=moment)[0]
                except subprocess.TimeoutExpired:
                    print(f"{version}: killed after {moment:.0f} s ({number + 1} of {KILLS})")
                else:  # what the runs before have left to do was short
                    assert run.returncode == 0, said
                    print(f"{version}: ended before {moment:.0f} s ({number + 1} of {KILLS})")
        old.changed(*to(version))
        states = answers.stop()
    assert states["fewest"] >= 2, states["samples"]
    assert expected(state(old), version) == expected(wanted, version)
    assert not cordoned(old)
    assert old.announced(*to(version)) == {}


def test_points_are_enough() -> None:
    assert KILLS * len(VERSIONS[1:]) >= 20
