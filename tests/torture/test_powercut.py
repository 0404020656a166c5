"""Cut the power of nodes again and again, and lose what is not on their cards yet."""

from __future__ import annotations

import os

import pytest

from tests.cluster.powercut_lives import PROXY, SPARED, WORKER, Life, choose, live_at_once
from tests.cluster.virtual_cluster import own_lab
from tests.lab.plan import SUITES

SEED = os.environ.get("POWERCUT_SEED") or "1"
NODES = {"pi1": WORKER, "pi4": WORKER, "pi5": PROXY, "pi7": SPARED}


@pytest.mark.parametrize("suite", SUITES)
def test_nodes_survive_every_power_cut(suite: str) -> None:
    cuts = choose(f"{SEED} {suite}", NODES)
    cards = [word for node in NODES for word in ("--card", node)]
    options = ("--workers", ",".join(NODES), "--storage", "1", "--swap", "none", "--suite", suite)
    with own_lab(f"pw-{suite}", f"POWERCUT_KEEP_{suite.upper()}", *options, *cards) as cluster:
        lives = {node: Life(cluster, node, suite, SEED) for node in NODES}
        problems = live_at_once(lives, cuts)
    assert sum(life.cuts for life in lives.values()) >= 30
    assert not problems, f"{len(problems)} problems\n\n" + "\n\n".join(problems)
