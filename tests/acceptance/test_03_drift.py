"""Each concern broken by hand once: the preview names exactly it, the run mends it."""

from __future__ import annotations

from itertools import cycle

import pytest

from tests import drift, manifest, seen
from tests.drift import leaves
from tests.virtual_cluster import Cluster

DRIFT = {
    "hosts_file": "name of a machine gone",
    "docker": "daemon.json edited",
    "packages": "package back",
    "swap": "swap in fstab",
    "journald": "journal on the card",
    "rsyslog": "second rsyslog file",
    "log_mount": "share unmounted",
    "cri_dockerd": "shim disabled",
    "kubernetes": "kubelet not held",
    "etcd_certificates": "key readable",
    "kernel": "kernel's word gone",
}
"""For each concern one of the drifts that the long tests have all of."""


@pytest.fixture(scope="module")
def broken(deployed: Cluster) -> dict[str, set[str]]:
    """Every concern broken on some node; the operations that have to mend it, by node."""
    expected: dict[str, set[str]] = {}
    for node, name in zip(cycle(deployed.workers), DRIFT.values()):
        expected.setdefault(node, set()).update(drift.apply(deployed, node, name).mended_by)
    return expected


def test_every_concern_has_a_drift() -> None:
    assert set(DRIFT) == set(seen.CONCERNS)


def test_verify_says_what_is_broken(deployed: Cluster, broken: dict[str, set[str]]) -> None:
    run = deployed.pyinfra("chaos_engine.deploys.verify", "--dry", ok=False)
    assert run.status
    failed = {line.split("  FAILED")[0].split()[-1] for line in run.text.splitlines()
              if "FAILED" in line}  # fmt: skip
    assert failed == set(DRIFT)


def test_preview_names_the_broken_concerns_and_no_other_and_writes_nothing(
    deployed: Cluster, broken: dict[str, set[str]]
) -> None:
    with manifest.nothing_written(deployed):
        assert leaves(deployed.announced("deploy.py")) == broken


def test_run_mends_the_broken_concerns(deployed: Cluster, broken: dict[str, set[str]]) -> None:
    assert leaves(deployed.changed("deploy.py")) == broken
    assert deployed.announced("deploy.py") == {}


@pytest.mark.parametrize("concern", seen.CONCERNS)
def test_mended_concern_is_seen_again(deployed: Cluster, concern: str) -> None:
    for node in deployed.workers:
        seen.CONCERNS[concern](deployed, node, deployed.host(node))
