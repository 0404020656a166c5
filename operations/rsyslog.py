"""Send all logs of the node to a log server, and write no log to the node's disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from chaos_engine.facts.apt import Packages
from chaos_engine.facts.files import Content
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
"""An alias of rsyslog.service. The unit syslog.socket starts the service that has this alias."""

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
"""Shell commands that install rsyslog, and remove the configuration files that come with it.

``10-all.conf`` is in place before these commands run, so rsyslog never writes a log file.
"""

STOP_OTHER = f"""\
[ "$(systemctl show --property Id --value {ALIAS})" != {ALIAS} ] ||
  systemctl stop {ALIAS} 2>/dev/null || true
"""
"""Shell command that stops syslog.service if it is a unit of its own and not rsyslog's alias."""

# `keep` backs up the first version of a file. `keep_other` backs up a later, different version
ASIDE = """\
keep_other() { # PATH: back up a file that differs from its original
  if [ -f "$1" ] && [ -f "$ORIGINALS$1" ] && ! cmp -s -- "$1" "$ORIGINALS$1"; then
    aside=$ASIDE$1.$(sha256sum <"$1" | cut -c1-8)
    mkdir -p -- "${aside%/*}"; cp -a -- "$1" "$aside.chaos-new"
    sync -- "$aside.chaos-new"; mv -fT -- "$aside.chaos-new" "$aside"; sync -- "${aside%/*}"
  fi
}
"""


def reads(config: str, network: str, server: str) -> list[Read]:
    """Return the facts that `forward_logs` reads when called with these arguments."""
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
    """Run rsyslog with ``10-all.conf`` as the only configuration file in ``/etc/rsyslog.d``.

    + config: text of ``10-all.conf``; its last line is ``stop``
    + network: text of a drop-in for rsyslog.service. The drop-in delays rsyslog's start until the
      network is up
    + server: address of the log server, "" for none. Without a log server, rsyslog is not installed

    If rsyslog is missing, it is installed after ``10-all.conf`` is in place. Other ``.conf`` files
    are removed; their originals are in ``/var/lib/chaos-engine/originals``. ``rsyslogd -N1`` checks
    ``10-all.conf`` before it is put in place, and the whole configuration afterwards. If rsyslog
    does not start, the old files are restored.

    An earlier installation may have left a separate unit syslog.service. While
    rsyslog is not enabled, systemd would start the old unit instead of rsyslog. The operation
    removes the old unit if no package owns it.

    Raises `NodeError` if the log server's address is the node's own, because rsyslog would send
    each message to itself for ever. Raises `NodeError` too if ``/etc/rsyslog.conf`` does not give
    all messages to ``10-all.conf`` first.

    **Example:** ``forward_logs(name="Send logs away", config=..., network=..., server="...")``
    """
    if server and server in observe(Node).addresses:
        raise NodeError(
            f"the log server's address {server} is this node's own; set {setting('log_server')} to "
            "the address of another machine"
        )
    found = observe(Packages, names=("rsyslog",))
    installed = "rsyslog" in found and found["rsyslog"].complete
    main = observe(Content, path=MAIN) if installed else None
    text = None if main is None else os.fsdecode(main)
    problem = None if text is None else main_problem(text)
    if problem:
        raise NodeError(f"{problem}; restore the distribution's {MAIN} and run again")
    snippets = observe(Snippets)
    others = tuple(path for path in snippets_of(text, snippets) if path != PATH)
    if not server and not installed:
        current()[1].noop("rsyslog is not installed, and there is no log server")
        return
    other_unit = paths_of(observe(Traces, units=(ALIAS,)).get(ALIAS, UnitTraces()))
    todo = files.decide(_files(config, network), others, [UNIT], besides=other_unit)
    if other_unit:
        todo = replace(todo, remove=(*todo.remove, *other_unit), daemon_reload=True)
    because(*listed("install", () if installed else ("rsyslog",)))
    todo = with_restart(todo)
    yield from files.transaction(
        todo,
        check(todo, installed),
        apply(todo, installed),
        noop="rsyslog sends all logs away",
        force=not installed,
        before=put_aside(todo.remove),
    )


def paths_of(traces: UnitTraces) -> tuple[str, ...]:
    """Return the paths of a unit's file and of the links to it."""
    return (*((traces.vendor_file,) if traces.vendor_file else ()), *traces.links)


def with_restart(todo: Plan) -> Plan:
    """Return the plan with a restart in place of a start. This is a pure function.

    A start has no effect if apt has already started rsyslog with the package's own configuration.
    """
    return replace(todo, start=(), restart=(UNIT,) if todo.enable else (*todo.start, *todo.restart))


def check(todo: Plan, installed: bool) -> str:
    """Return the command that checks only a new ``10-all.conf``, "" for no check.

    + installed: whether rsyslogd is installed. If not, there is no check
    """
    staged = next((file.staged for file in todo.write if file.path == PATH), None)
    # The staged file is below /etc/rsyslog.d. AppArmor may forbid rsyslogd to read it elsewhere
    return f"rsyslogd -N1 -f {staged}" if staged and installed else ""


def apply(todo: Plan, installed: bool) -> str:
    """Return the shell commands to run after the new files are in place. This is a pure function.

    + installed: whether rsyslog is installed already
    """
    steps = ["rsyslogd -N1"] if installed else [INSTALL, "rsyslogd -N1"]
    if any(path.endswith(f"/{ALIAS}") for path in todo.remove):
        steps.append(STOP_OTHER)
    if todo.enable:
        # rsyslog has to be enabled before it starts. syslog.socket passes its socket to
        # syslog.service, and only an enabled rsyslog has this alias. Without the socket, rsyslog
        # would log nothing. And rsyslog has to be stopped before it is enabled. If rsyslog got the
        # alias while it runs, systemd would take it for dead and never stop its process
        steps.append(f"systemctl stop {UNIT.name}")
        steps.append(f"systemctl unmask {UNIT.name}; systemctl enable {UNIT.name}")
    return "\n".join(steps)


def put_aside(paths: Iterable[str]) -> str:
    """Return the shell commands that back up files that have changed since their first backup.

    + paths: files that the transaction removes
    """
    lines = [f"keep_other {quote(path)}" for path in paths]
    return "\n".join([ASIDE, *lines]) if lines else ""


def _files(config: str, network: str) -> list[File]:
    """Return the file ``10-all.conf``, and the drop-in for rsyslog.service."""
    return [File(PATH, config), File(NETWORK, network)]
