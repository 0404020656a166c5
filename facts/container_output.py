"""Name the files and the unit that send container output to the log server, and check the unit."""

from __future__ import annotations

from chaos_engine.facts.health import Check
from chaos_engine.facts.rsyslog import FOLDER

CONFIG = f"{FOLDER}/container-output.rsyslog"
"""The configuration file of a second rsyslogd. This rsyslogd sends the output of containers to the
log server. The file is in rsyslog's folder, because AppArmor may forbid rsyslogd to read other
folders. The node's own rsyslog does not include the file, because by default it includes only
``*.conf``."""

UNIT = "chaos-engine-container-output.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"

CONTAINER_OUTPUT_SENT = Check(
    "container_output",
    f"test ! -e {UNIT_FILE} || systemctl is-active --quiet {UNIT}",
    "the output of containers is not sent to the log server, because "
    f"{UNIT} does not run; look at: systemctl status {UNIT}",
)
