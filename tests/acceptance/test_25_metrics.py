"""Have a node write metrics, read them as node_exporter would, and undo that."""

from __future__ import annotations

from tests.cluster.virtual_cluster import Cluster, wait_for

NODE = "pi1"
HERE = ("--limit", NODE)
FILE = "/run/chaos-engine-metrics/chaos-engine.prom"
DEPLOY = ("chaos_engine.deploys.metrics", "--data", "chaos_metrics=True", *HERE)


def test_metrics_are_written_to_ram_and_readable_for_others(deployed: Cluster) -> None:
    assert deployed.changed(*DEPLOY) == {NODE: {"Metrics | Write metrics"}}
    wait_for("metrics", lambda: deployed.host(NODE).file(FILE).exists, 20)
    text = deployed.exec(NODE, f"setpriv --reuid nobody --regid nogroup --clear-groups cat {FILE}")
    assert "chaos_engine_log_share_mounted 1" in text.splitlines()
    assert 'chaos_engine_written_bytes{program="' in text
    assert deployed.exec(NODE, f"stat -f -c %T {FILE}").strip() == "tmpfs"
    assert deployed.changed(*DEPLOY) == {}


def test_verify_tells_that_metrics_are_old(deployed: Cluster) -> None:
    deployed.exec(NODE, f"touch -d '1 hour ago' {FILE}")
    run = deployed.pyinfra("chaos_engine.deploys.verify", "-y", *HERE, ok=False)
    assert "the metrics were not written in the last 15 minutes" in run.text


def test_undo_leaves_nothing(deployed: Cluster) -> None:
    undo = ("chaos_engine.deploys.undo", "--data", "chaos_undo=metrics", *HERE)
    assert deployed.changed(*undo) == {NODE: {"Undo | Undo Metrics"}}
    left = deployed.exec(
        NODE, "ls -d /run/chaos-engine-metrics /usr/local/sbin/*metrics* 2>&1 || true"
    )
    assert [line for line in left.splitlines() if "No such file" not in line] == []
