"""What a preview announces is what the run then changes, for each way of drifting by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster import drift, manifest, seen
from tests.cluster.drift import DRIFTS, Outcome
from tests.cluster.virtual_cluster import Cluster

Judge = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def judge(request: pytest.FixtureRequest, deployed: Cluster) -> Judge:
    """What came of a drift. Those that were selected happen in rounds, in each of which every node
    has one of its own; a node that one run has not mended is put right for the next round."""
    selected = (getattr(item, "callspec", None) for item in request.session.items)
    left = {spec.id: DRIFTS[spec.id] for spec in selected if spec and spec.id in DRIFTS}
    outcomes: dict[str, Outcome] = {}
    places = {"proxy": seen.PROXY, "swap": str(deployed.status["swap"])}

    def next_round() -> None:
        drifted: dict[str, str] = {}
        for node in deployed.workers:
            # those that are for this node first: the others can be anywhere
            names = sorted(left, key=lambda name: places.get(left[name].where) != node)
            name = next((n for n in names if places.get(left[n].where, node) == node), None)
            if name is not None:
                drifted[node] = name
                del left[name]
        for node, name in drifted.items():
            drift.apply(deployed, node, name)
        mended = drift.mend(deployed, *drifted)
        outcomes.update({name: mended[node] for node, name in drifted.items()})
        if any(outcome.left or outcome.failed for outcome in mended.values()):
            deployed.ran("deploy.py")

    def ask(name: str) -> Outcome:
        if DRIFTS[name].where == "swap" and places["swap"] not in deployed.workers:
            pytest.skip("no node of this lab has swap")
        while name in left:
            next_round()
        assert name in outcomes, "another drift of its round could not be made"
        return outcomes[name]

    return ask


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_is_announced_exactly_and_mended(judge: Judge, name: str) -> None:
    outcome = judge(name)
    assert outcome.announced == set(DRIFTS[name].mended_by)
    assert outcome.changed == outcome.announced
    assert not outcome.failed
    assert outcome.left == set()


@pytest.fixture(scope="module")
def fresh(deployed: Cluster) -> Iterator[str]:
    """A node as nobody has deployed it yet; deployed again afterwards."""
    node = deployed.workers[0]
    deployed.lab("reset", node)
    yield node
    deployed.changed("deploy.py", "--limit", node)


def test_preview_writes_nothing_on_fresh_and_deployed_nodes(deployed: Cluster, fresh: str) -> None:
    with manifest.nothing_written(deployed):
        assert set(deployed.announced("deploy.py")) == {fresh}


def test_preview_of_a_fresh_node_is_exact(deployed: Cluster, fresh: str) -> None:
    outcome = drift.mend(deployed, fresh)[fresh]
    assert outcome.changed == outcome.announced
    assert outcome.left == set()
