"""Read facts of the current host. One remote command reads all facts that the run needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from paramiko import SSHException
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, AllArguments
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import FactBase
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta
from pyinfra.api.state import State
from pyinfra.connectors.fake import FakeConnector
from pyinfra.connectors.util import CommandOutput

from chaos_engine.facts.observe import batch, connection
from chaos_engine.facts.observe.answers import HostAnswers
from chaos_engine.facts.observe.arguments import identity, resolved
from chaos_engine.facts.observe.batch import LOCK, MARK, PROBE, marked
from chaos_engine.facts.observe.fact import NodeError, NodeFact
from chaos_engine.facts.observe.host import current, of_host, warn
from chaos_engine.facts.observe.phase import moment
from chaos_engine.facts.observe.progress import Doing, waiting
from chaos_engine.facts.observe.read import Read

T = TypeVar("T")

LOCK_SECONDS = 600
"""The maximum time in seconds that a run waits while an earlier run's command holds `LOCK`."""


def observe(fact: type[FactBase[T]], **arguments: Any) -> T:
    """Return a fact's value on the current host.

    + fact: the fact's class
    + arguments: the arguments of the fact's ``command``; they must be hashable

    Returns the stored value if there is a valid one. Otherwise a remote command reads this fact.
    The same command also reads other facts that the run needs and has not read yet (`want`).
    Returns the fact's ``default()`` if the node lacks the program that the fact requires.

    Raises `NodeError` if the read fails, hangs or gives damaged output. In these cases the function
    never returns the default.

    **Example:** ``cmdline = observe(KernelCmdline)``
    """
    state, host = current()
    answers, who = of_host(HostAnswers), identity(host)
    read = Read.of(fact, **arguments)
    _drop_stale(state, host, answers)
    if (read, who) not in answers.known:
        # In a first deploy most operations change the host, and each change makes the answers
        # invalid. So an operation that follows a change reads only its own facts. Any other
        # operation reads all announced facts
        others = [r for r, i in answers.announced if i == who]
        if answers.changing:
            own = list(answers.operation_reads())
            others = own if read in own else []
        missing = (r for r in [read, *others] if (r, who) not in answers.known)
        _gather(host, answers, who, dict.fromkeys(missing))
    value = answers.known[read, who]
    if isinstance(value, NodeError):
        raise value
    return cast(T, value)


def want(reads: Iterable[Read], global_arguments: AllArguments | None = None) -> None:
    """Announce facts that the run will need, so that the next remote command reads them too.

    + global_arguments: pyinfra's global arguments of the operation that needs the facts. By default
      the global arguments of the current operation
    """
    who = identity(current()[1], global_arguments)
    of_host(HostAnswers).announced.update(dict.fromkeys((read, who) for read in reads))


def expect(operation: OperationMeta, reads: Callable[[], Iterable[Read]]) -> None:
    """Tell `Ahead` which facts a registered operation will read on the current host.

    + operation: the object that pyinfra returned when it registered the operation
    + reads: a function that returns the facts with their arguments
    """
    of_host(HostAnswers).upcoming_reads[operation._hash] = reads


def begin(reads: Callable[[], Iterable[Read]]) -> None:
    """Record the start of an operation that has not changed the current host yet.

    + reads: a function that returns the facts that the operation will read, with their arguments.
      The function is called only if needed
    """
    answers = of_host(HostAnswers)
    answers.operation_reads, answers.changing = reads, False


def gather() -> None:
    """Read all announced facts that have no stored answer yet, by one remote command."""
    state, host = current()
    answers, who = of_host(HostAnswers), identity(host)
    _drop_stale(state, host, answers)
    missing = [r for r, i in answers.announced if i == who and (r, i) not in answers.known]
    if missing:
        _gather(host, answers, who, missing)


def note_change() -> None:
    """Prepare the stored answers for a change of the host by the current operation.

    Drops all answers except those about other machines. The next call of `observe` will read only
    the facts of its own operation, not all facts that the run has announced.
    """
    answers = of_host(HostAnswers)
    answers.drop_changed()
    answers.changing, answers.answered_ahead = True, None


def forget() -> None:
    """Drop all answers of the current host, for example after a reboot."""
    answers = of_host(HostAnswers)
    answers.known.clear()
    answers.changing = False


def _drop_stale(state: State, host: Host, answers: HostAnswers) -> None:
    """Drop a host's answers that may be outdated because of a change or because of their age."""
    before, answers.last_moment = answers.last_moment, moment()
    stage, executed = answers.last_moment
    # After the preview pyinfra asks the user whether to go on. The host may change in this time
    resumed = before is not None and before[0] != stage and state.should_check_for_changes()  # type: ignore[no-untyped-call]
    if before is None or resumed:
        answers.known.clear()
    answers.drop_old()
    # pyinfra counts the commands of a nested operation only when the outer operation has ended
    if before is not None and (before[1] != executed or host.nested_executing_op_hash):
        if answers.answered_ahead != answers.last_moment or host.nested_executing_op_hash:
            answers.drop_changed()
        answers.changing = before[0] == stage


