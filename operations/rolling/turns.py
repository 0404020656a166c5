"""Do work that stops pods in the node's turn: drain the node, work, check it and uncordon it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from paramiko import SSHException
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.api.util import print_host_combined_output

from chaos_engine.facts.observe import NodeError, Read, current, observe, warn
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.standing import NOTE, Standing, StandingState
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.converge import Commands, converge, fail_host
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.remote import run
from chaos_engine.operations.rolling.cordon import Departure, Rolling, come_back, leave
from chaos_engine.operations.rolling.gate import gate
from chaos_engine.operations.rolling.kubectl import ClusterError

Work = Callable[["State", "Host"], str]
"""Work on a node; it returns what went wrong, "" if nothing did."""

READ = Read.of(Standing)
"""The read of each operation that calls `in_turn` or `node_standing`."""


def node_standing(rolling: Rolling) -> StandingState:
    """Return how the current host stands in its cluster.

    If the host does not work, the other nodes of its cluster take no turn until it works.
    """
    state, host = current()
    found = observe(Standing)
    gate(state, rolling.batch).remember(host.name, found.problems)
    return found


def in_turn(commands: Commands, rolling: Rolling, stops_pods: bool) -> Commands:
    """Yield an operation's commands; on a joined node, each runs in the node's turn.

    + commands: what the operation would yield without turns
    + rolling: how the node is drained
    + stops_pods: whether the commands stop pods, or a service that pods need. Other commands run
      without a turn

    **Example:** ``yield from in_turn(transaction(...), rolling, bool(plan.restart))``
    """
    found = node_standing(rolling)
    for command in commands:
        if not (found.joined and stops_pods):
            yield command
            continue
        if rolling.kubectl is None:
            warn(
                f"nodes have joined a cluster, and {setting('kubeconfig')} is not set: services "
                "are restarted on one node after the other, without draining the nodes",
                of_node=False,
            )
        work = partial(_perform, command)
        yield FunctionCommand(take_turn, (rolling, found, "restarted", work), {})


def take_turn(
    state: State, host: Host, rolling: Rolling, before: StandingState, done: str, work: Work
) -> bool:
    """Do some work on a node in its turn; if it cannot be done, print why and fail the host.

    + before: how the node stands in its cluster. A node that has not joined one is neither drained
      nor checked
    + done: what the work does to the node, as a participle for messages: "rebooted"
    + work: the function that does the work

    After a turn has gone wrong, no other node of the cluster takes one in this run.
    """
    turns = gate(state, rolling.batch)
    with ExitStack() as held:
        with waiting(host, turns.what_it_waits_for):
            held.enter_context(turns.turn(host.name, rolling.lane, before.joined))
        if before.joined and (why := turns.why_closed(host.name)):
            return fail_host(state, host, f"not {done}, because {why}; fix that and run again")
        try:
            if before.joined:
                problem = attempt(lambda: _drain_and_work(state, host, rolling, before, work))
            else:
                problem = attempt(lambda: work(state, host))
        except BaseException:
            turns.failed = f"{host.name}: its turn was cut short"
            raise
        if before.joined:
            turns.failed = turns.failed or (problem and f"{host.name}: {problem}")
    return fail_host(state, host, problem) if problem else True


@converge(reads=lambda *args, **kwargs: [READ])
def uncordon_node(rolling: Rolling, last: bool = False) -> Commands:
    """Uncordon the node if it works and an interrupted run has left it cordoned.

    + last: whether this is the last operation of the run

    A run has two of these operations. The first one uncordons a node that works. The last one
    uncordons a node that the operations between them have fixed; it fails if the node still does
    not work.

    **Example:** ``uncordon_node(name="Uncordon node", rolling=Rolling(...))``
    """
    state, host = current()
    found, turns = node_standing(rolling), gate(state, rolling.batch)
    if not found.cordoned:
        host.noop("no run has left it cordoned")
    elif rolling.kubectl is None:
        warn(
            f"an earlier run has left this node cordoned; set {setting('kubeconfig')} and run "
            f"again, or uncordon it yourself and remove {NOTE}"
        )
    elif last:
        if found.problems or host.name not in turns.to_uncordon or state.is_executing:
            because(f"uncordon {rolling.node}, which an earlier run has cordoned")
            yield FunctionCommand(_come_back, (rolling,), {})
    elif found.problems:
        warn(f"left cordoned by an earlier run: {'; '.join(found.problems.values())}")
    else:
        turns.to_uncordon.add(host.name)
        because(f"uncordon {rolling.node}, which an earlier run has cordoned")
        yield FunctionCommand(_come_back, (rolling,), {})


def attempt(work: Callable[[], str]) -> str:
    """Do some work; return what went wrong, "" if nothing did.

    Errors that a node or its cluster can cause are returned too, in words.
    """
    try:
        return work()
    except (NodeError, ClusterError, OSError, SSHException) as error:
        return str(error) or type(error).__name__


def _drain_and_work(
    state: State, host: Host, rolling: Rolling, before: StandingState, work: Work
) -> str:
    """Drain a node, do the work, and uncordon it; return what went wrong, "" if nothing did."""
    departure = leave(host, rolling, before)
    problem = attempt(lambda: work(state, host))
    # also if the work went wrong, because the node may still run its pods as before
    others = attempt(lambda: come_back(host, rolling, departure, before.problems))
    return "; ".join(filter(None, (problem, others)))


def _come_back(state: State, host: Host, rolling: Rolling) -> bool:
    """Wait until a node works, and uncordon it. An earlier run has left it cordoned."""
    problem = attempt(lambda: come_back(host, rolling, Departure(ours=True, ready=True), {}))
    if not problem:
        return True
    gate(state, rolling.batch).failed = f"{host.name}: {problem}"
    return fail_host(state, host, problem)


def _perform(command: StringCommand, state: State, host: Host) -> str:
    """Run an operation's command as pyinfra does; return what went wrong, "" if nothing did."""
    done, output = run(host, command)
    if done:
        return ""
    if not state.print_output:
        print_host_combined_output(host, output)
    lines = [line for line in output.stderr_lines if line.strip()]
    return lines[-1] if lines else "its command failed"
