"""Name the files and the unit that send the output of containers to the log server."""

from __future__ import annotations

from chaos_engine.facts.health import Check
from chaos_engine.facts.rsyslog import FOLDER

CONFIG = f"{FOLDER}/container-output.rsyslog"
"""The configuration of the second rsyslogd. AppArmor may forbid rsyslogd to read files of other
folders. The node's own rsyslog includes only ``*.conf`` by default, so not this file."""

UNIT = "chaos-engine-container-output.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"

CONTAINER_OUTPUT_SENT = Check(
    "container_output",
    f"test ! -e {UNIT_FILE} || systemctl is-active --quiet {UNIT}",
    "the output of containers is not sent to the log server, because its service does not run; "
    f"look at: systemctl status {UNIT}",
)
