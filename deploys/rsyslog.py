"""Send all logs to the log server, and write no log files on the node."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import LogServerSettings
from chaos_engine.deploys.values import Number
from chaos_engine.facts.rsyslog import RSYSLOG_RUNS
from chaos_engine.operations.rsyslog import forward_logs
from chaos_engine.templates import render


class RsyslogSettings(LogServerSettings):
    """Settings of `rsyslog`."""

    log_protocol: Literal["udp", "tcp"] = Field(
        "udp",
        description="protocol to the log server, udp or tcp. With udp, lost messages are not sent "
        "again. With tcp, up to 10000 messages wait in RAM while the server is away",
    )
    log_port: Number = Field(514, ge=1, le=65535, description="port of the syslog server")


@concern("Logs", RsyslogSettings, health=[RSYSLOG_RUNS])
def rsyslog(settings: RsyslogSettings) -> None:
    """Make rsyslog send all messages to the log server, if one is set, and write no log files.

    In ``/etc/rsyslog.conf``, Debian's rules for log files come after the files in
    ``/etc/rsyslog.d``. This deploy writes a file into that folder, and removes the other ``.conf``
    files. The written file ends with ``stop``, so Debian's rules get no message.

    docs/log-server.md describes the log server's configuration.
    """
    server = str(settings.log_server or "")
    forward_logs(
        name="Send all logs to the log server" if server else "Keep logs out of files",
        config=render(
            "10-all.conf.j2",
            server=server,
            protocol=settings.log_protocol,
            port=settings.log_port,
        ),
        network=render("rsyslog-network.conf.j2"),
        server=server,
    )
