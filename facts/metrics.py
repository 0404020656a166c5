"""Check that the metrics of a node are written."""

from __future__ import annotations

from chaos_engine.facts.health import Check

FOLDER = "/run/chaos-engine-metrics"
"""The folder of the metrics, in RAM. node_exporter, which is not root, can read it."""

FILE = f"{FOLDER}/chaos-engine.prom"
TIMER = "chaos-engine-metrics.timer"
SERVICE = "chaos-engine-metrics.service"

METRICS_WRITTEN = Check(
    "metrics",
    # A node without a clock of its own sets its clock after the boot. Then the file looks old until
    # it is written again
    f"[ ! -e /etc/systemd/system/{TIMER} ] || "
    f"{{ systemctl is-active --quiet {TIMER} && ! systemctl is-failed --quiet {SERVICE} &&"
    f' {{ [ -z "$(find {FILE} -mmin +15)" ] || [ "$(cut -d . -f 1 /proc/uptime)" -lt 900 ]; }}; }}',
    f"the metrics were not written in the last 15 minutes; look at: systemctl status {TIMER} "
    f"{SERVICE}",
)
