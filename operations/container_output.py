"""Send the output of containers to the log server, by a second rsyslogd on the node."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Literal

from chaos_engine.facts.container_output import CONFIG, UNIT, UNIT_FILE
from chaos_engine.facts.docker import DockerInfo
from chaos_engine.facts.files import Content
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.facts.rsyslog import MAIN, snippets_of
from chaos_engine.facts.text import setting
from chaos_engine.operations import files
from chaos_engine.operations.container_logs import DATA_ROOT, present_data_root
from chaos_engine.operations.docker import daemon_json
from chaos_engine.operations.engine.arguments import Folder
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.undo import Undo
from chaos_engine.templates import render

NAMES = "/usr/local/sbin/chaos-engine-container-names"
STATE = "/run/chaos-engine-container-output"
"""The folder in RAM in which the second rsyslogd notes how far it has read each file."""

_PLAIN = r"(/[A-Za-z0-9._-]+)+"
"""The form of a path that has the same meaning in rsyslog's configuration and in a unit file."""

_UNIT = Unit(UNIT, reads=(CONFIG, NAMES))


def reads(
    server: str, protocol: Literal["udp", "tcp"], port: int, data_root: str | None = None
) -> list[Read]:
    """Return the facts that `forward_container_output` reads when called with these arguments."""
    if not server:
        return files.reads(absent=_PATHS)
    found = files.reads(wanted(server, protocol, port, data_root or DATA_ROOT), units=[_UNIT])
    found.append(Read.of(Content, path=MAIN))
    if data_root is None:
        found += [Read.of(DockerInfo), Read.of(Content, path=daemon_json.CONFIG)]
    return found


@converge(reads=reads)
def forward_container_output(
    server: str, protocol: Literal["udp", "tcp"], port: int, data_root: Folder | None = None
) -> Commands:
    """Run a second rsyslogd that sends the output of containers to the log server.

    + server: address of the log server. For "", the operation stops the second rsyslogd and removes
      its files
    + protocol, port: protocol and port of the log server
    + data_root: Docker's data folder; ``None`` for the folder that the node's Docker uses

    Docker's driver json-file still writes the output to files. The second rsyslogd reads these
    files, so a container never waits for the log server. With each line, the second rsyslogd sends
    the names of the line's namespace, pod and container. The node's own rsyslogd does not do this
    work, for two reasons:

    - On Ubuntu, the node's own rsyslogd has no permission to read Docker's files.
    - A chatty container must not delay the node's own messages.

    Raises `NodeError` if the node's own rsyslogd would read the second rsyslogd's configuration, or
    if the path of Docker's data folder has unusual characters.

    **Example:** ``forward_container_output(server="192.168.1.42", protocol="tcp", port=514)``
    """
    if not server:
        yield from _remove()
        return
    main = observe(Content, path=MAIN)
    if snippets_of(None if main is None else os.fsdecode(main), [CONFIG]):
        raise NodeError(
            f"{MAIN} includes all files in {os.path.dirname(CONFIG)}, also {CONFIG}, which is for "
            "another rsyslogd; change the include to *.conf, and run again"
        )
    if data_root is None:
        config = observe(Content, path=daemon_json.CONFIG)
        data_root = present_data_root(observe(DockerInfo), config)
        if not re.fullmatch(_PLAIN, data_root):
            raise NodeError(
                f"Docker's data folder {data_root!r} has characters that rsyslog or systemd would "
                "read otherwise; move the folder to a path with only letters, digits and /._-, or "
                f"remove {setting('log_containers')} for this node"
            )
    todo = files.decide(wanted(server, protocol, port, data_root), units=[_UNIT])
    yield from files.transaction(todo, check(todo), noop="container output goes to the log server")


def wanted(server: str, protocol: str, port: int, data_root: str) -> list[File]:
    """Return the files of the second rsyslogd. This is a pure function."""
    config = render(
        "container-output.conf.j2",
        server=server,
        protocol=protocol,
        port=port,
        data_root=data_root,
        program=NAMES,
        state=STATE,
    )
    unit = render(
        "container-output.service.j2",
        path=CONFIG,
        state=os.path.basename(STATE),
        data_root=data_root,
    )
    return [
        File(NAMES, render("container-names.j2", state=STATE), mode="755"),
        File(CONFIG, config),
        File(UNIT_FILE, unit),
    ]


_PATHS = (NAMES, CONFIG, UNIT_FILE)


def check(todo: Plan) -> str:
    """Return the command that checks the new configuration, "" if the run does not write one.

    This is a pure function.
    """
    staged: Iterable[str] = (file.staged for file in todo.write if file.path == CONFIG)
    # rsyslogd will write to the folder STATE. The check fails if this folder is missing
    return "\n".join(f"mkdir -p {STATE}; rsyslogd -N1 -f {quote(path)}" for path in staged)


def _remove() -> Commands:
    """Stop the second rsyslogd, and remove its files."""
    todo, stop = files.decide_removal(UNIT, _PATHS)
    left = f"rm -rf -- {STATE} {os.path.dirname(_UNIT.record.path)}"
    yield from files.transaction(
        todo,
        before=f"{stop}; {left}" if stop else "",
        noop="container output stays on the node",
    )


UNDO = Undo(stopped=f"rm -rf -- {STATE}")
