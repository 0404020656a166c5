"""Check that a run changes what the preview announced, for each drift alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster import drift, manifest, seen
from tests.cluster.drift import DRIFTS, Outcome
from tests.cluster.virtual_cluster import Cluster

GetOutcome = Callable[[str], Outcome]


@pytest.fixture(scope="module")
def get_outcome(request: pytest.FixtureRequest, deployed: Cluster) -> GetOutcome:
    """Return a function that returns the outcome of a drift.

    The selected drifts happen in rounds, in each of them a drift on every node. A node that one run
    has not fixed is deployed again before the next round.
    """
    selected = (getattr(item, "callspec", None) for item in request.session.items)
    left = {spec.id: DRIFTS[spec.id] for spec in selected if spec and spec.id in DRIFTS}
    outcomes: dict[str, Outcome] = {}
    places = {"proxy": seen.PROXY, "swap": str(deployed.status["swap"])}

    def next_round() -> None:
        drifted: dict[str, str] = {}
        for node in deployed.workers:
            # Drifts that only this node can have come first
            names = sorted(left, key=lambda name: places.get(left[name].where) != node)
            name = next((n for n in names if places.get(left[n].where, node) == node), None)
            if name is not None:
                drifted[node] = name
                del left[name]
        for node, name in drifted.items():
            drift.apply(deployed, node, name)
        fixed = drift.fix(deployed, *drifted)
        outcomes.update({name: fixed[node] for node, name in drifted.items()})
        if any(outcome.pending or outcome.failed for outcome in fixed.values()):
            deployed.ran("deploy.py")

    def get(name: str) -> Outcome:
        if DRIFTS[name].where == "swap" and places["swap"] not in deployed.workers:
            pytest.skip("no node of this lab has swap")
        while name in left:
            next_round()
        assert name in outcomes, "another drift of its round could not be made"
        return outcomes[name]

    return get


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_is_announced_exactly_and_fixed(get_outcome: GetOutcome, name: str) -> None:
    outcome = get_outcome(name)
    assert outcome.announced == set(DRIFTS[name].fixed_by)
    assert outcome.changed == outcome.announced
    assert not outcome.failed
    assert outcome.pending == set()


@pytest.fixture(scope="module")
def fresh(deployed: Cluster) -> Iterator[str]:
    """Reset a node to the fresh image, and deploy it again afterwards."""
    node = deployed.workers[0]
    deployed.lab("reset", node)
    yield node
    deployed.changed("deploy.py", "--limit", node)


def test_preview_writes_nothing_on_fresh_and_deployed_nodes(deployed: Cluster, fresh: str) -> None:
    with manifest.nothing_written(deployed):
        assert set(deployed.announced("deploy.py")) == {fresh}


def test_preview_of_a_fresh_node_is_exact(deployed: Cluster, fresh: str) -> None:
    outcome = drift.fix(deployed, fresh)[fresh]
    assert outcome.changed == outcome.announced
    assert outcome.pending == set()
