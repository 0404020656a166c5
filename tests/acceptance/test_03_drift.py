"""Break each concern by hand once: the preview names exactly it, and the run fixes it.

The run also tells what something on the node undoes again and again, and what it suspects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

import pytest

from tests.cluster import drift, manifest, seen
from tests.cluster.drift import short_names
from tests.cluster.virtual_cluster import Cluster, Result, wait_for

DRIFT = {
    "hosts_file": "name of a machine gone",
    "docker": "daemon.json edited",
    "packages": "package back",
    "swap": "swap in fstab",
    "clock": "kubelet does not wait for the clock",
    "journald": "journal on the card",
    "rsyslog": "second rsyslog file",
    "log_mount": "share unmounted",
    "cri_dockerd": "cri-dockerd disabled",
    "kubernetes": "kubelet not held",
    "etcd_certificates": "key readable",
    "kernel": "kernel's word gone",
}
"""For each concern one of the drifts that the long tests have all of."""


@pytest.fixture(scope="module")
def broken(deployed: Cluster) -> dict[str, set[str]]:
    """Break every concern on some node. Return the operations that have to fix that, by node."""
    expected: dict[str, set[str]] = {}
    for node, name in zip(cycle(deployed.workers), DRIFT.values()):
        expected.setdefault(node, set()).update(drift.apply(deployed, node, name).fixed_by)
    return expected


def test_every_concern_that_is_on_has_a_drift() -> None:
    assert set(DRIFT) == set(seen.CONCERNS) - seen.OPT_IN


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
        assert short_names(deployed.announced("deploy.py")) == broken


def test_run_fixes_the_broken_concerns(deployed: Cluster, broken: dict[str, set[str]]) -> None:
    assert short_names(deployed.changed("deploy.py")) == broken
    assert deployed.announced("deploy.py") == {}


@pytest.mark.parametrize("concern", seen.CONCERNS)
def test_fixed_concern_is_seen_again(deployed: Cluster, concern: str) -> None:
    for node in deployed.workers:
        seen.CONCERNS[concern](deployed, node, deployed.host(node))


SYSTEM = "/etc/systemd/system"
PROGRAM = "/usr/local/bin/tuning"
TUNING = f"""\
printf '#!/bin/sh\\nsysctl -q -w net.ipv4.ip_forward=0\\n' > {PROGRAM}; chmod 755 {PROGRAM}
cd {SYSTEM}
printf '[Service]\\nType=oneshot\\nExecStart={PROGRAM}\\n' > tuning.service
printf '[Timer]\\nOnUnitActiveSec=1d\\n[Install]\\nWantedBy=timers.target\\n' > tuning.timer
systemctl daemon-reload; systemctl -q enable tuning.timer
"""
UNTUNED = f"""\
systemctl -q disable tuning.timer
rm {PROGRAM} {SYSTEM}/tuning.*; systemctl daemon-reload
"""


@pytest.fixture
def tuned(deployed: Cluster) -> Iterator[str]:
    """Have a node on which its owner's timer turns forwarding off whenever it elapses."""
    node = deployed.workers[0]
    # what tests before this one, or on a lab that is kept, have had it remember
    deployed.exec(node, f"rm -f /var/lib/chaos-engine/repairs; {TUNING}")
    yield node
    deployed.exec(node, UNTUNED)


def told(run: Result) -> list[str]:
    """Return what a run says about repairs that were undone."""
    lines = (re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in run.text.splitlines())
    return [line for line in lines if "something keeps changing" in line]


def test_what_a_timer_of_the_owner_undoes_is_told_when_it_is_fixed_again(
    deployed: Cluster, tuned: str
) -> None:
    def run(*how: str) -> list[str]:
        return told(deployed.pyinfra("deploy.py", *how, "--limit", tuned))

    deployed.exec(tuned, "systemctl start tuning.service")
    assert run("-y") == []
    # another thing
    deployed.exec(tuned, "rm /etc/crictl.yaml")
    assert run("--dry") == []
    deployed.power(tuned, "cycle")
    deployed.await_shares(tuned)
    # Docker turns forwarding on when it starts
    wait_for("Docker", lambda: deployed.exec(tuned, "docker info", ok=False), 120)
    deployed.exec(tuned, "systemctl start tuning.service")
    (said,) = preview = run("--dry")
    assert "something keeps changing net.ipv4.ip_forward: runs have fixed it once before" in said
    assert said.endswith(
        f"suspected: {SYSTEM}/tuning.service, which calls {PROGRAM} "
        "(systemctl disable --now tuning.timer)"
    )
    assert run("-y") == preview
    assert run("--dry") == []