def _gather(host: Host, answers: HostAnswers, who: tuple[str, ...], reads: Iterable[Read]) -> None:
    """Read facts on a host, and store their values under the identity `who`."""
    if isinstance(host.connector, FakeConnector):  # gives a prepared answer to each command
        made = {read: host.get_fact(read.fact, **dict(read.arguments)) for read in reads}
    else:
        made = _read(host, tuple(reads))
    answers.keep(made, who)


def _read(host: Host, reads: tuple[Read, ...]) -> dict[Read, Any]:
    """Read facts by one remote command, and return their values.

    Some facts may get no answer, or may fail because they were combined with other facts. A second
    remote command reads these facts one by one. The value of a fact that cannot be read is a
    `NodeError`.
    """
    questions = batch.combined(reads)
    answered = _ask(host, questions)
    values = batch.values_of(reads, questions, answered)
    # One thing, such as a path on a dead share, can make a combined read fail. A read that hangs
    # can keep later reads from running. So a second command makes these reads again. There each
    # read is separate, and has a time limit of its own
    failed = (r for r in reads if r not in values or isinstance(values[r], NodeError))
    again = [read for read in failed if read not in answered]
    if again:
        values |= _ask(host, again, apart=True)
    return values


def _ask(host: Host, reads: Iterable[Read], apart: bool = False) -> dict[Read, Any]:
    """Read facts by one remote command, and return their values.

    The value of a fact that cannot be read is a `NodeError`.

    + apart: whether each fact has a time limit of its own. By default one limit applies to all
      facts together. Facts that are not read within this limit are missing in the result

    Raises `NodeError` if the node gives no valid answer.
    """
    questions = tuple(reads)
    given = resolved(host)
    arguments = {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if key in given}
    arguments.pop("_stdin", None)
    problem = connection.unsupported_arguments(arguments)
    if problem:
        raise NodeError(problem)
    with waiting(host, _doing(questions)) as doing:
        output = _run_batch(host, questions, apart, arguments, doing)
    try:
        parts = batch.split(output.stdout_lines)
    except ValueError as error:
        damaged = f"damaged: {error}; run again" if marked(output.stdout_lines) else ""
        problem = connection.problem_of(host) or damaged or connection.silence_problem(output)
        raise NodeError(f"the node's state could not be read: {problem}") from error
    if current()[0].print_fact_info:
        host.log(f"Loaded {len(parts)} facts")
    if apart and len(parts) != len(questions):
        raise NodeError("the node's state could not be read: the answer is incomplete; run again")
    return {read: batch.value_of(read, one) for read, one in zip(questions, parts, strict=False)}


def _doing(reads: Iterable[Read]) -> str:
    """Return what the node does while it reads these facts (`NodeFact.doing`)."""
    facts = (read.fact for read in reads)
    own = (fact.doing for fact in facts if issubclass(fact, NodeFact) and fact.doing)
    return next(own, "reading the node")


def _run_batch(
    host: Host, reads: tuple[Read, ...], apart: bool, arguments: Mapping[str, Any], doing: Doing
) -> CommandOutput:
    """Run the script that reads several facts, and return its output.

    Waits while a command of an earlier run still runs on the host.

    + arguments: pyinfra's global arguments for the connector
    + doing: the step whose progress is shown
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            if not host.connected:
                host.connect(reason="to read the node", raise_exceptions=True)
            connection.prepare(host, arguments)
            output = _run_script(host, batch.script(reads, apart), arguments)
            answer = marked(output.stdout_lines)
            if not answer and connection.clear_obstacle(host, arguments, output):
                continue
        except (EOFError, OSError, SSHException, PyinfraError) as error:
            problem = connection.problem_of(host, error)
            raise NodeError(f"the node's state could not be read: {problem}") from error
        if "changed" in answer:
            raise NodeError(
                "scripts arrive changed on the node: the login shell, or a shell that it starts, "
                "reads quotes differently from sh (fish, for example); set another login shell: "
                "chsh -s /bin/bash"
            )
        if "busy" not in answer:
            return output
        if time.monotonic() > deadline:
            raise NodeError(
                "a command of an interrupted run is still running on the node; wait until it ends, "
                f"or kill the process that lslocks shows for {LOCK}; then run again"
            )
        warn("a command of an interrupted run is still running on the node; waiting until it ends")
        doing.now("waiting for a command of an interrupted run", LOCK_SECONDS)


def _run_script(
    host: Host, text: str, arguments: Mapping[str, Any], retry: bool = True
) -> CommandOutput:
    """Run a script and return its output.

    If a program such as sudo refuses to run the script, return that program's output.

    The script is sent by standard input. If the script were an argument, sudo would log it, and it
    could be too long.
    """
    state = current()[0]
    shown = {"print_output": state.print_fact_output, "print_input": state.print_fact_input}

    def run(command: StringCommand, **more: Any) -> CommandOutput:
        return host.run_shell_command(command, **shown, **arguments, **more)[1]

    try:
        return run(StringCommand("sh -s", QuoteString(PROBE)), _stdin=[text])
    except OSError as error:
        if not retry or isinstance(error, TimeoutError) or connection.problem_of(host):
            raise
    # sudo's message is lost if sudo ends before all input is sent. So a second command runs without
    # input. If sudo refuses this command too, the output has sudo's message
    output = run(StringCommand(f"echo; echo {MARK} runs"))
    runs = "runs" in marked(output.stdout_lines)
    return _run_script(host, text, arguments, retry=False) if runs else output
