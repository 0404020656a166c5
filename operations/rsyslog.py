"""Send all logs of the node away, and keep none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from chaos_engine.facts.apt import Packages
from chaos_engine.facts.files import Content
from chaos_engine.facts.manifest import ASIDE as KEPT
from chaos_engine.facts.manifest import ORIGINALS
from chaos_engine.facts.node import Node
from chaos_engine.facts.observe import NodeError, Read, current, observe
from chaos_engine.facts.rsyslog import FOLDER, MAIN, Snippets, main_problem, snippets_of
from chaos_engine.facts.text import setting
from chaos_engine.facts.unit_traces import Traces, UnitTraces
from chaos_engine.operations import files
from chaos_engine.operations.apt import APT
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because, listed
from chaos_engine.operations.engine.shell import quote
from chaos_engine.operations.files import File, Plan, Unit

PATH = f"{FOLDER}/10-all.conf"
NETWORK = "/etc/systemd/system/rsyslog.service.d/10-network.conf"
UNIT = Unit("rsyslog.service", reads=(MAIN, f"{FOLDER}/*.conf"))
ALIAS = "syslog.service"
"""rsyslog's other name, under which syslog.socket looks for it."""

INSTALL = f"""\
{APT}
refresh
apt install --no-install-recommends -- rsyslog
set --
for other in {FOLDER}/*.conf; do
  [ "$other" = {PATH} ] || set -- "$@" "$other"
done
keep "$@"; settle; rm -f -- "$@"
sync -- {FOLDER}
"""
"""Installs rsyslog when its configuration is there already, so that it never writes a file; then
puts aside what the package has brought."""

STOP_OTHER = f"""\
[ "$(systemctl show --property Id --value {ALIAS})" != {ALIAS} ] ||
  systemctl stop {ALIAS} 2>/dev/null || true
"""
"""Stops a unit that is no more than called like rsyslog's other name."""

# The original that is kept is the first one. A later file of the same name is kept beside it.
ASIDE = f"""\
aside() {{ # PATH: keep also what differs from the original
  if [ -f "$1" ] && [ -f "{ORIGINALS}$1" ] && ! cmp -s -- "$1" "{ORIGINALS}$1"; then
    aside={KEPT}$1.$(sha256sum <"$1" | cut -c1-8)
    mkdir -p -- "${{aside%/*}}"; cp -a -- "$1" "$aside.chaos-new"
    sync -- "$aside.chaos-new"; mv -fT -- "$aside.chaos-new" "$aside"; sync -- "${{aside%/*}}"
  fi
}}
"""


def reads(config: str, network: str, server: str) -> list[Read]:
    """What `forward` will observe for the same arguments."""
    return [
        Read.of(Node),
        Read.of(Packages, names=("rsyslog",)),
        Read.of(Snippets),
        Read.of(Content, path=MAIN),
        Read.of(Traces, units=(ALIAS,)),
        *files.reads(_files(config, network), units=[UNIT]),
    ]


@converge(reads=reads)
def forward_logs(config: str, network: str, server: str) -> Commands:
    """Have rsyslog run with one configuration file and no other in ``/etc/rsyslog.d``.

    + config: text of that file, ``10-all.conf``; it ends with ``stop``
    + network: text of a drop-in that lets rsyslog wait for the network
    + server: address of the log server, "" for none: then a node without rsyslog stays so

    rsyslog is installed if it is not there, with the file in its place before. Other ``.conf``
    files are kept under ``/var/lib/chaos-engine/originals``. The file is checked by
    ``rsyslogd -N1`` alone and, once in place, as part of the whole; if rsyslog does not start with
    it, the old files come back. Another unit under rsyslog's other name, syslog.service, goes too,
    unless it is a package's: where rsyslog is not enabled it would run in its place. Raises
    `NodeError` if the server's address is the node's own: each message would come back to it for
    ever.

    **Example:** ``forward_logs(name="Send logs away", config=..., network=..., server="...")``
    """
    if server and server in observe(Node).addresses:
        raise NodeError(
            f"the log server's address {server} is this node's own; set {setting('log_server')} to "
            "another computer, which keeps the logs"
        )
    found = observe(Packages, names=("rsyslog",))
    installed = "rsyslog" in found and found["rsyslog"].complete
    main = observe(Content, path=MAIN) if installed else None
    text = None if main is None else os.fsdecode(main)
    problem = None if text is None else main_problem(text)
    if problem:
        raise NodeError(f"{problem}; put the distribution's {MAIN} back and run again")
    snippets = observe(Snippets)
    others = tuple(path for path in snippets_of(text, snippets) if path != PATH)
    if not server and not installed:
        current()[1].noop("rsyslog is not there, and nobody to send to")
        return
    left = paths_of(observe(Traces, units=(ALIAS,)).get(ALIAS, UnitTraces()))
    todo = files.decide(_files(config, network), others, [UNIT], besides=left)
    if left:
        todo = replace(todo, remove=(*todo.remove, *left), daemon_reload=True)
    because(*listed("install", () if installed else ("rsyslog",)))
    todo = due(todo)
    yield from files.transaction(
        todo,
        check(todo, installed),
        apply(todo, installed),
        noop="rsyslog sends all logs away",
        force=not installed,
        before=put_aside(todo.remove),
    )


def paths_of(traces: UnitTraces) -> tuple[str, ...]:
    """The files and links of a unit that shall not be."""
    return (*((traces.vendor_file,) if traces.vendor_file else ()), *traces.links)


def due(todo: Plan) -> Plan:
    """Return the plan with a restart in place of a start: a pure function.

    A start would leave a process that apt has started with other files than these.
    """
    return replace(todo, start=(), restart=(UNIT,) if todo.enable else (*todo.start, *todo.restart))


def check(todo: Plan, installed: bool) -> str:
    """Return the command that refuses the new file, "" if rsyslogd is not there to do that."""
    alone = next((file.staged for file in todo.write if file.path == PATH), None)
    # Where it waits: AppArmor may let rsyslogd read below /etc/rsyslog.d only
    return f"rsyslogd -N1 -f {alone}" if alone and installed else ""


def apply(todo: Plan, installed: bool) -> str:
    """Return the shell commands that run once the new file is in place: a pure function."""
    steps = ["rsyslogd -N1"] if installed else [INSTALL, "rsyslogd -N1"]
    if any(path.endswith(f"/{ALIAS}") for path in todo.remove):
        steps.append(STOP_OTHER)
    if todo.enable:
        # First: syslog.socket hands its socket to syslog.service, and only an enabled rsyslog has
        # that name too. One that is started before logs nothing. Nor may it run meanwhile: once
        # it has the other name, systemd takes it for dead and leaves its process alone.
        steps.append(f"systemctl stop {UNIT.name}")
        steps.append(f"systemctl unmask {UNIT.name}; systemctl enable {UNIT.name}")
    return "\n".join(steps)


def put_aside(paths: Iterable[str]) -> str:
    """Return the shell commands that keep what somebody else has written there."""
    lines = [f"aside {quote(path)}" for path in paths]
    return "\n".join([ASIDE, *lines]) if lines else ""


def _files(config: str, network: str) -> list[File]:
    return [File(PATH, config), File(NETWORK, network)]
