"""Install a timer that writes a node's metrics for Prometheus to a file in RAM."""

from __future__ import annotations

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.settings import Settings
from chaos_engine.facts.metrics import FILE, FOLDER, METRICS_WRITTEN, SERVICE, TIMER
from chaos_engine.facts.unit_traces import UNITS
from chaos_engine.facts.writers import COMMAND
from chaos_engine.operations import files
from chaos_engine.operations.files import File, Unit
from chaos_engine.operations.undo import Undo
from chaos_engine.templates import render

SCRIPT = "/usr/local/sbin/chaos-engine-metrics"

UNDO = Undo(
    first=f"stop_unit {TIMER}; stop_unit {SERVICE}",
    stopped=f"rm -rf -- {FOLDER}",
)


class MetricsSettings(Settings):
    """Settings of `metrics`."""

    metrics: bool = Field(
        False,
        description="whether a timer on the node writes metrics for node_exporter's textfile "
        f"collector to the folder {FOLDER} in RAM; if False, the concern metrics neither reads nor "
        "changes anything",
    )


@concern("Metrics", MetricsSettings, health=[METRICS_WRITTEN], undo=UNDO)
def metrics(settings: MetricsSettings) -> None:
    """Install a timer that writes metrics, such as the expiry dates of certificates.

    Does nothing if ``chaos_metrics`` is False. node_exporter itself lacks these metrics. The option
    ``--collector.textfile.directory=/run/chaos-engine-metrics`` makes node_exporter read the file
    with these metrics. This deploy does not install node_exporter.
    """
    if settings.metrics:
        files.install(name="Write metrics", files=metrics_files(), units=[Unit(TIMER)])


def metrics_files() -> list[File]:
    """Return the script that writes the metrics, and the systemd units that call the script."""
    script = render("metrics.j2", path="/usr/sbin:/usr/bin:/sbin:/bin", file=FILE, writers=COMMAND)
    return [
        File(SCRIPT, script, mode="755"),
        File(
            f"{UNITS}/{SERVICE}",
            render("metrics.service.j2", program=SCRIPT, folder=FOLDER.rpartition("/")[2]),
        ),
        File(f"{UNITS}/{TIMER}", render("metrics.timer.j2")),
    ]
