"""The report about a node that is deployed and one that is not there: the page, and its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cluster.virtual_cluster import Cluster

MB = 1_000_000
WRITTEN = 24


def absent(cluster: Cluster) -> str:
    """Return a node of the inventory that the lab does not have."""
    return next(f"pi{n}" for n in range(1, 11) if f"pi{n}" not in cluster.workers)


def report(cluster: Cluster, folder: Path, *how: str) -> tuple[dict[str, dict[str, Any]], Any]:
    """Return what a report says of each node, and how many commands each host got."""
    run = cluster.run(
        *("python", "-m", "tests.cluster.count_commands", "inventory.py"),
        *("chaos_engine.deploys.report", *how, "-y", "--data", f"chaos_report_dir={folder}"),
        *("--data", "chaos_card_tbw=117", "--limit", cluster.carded, "--limit", absent(cluster)),
        ok=False,
    )
    assert run.status == 1, "a node is not there"
    assert f"Report: {folder}/index.html" in run.text
    values = json.loads((folder / "report.json").read_text())
    counts = json.loads(run.err.split("commands: ")[1].splitlines()[0])
    return {node["name"]: node for node in values["nodes"]}, counts


def written(cluster: Cluster) -> int:
    """Return the bytes that the kernel has written to the node's card."""
    return int(Path(f"/sys/block/{cluster.card(cluster.carded)}/stat").read_text().split()[6]) * 512


def test_a_node_and_one_that_is_not_there(deployed: Cluster, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    nodes, counts = report(deployed, folder)
    assert counts == {deployed.carded: 1}
    node, lost = nodes[deployed.carded], nodes[absent(deployed)]
    assert [name for name, problems in node["concerns"].items() if problems] == []
    assert node["gaps"] == {}
    assert node["versions"]["docker"]
    assert 0 < node["card"]["written"] <= written(deployed)
    assert node["wear"]["years_most"] > 0
    assert node["writers"]
    assert {one["path"] for one in node["validities"]} >= {"/etc/kubernetes/ca.crt"}
    assert "Unable to connect" in lost["unread"]
    page = (folder / "index.html").read_text()
    assert lost["unread"] in page
    assert f"{node['line'][0]['mb_a_day']} MB a day" in page

    # What is written to the card is seen by the next report, a preview too
    deployed.exec(
        deployed.carded,
        f"dd if=/dev/urandom of=/var/tmp/report bs=1M count={WRITTEN} status=none; "
        "sync /var/tmp/report; rm /var/tmp/report",
    )
    nodes, counts = report(deployed, folder, "--dry")
    assert counts == {deployed.carded: 1}
    rate = nodes[deployed.carded]["wear"]["since_report"]
    assert rate["mb_a_day"] * rate["seconds"] / 86400 >= WRITTEN
    assert len(nodes[deployed.carded]["line"]) == 2
    assert len((folder / "history.jsonl").read_text().splitlines()) == 2
