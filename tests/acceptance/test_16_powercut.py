"""Cut the power eight times and lose what is not on the card. `make torture` has more."""

from __future__ import annotations

from tests.acceptance.suites import OPTIONS, SUITE
from tests.cluster.powercut_lives import (
    CONTROLLERS,
    FIRST,
    IMAGE,
    PULLS,
    REBOOT,
    SPARE,
    UNDO_SPARED,
    VERSION,
    Life,
    choose,
    live_at_once,
)
from tests.cluster.virtual_cluster import own_lab

SEED = "13310"
NODES = {"pi1": (FIRST, SPARE, VERSION, UNDO_SPARED), "pi5": (PULLS, IMAGE, CONTROLLERS, REBOOT)}


def test_nodes_survive_every_power_cut() -> None:
    cuts = choose(SEED, NODES)
    cards = [word for node in NODES for word in ("--card", node)]
    options = ("--workers", ",".join(NODES), "--storage", "1", *OPTIONS)
    with own_lab("pw-acceptance", "POWERCUT_KEEP", *options, "--swap", "none", *cards) as cluster:
        lives = {node: Life(cluster, node, SUITE.name, SEED) for node in NODES}
        problems = live_at_once(lives, cuts)
    assert sum(life.cuts for life in lives.values()) == 8
    assert not problems, f"{len(problems)} problems\n\n" + "\n\n".join(problems)
