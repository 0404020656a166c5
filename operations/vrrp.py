"""Run keepalived. It chooses which of several proxies owns the Kubernetes API's address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from chaos_engine.facts.haproxy import RUN as RUN_OF_HAPROXY
from chaos_engine.facts.haproxy import SEVERAL
from chaos_engine.facts.observe import NodeError, Read, observe
from chaos_engine.facts.systemd import RECORDS, checksum
from chaos_engine.facts.text import setting
from chaos_engine.facts.unit_traces import UNITS
from chaos_engine.facts.vrrp import CONFIG, RUN, VRRP, OtherRouter, RunningPeers
from chaos_engine.operations import files
from chaos_engine.operations.engine.arguments import Address, LinkName
from chaos_engine.operations.engine.converge import Commands, converge
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.files import File, Plan, Unit
from chaos_engine.operations.rolling.turns import one_proxy_at_a_time
from chaos_engine.operations.undo import Undo

PROGRAM = "/usr/sbin/haproxy_vrrp.sh"
UNIT_FILE = f"{UNITS}/{VRRP}"

UNIT = Unit(VRRP, reads=(CONFIG,), ready=f"{PROGRAM} await")

WRITTEN = (CONFIG, PROGRAM, UNIT_FILE, UNIT.record.path)
"""The paths that `run_vrrp` writes."""

LEFT = (*WRITTEN, SEVERAL)
"""The paths that `remove_vrrp` removes. keepalived calls the script `SEVERAL`, which `run_haproxy`
writes. As long as HAProxy's container is that of one of several proxies, this script renews the
container's address each second."""


def reads(wanted: Iterable[File], interface: str, number: int, peers: Iterable[str]) -> list[Read]:
    """Return the facts that `run_vrrp` reads when called with these arguments."""
    return [
        Read.of(OtherRouter, interface=interface, number=number),
        Read.of(RunningPeers, wanted=tuple(peers)),
        *files.reads(wanted, units=[UNIT]),
    ]


@converge(reads=reads)
def run_vrrp(
    wanted: Iterable[File], interface: LinkName, number: int, peers: Iterable[Address]
) -> Commands:
    """Run keepalived with the wanted configuration.

    + wanted: three files: keepalived's configuration `CONFIG`, keepalived's unit file, and the
      script `PROGRAM`. The script runs keepalived
    + interface: the network interface of the LAN
    + number: VRRP's number for the address (virtual router ID), from 1 to 255
    + peers: addresses of the other proxies

    keepalived checks a new configuration before the old one is replaced. If only the configuration
    changes, keepalived reloads it and keeps the address. Raises `NodeError` if another router on
    the LAN already uses the number when keepalived is set up. Also raises `NodeError` if a former
    proxy still takes part in VRRP. A former proxy is a node that was a proxy at the last deploy,
    but is not one of `peers`.

    **Example:** ``run_vrrp(name="Run keepalived", wanted=[...], interface="eth0", number=60, ...)``
    """
    wanted = tuple(wanted)
    if router := observe(OtherRouter, interface=interface, number=number):
        raise NodeError(
            f"the VRRP router {router} on the LAN of {interface} uses the number {number} already; "
            f"choose another {setting('vrrp_id')}, the same for all proxies"
        )
    _refuse_other_peers(peers)
    todo, reload = with_reload(files.decide(wanted, units=[UNIT]))
    commands = files.transaction(
        todo,
        check(todo),
        reload_command() if reload else "",
        noop=f"{VRRP}: as wanted",
        force=reload,
    )
    # A restart moves the address, so another proxy has to be ready to take it
    yield from one_proxy_at_a_time(commands) if todo.restart else commands


def with_reload(todo: Plan) -> tuple[Plan, bool]:
    """Take keepalived's restart out of a plan if a reload is enough. This is a pure function.

    Return the plan, and whether to reload. A reload is enough if only the configuration differs. A
    restart would move the address to another proxy.
    """
    rest = {file.path for file in todo.write} - {CONFIG}
    if UNIT not in todo.restart or rest or todo.daemon_reload:
        return todo, False
    why = tuple(line.replace(f"restart {VRRP}", f"reload {VRRP}", 1) for line in todo.why)
    others = tuple(unit for unit in todo.restart if unit != UNIT)
    return replace(todo, restart=others, why=why), True


def reload_command() -> str:
    """Return the shell commands that make keepalived reload its configuration.

    They also record the configuration's checksum, as the unit does when it starts.
    """
    record = f"{RECORDS}/{VRRP}"
    return (
        f"systemctl reload -- {VRRP}\n"
        f"{checksum(UNIT.reads).get_raw_value()} >{record}.new; mv -f {record}.new {record}"
    )


def check(todo: Plan) -> str:
    """Return a shell command that fails if the new files are bad, "" if no file needs a check."""
    written = {file.path for file in todo.write}
    commands = [f'sh -n "$stage"{PROGRAM}'] if PROGRAM in written else []
    if CONFIG in written:
        # keepalived refuses a configuration whose script or tracked file is missing. Both may be
        # made later, so keepalived checks a copy that names existing files. The copy names
        # /usr/bin/true, because keepalived accepts no script behind a link, and /bin is a link
        commands.append(
            'echo 0 >"$stage/down"\n'
            f"""sed -e 's#"{SEVERAL} [a-z]*"#/usr/bin/true#' -e "s#{RUN_OF_HAPROXY}/down#"""
            f"""$stage/down#" "$stage"{CONFIG} >"$stage/keepalived.conf"\n"""
            'keepalived --config-test --use-file "$stage/keepalived.conf"'
        )
    return "\n".join(commands)


@converge(reads=lambda: [*files.reads(absent=LEFT), Read.of(RunningPeers, wanted=())])
def remove_vrrp() -> Commands:
    """Stop keepalived, and remove the files that `run_vrrp` has written, and the script `SEVERAL`.

    The package keepalived stays installed.

    Raises `NodeError` if another node that was a proxy at the last deploy still takes part in VRRP.

    **Example:** ``remove_vrrp(name="Remove VRRP")``
    """
    _refuse_other_peers(())
    todo, stop = files.decide_removal(VRRP, LEFT, why=": there is only one proxy")
    if stop:
        because("leave the package keepalived installed")
    yield from files.transaction(
        todo,
        before=stop,
        apply=f"rm -rf -- {RUN}" if stop else "",
        noop="this node is the only proxy",
    )


def _refuse_other_peers(peers: Iterable[str]) -> None:
    """Raise `NodeError` if a node that is no longer a proxy still takes part in VRRP.

    + peers: addresses of the other wanted proxies

    A former proxy takes the API's address as soon as no VRRP adverts reach the former proxy. Two
    nodes would have the same address.
    """
    left = observe(RunningPeers, wanted=tuple(peers))
    if left:
        several = len(left) > 1
        raise NodeError(
            f"{' and '.join(left)} {'were proxies' if several else 'was a proxy'} until now, still "
            f"{'run as proxies' if several else 'runs as a proxy'}, and would take the API's "
            f"address too. Before {'they leave' if several else 'it leaves'} the group proxy of "
            "the inventory, undo the concerns haproxy and vrrp on each former proxy, or run on "
            f"each former proxy: systemctl disable --now docker_haproxy {VRRP}"
        )


UNDO = Undo(
    first=f"stop_unit {VRRP}",
    last=f"rm -rf -- {RUN}",
)
