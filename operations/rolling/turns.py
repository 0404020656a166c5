"""Limit work that stops pods to a few nodes of a cluster at a time.

Each node waits for its turn. The node is drained before the work, and checked and uncordoned after
the work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from paramiko import SSHException
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.host import Host
from pyinfra.api.state import State
from pyinfra.api.util import print_host_combined_output

from chaos_engine.facts.observe import NodeError, Read, current, forget, observe, warn
from chaos_engine.facts.observe.progress import waiting
from chaos_engine.facts.standing import NOTE, Standing, StandingState
from chaos_engine.facts.text import setting
from chaos_engine.operations.engine.converge import Commands, converge, fail_host
from chaos_engine.operations.engine.reasons import because
from chaos_engine.operations.engine.remote import run
from chaos_engine.operations.rolling.cluster_turn import (
    ClusterTurn,
    await_others,
    cluster_turn,
    is_of_another_run,
)
from chaos_engine.operations.rolling.cordon import (
    Departure,
    Rolling,
    await_proxy,
    come_back,
    leave,
    proxy_problems,
    read_standing,
)
from chaos_engine.operations.rolling.gate import Gate, gate
from chaos_engine.operations.rolling.kubectl import ClusterError

Work = Callable[["State", "Host"], str]
"""A function that does work on a node. It returns the problem, "" if there was none."""

READ = Read.of(Standing)
"""The fact that an operation has to declare in its `reads` if it calls `in_turn` or
`node_standing`."""


def node_standing(rolling: Rolling) -> StandingState:
    """Return the current host's state in its cluster. Store the host's problems in the `Gate`.

    While a node of the cluster has problems, only nodes with problems may take a turn. Problems of
    a node that is at work in another run do not count.
    """
    state, host = current()
    found = observe(Standing)
    elsewhere = bool(found.problems) and is_of_another_run(rolling)
    if found.problems and rolling.kubectl and not elsewhere:
        # The other run's turn may have ended after the facts were read
        forget()
        found = observe(Standing)
    gate(state, rolling.batch).remember(host.name, {} if elsewhere else found.problems)
    return found


def in_turn(commands: Commands, rolling: Rolling, stops_pods: bool) -> Commands:
    """Yield an operation's commands. On a node of a cluster, each command runs in a turn.

    + commands: the operation's commands
    + rolling: how the node is drained
    + stops_pods: whether the commands stop pods or stop a service that pods need. If false, the
      commands run without a turn

    If the node is one of several proxies, its commands run in turns even before the node has joined
    a cluster.

    **Example:** ``yield from in_turn(transaction(...), rolling, bool(plan.restart))``
    """
    found = node_standing(rolling)
    for command in commands:
        if not ((found.joined or rolling.one_of_several) and stops_pods):
            yield command
            continue
        if found.joined and rolling.kubectl is None:
            warn(
                f"{setting('kubeconfig')} is not set, so nodes that have joined a cluster are not "
                "drained; their services are restarted on one node after the other, and other runs "
                "do not wait for that",
                of_node=False,
            )
        work = partial(perform, command)
        yield FunctionCommand(take_turn, (rolling, found, "restarted", work), {})


def take_turn(
    state: State, host: Host, rolling: Rolling, before: StandingState, done: str, work: Work
) -> bool:
    """Do work on a node in the node's turn. If the turn fails, print why and fail the host.

    + before: the node's state in its cluster. A node that has joined a cluster is drained before
      the work and checked after the work. A node without a cluster is not drained, and is checked
      only if the node is one of several proxies
    + done: a participle that names the work in messages, such as "rebooted"
    + work: the function that does the work

    With a kubeconfig, the turn also holds between runs (`cluster_turn`). After a turn has failed,
    no other node of the cluster takes a turn in this run.
    """
    turns = gate(state, rolling.batch)
    depends = before.joined or rolling.one_of_several
    with ExitStack() as held:
        with waiting(host, turns.what_it_waits_for):
            held.enter_context(turns.turn(host.name, rolling.lane, before.joined))
        try:
            if depends:
                _check_open(turns, host, done)
            if before.joined:
                problem = attempt(lambda: _drain_and_work(state, host, rolling, before, done, work))
            elif rolling.one_of_several:
                problem = attempt(lambda: _work_on_proxy(state, host, work))
            else:
                problem = attempt(lambda: work(state, host))
        except _ClosedError as closed:
            return fail_host(state, host, str(closed))
        except BaseException:
            turns.failed = f"{host.name}: its turn was interrupted"
            raise
        if depends:
            turns.failed = turns.failed or (problem and f"{host.name}: {problem}")
    return fail_host(state, host, problem) if problem else True


def one_proxy_at_a_time(commands: Commands) -> Commands:
    """Yield an operation's commands. Only one proxy of the run executes them at a time.

    + commands: the operation's commands. A command must not end before the proxy can take over the
      API's address again

    The nodes are not drained. After a command has failed on one proxy, no other proxy executes
    commands.

    **Example:** ``yield from one_proxy_at_a_time(transaction(...))``
    """
    for command in commands:
        yield FunctionCommand(_take_turn_of_proxy, (command,), {})


def _take_turn_of_proxy(state: State, host: Host, command: StringCommand) -> bool:
    """Run a command on a proxy while no other proxy of the run executes a command.

    If the command fails, the function prints the problem and fails the host.
    """
    turns = gate(state, 1)
    with ExitStack() as held:
        with waiting(host, turns.what_it_waits_for):
            held.enter_context(turns.turn(host.name, "proxy", joined=False))
        if turns.failed:
            problem = f"not done, because of a problem on {turns.failed}; fix it and run again"
        elif problem := attempt(lambda: perform(command, state, host)):
            turns.failed = f"{host.name}: {problem}"
    return fail_host(state, host, problem) if problem else True


@converge(reads=lambda *args, **kwargs: [READ])
def uncordon_node(rolling: Rolling, last: bool = False) -> Commands:
    """Uncordon the node if it works and an interrupted run has left it cordoned.

    + last: whether this is the last operation of the run

    A run calls this operation twice. The first call uncordons a node that works. The last call
    uncordons a node that other operations of the run have fixed. It fails if the node still does
    not work.

    **Example:** ``uncordon_node(name="Uncordon node", rolling=Rolling(...))``
    """
    state, host = current()
    found, turns = node_standing(rolling), gate(state, rolling.batch)
    if not found.cordoned:
        host.noop("no run has left the node cordoned")
    elif rolling.kubectl is None:
        warn(
            f"an earlier run has left this node cordoned; set {setting('kubeconfig')} and run "
            f"again, or uncordon the node yourself and remove the file {NOTE} from it"
        )
    elif last:
        if found.problems or host.name not in turns.to_uncordon or state.is_executing:
            because(f"uncordon {rolling.node}, which an earlier run has cordoned")
            yield FunctionCommand(_come_back, (rolling,), {})
    elif found.problems:
        problems = "; ".join(found.problems.values())
        warn(f"an earlier run has left this node cordoned, and the node has a problem: {problems}")
    else:
        turns.to_uncordon.add(host.name)
        because(f"uncordon {rolling.node}, which an earlier run has cordoned")
        yield FunctionCommand(_come_back, (rolling,), {})


def attempt(work: Callable[[], str]) -> str:
    """Call `work`; return its problem, "" if there is none.

    Errors that a node, its connection or its cluster can cause are not raised. Their text is
    returned as the problem.
    """
    try:
        return work()
    except (NodeError, ClusterError, OSError, SSHException) as error:
        return str(error) or type(error).__name__


class _ClosedError(Exception):
    """A node must not take its turn, because of a problem on another node."""


def _check_open(turns: Gate, host: Host, done: str) -> None:
    """Raise `_ClosedError` if the host must not take its turn now."""
    if why := turns.why_closed(host.name):
        raise _ClosedError(
            f"not {done}, because of a problem on {why}; fix the problem and run again"
        )


def _drain_and_work(
    state: State, host: Host, rolling: Rolling, before: StandingState, done: str, work: Work
) -> str:
    """Take the Leases of a node's turn, drain the node, do the work, and uncordon the node.

    Returns the problems, "" for none. Raises `_ClosedError` if the node must not take its turn.
    """
    with cluster_turn(host, rolling) as shared:
        if rolling.kubectl and (shared.waited or before.problems):
            # Another run may have been at work on the node when its state was read
            before = read_standing(host)
            turns = gate(state, rolling.batch)
            turns.remember(host.name, before.problems)
            _check_open(turns, host, done)
        problem = attempt(lambda: _leave_and_work(state, host, rolling, before, work, shared))
    return "; ".join(filter(None, (problem, shared.problem)))


def _leave_and_work(
    state: State,
    host: Host,
    rolling: Rolling,
    before: StandingState,
    work: Work,
    shared: ClusterTurn,
) -> str:
    """Drain a node, do the work, and uncordon the node; return the problems, "" for none.

    + shared: the Leases of the node's turn. Without them, the work is not started
    """
    departure = leave(host, rolling, before)
    problem = shared.confirm() or attempt(lambda: work(state, host))
    # The node is uncordoned even if the work has failed, because pods may run on it as before
    others = attempt(lambda: come_back(host, rolling, departure, before.problems))
    return "; ".join(filter(None, (problem, others)))


def _work_on_proxy(state: State, host: Host, work: Work) -> str:
    """Do the work on a proxy that has not joined a cluster; return the problems, "" for none.

    Before the work, the function checks whether the proxy can take over the API's address. If the
    proxy can, the function waits after the work until the proxy can take over the address again.
    The next proxy may go down only after this wait.
    """
    could = not proxy_problems(host)
    problem = attempt(lambda: work(state, host))
    return "; ".join(filter(None, (problem, await_proxy(host) if could else "")))


def _come_back(state: State, host: Host, rolling: Rolling) -> bool:
    """Uncordon a node that an earlier run has left cordoned, once the node works."""

    def uncordon() -> str:
        if await_others(host, rolling) and not read_standing(host).cordoned:
            return ""  # the run whose turn it was has uncordoned the node
        return come_back(host, rolling, Departure(ours=True, ready=True), {})

    problem = attempt(uncordon)
    if not problem:
        return True
    turns = gate(state, rolling.batch)
    turns.failed = turns.failed or f"{host.name}: {problem}"
    return fail_host(state, host, problem)


def perform(command: StringCommand, state: State, host: Host) -> str:
    """Run an operation's command as pyinfra does; return the problem, "" if there is none."""
    done, output = run(host, command)
    if done:
        return ""
    if not state.print_output:
        print_host_combined_output(host, output)
    lines = [line for line in output.stderr_lines if line.strip()]
    return lines[-1] if lines else "the command failed"
