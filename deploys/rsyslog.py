"""Send all logs to the log server, and write none to a file."""

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
        description="udp or tcp: how logs travel. Over udp nothing ever waits, and lost messages "
        "are not sent again; over tcp up to 10000 messages wait in RAM for the server",
    )
    log_port: Number = Field(514, ge=1, le=65535, description="port of the syslog server")


@concern("Logs", RsyslogSettings, health=[RSYSLOG_RUNS])
def rsyslog(settings: RsyslogSettings) -> None:
    """Have rsyslog send everything to the log server, if there is one, and write no file.

    ``/etc/rsyslog.conf`` first includes the files in ``/etc/rsyslog.d``. Debian's rules, which
    write files, follow. So the one file in that folder ends with ``stop``. For the configuration of
    the log server see docs/log-server.md.
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
