"""Send all logs to the log server, and write no log files on the node."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Literal

from pydantic import Field

from chaos_engine.deploys.concern import concern
from chaos_engine.deploys.site import DockerDataSettings, LogServerSettings
from chaos_engine.deploys.values import Number
from chaos_engine.facts.container_output import CONTAINER_OUTPUT_SENT
from chaos_engine.facts.observe import Read, current, observe
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.rsyslog import RSYSLOG_RUNS, Canary
from chaos_engine.operations.container_output import UNDO, forward_container_output
from chaos_engine.operations.engine.arguments import FilePattern, SshDestination
from chaos_engine.operations.log_server import ARRIVES_SECONDS, RUN, LogServer, not_arrived
from chaos_engine.operations.rsyslog import forward_logs
from chaos_engine.templates import render


class RsyslogSettings(LogServerSettings, DockerDataSettings):
    """Settings of `rsyslog`."""

    log_protocol: Literal["udp", "tcp"] = Field(
        "udp",
        description="protocol to the log server, udp or tcp. With udp, lost messages are not sent "
        "again. With tcp, up to 10000 messages wait in RAM while the server is away",
    )
    log_port: Number = Field(514, ge=1, le=65535, description="port of the syslog server")
    log_containers: bool = Field(
        False,
        description="whether the output of containers is sent to the log server too, with the "
        "namespace, pod and name of each container; containers never wait for the log server",
    )
    log_server_ssh: SshDestination | None = Field(
        None,
        description="ssh destination by which your computer reaches the log server, such as "
        "admin@192.168.1.42. With this setting, the deploy verify logs a message on each node, and "
        "looks for it on the log server for up to a minute. ssh must log in without a question, "
        "and the user must be able to read the log files",
    )
    log_server_files: FilePattern | None = Field(
        None,
        description="pattern of the log server's files with the nodes' messages, by default "
        "/var/log/nodes/*.log. If you set the pattern, but not chaos_log_server_ssh, verify looks "
        "for the files on your computer, for example in a folder mounted from the log server",
    )

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each setting that needs a log server, if there is no log server."""
        yield from super().conflicts()
        if self.log_server is None and self.asked:
            key = "log_server_ssh" if self.log_server_ssh else "log_server_files"
            yield f"chaos_{key}: there is no log server to look at, because chaos_log_server = none"
        if self.log_server is None and self.log_containers:
            yield (
                "chaos_log_containers: there is no log server to send to, because "
                "chaos_log_server = none"
            )

    @property
    def asked(self) -> LogServer | None:
        """Return where `verify` looks for the nodes' messages, ``None`` if it does not look."""
        if self.log_server_ssh is None and self.log_server_files is None:
            return None
        return _log_server(self.log_server_ssh or "", self.log_server_files or FILES)


FILES = "/var/log/nodes/*.log"
"""The log server's files with the nodes' messages, if docs/log-server.md was followed."""


@cache
def _log_server(destination: str, files: str) -> LogServer:
    """Return an object for the log server. All hosts of a run share the object and its answers."""
    return LogServer(destination, files)


def _token() -> str:
    """Return the token that the current host logs. `problems` looks for it on the log server."""
    digest = hashlib.sha256(current()[1].name.encode()).hexdigest()
    return f"{RUN}-{digest[:12]}"


def reads(settings: RsyslogSettings) -> list[Read]:
    """Return the fact that `problems` reads, [] if `verify` does not look for messages."""
    return [Read.of(Canary, token=_token())] if settings.asked else []


def problems(settings: RsyslogSettings) -> Iterator[str]:
    """Yield a message if a log message of the current host does not reach the log server."""
    # If the node could not log the message, the health check `RSYSLOG_RUNS` reports that
    if (server := settings.asked) and observe(Canary, token=_token()):
        with waiting(current()[1], "looking for its message at the log server", ARRIVES_SECONDS):
            problem = not_arrived(server, _token())
        yield from filter(None, [problem])


@concern(
    "Logs",
    RsyslogSettings,
    health=[RSYSLOG_RUNS, CONTAINER_OUTPUT_SENT],
    reads=reads,
    problems=problems,
    undo=UNDO,
)
def rsyslog(settings: RsyslogSettings) -> None:
    """Make rsyslog write no log files, and send all messages to the log server, if there is one.

    Debian's ``/etc/rsyslog.conf`` includes the ``.conf`` files in ``/etc/rsyslog.d`` above its own
    rules for log files. This deploy writes a file into ``/etc/rsyslog.d``, and removes all other
    ``.conf`` files there. The new file ends with ``stop``, so Debian's rules get no message.

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
    forward_container_output(
        name="Send container output to the log server"
        if settings.log_containers
        else "Leave container output to Docker",
        server=server if settings.log_containers else "",
        protocol=settings.log_protocol,
        port=settings.log_port,
        data_root=settings.docker_data_root,
    )
