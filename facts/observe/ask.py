"""Read facts of the current host: all that the run wants, by one remote command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from paramiko import SSHException
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS
from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import FactBase
from pyinfra.connectors.fake import FakeConnector

from chaos_engine.facts.observe.answers import Answers
from chaos_engine.facts.observe.arguments import identity, resolved
from chaos_engine.facts.observe.batch import (
    LOCK,
    MARK,
    PROBE,
    Part,
    Read,
    combined,
    marked,
    script,
    split,
    value_of,
)
from chaos_engine.facts.observe.connection import (
    clear_obstacle,
    prepare,
    problem_of,
    silence_problem,
    unsupported_arguments,
)
from chaos_engine.facts.observe.fact import NodeError
from chaos_engine.facts.observe.host import current, part, warn
from chaos_engine.facts.observe.phase import moment
from chaos_engine.facts.observe.progress import Doing, waiting

if TYPE_CHECKING:
    from pyinfra.api.arguments import AllArguments
    from pyinfra.api.host import Host
    from pyinfra.api.operation import OperationMeta
    from pyinfra.api.state import State
    from pyinfra.connectors.util import CommandOutput

T = TypeVar("T")

LOCK_SECONDS = 600
"""How long a run waits for a command of an earlier run that still holds `LOCK`."""


def observe(fact: type[FactBase[T]], **arguments: Any) -> T:
    """Return a fact's value on the current host: a kept answer, or one read now.

    + fact: the fact's class
    + arguments: of its ``command``, hashable

    A read also includes what the run wants and does not know yet. Returns the fact's ``default()``
    if the node lacks the program that the fact requires. Raises `NodeError` if the node cannot be
    read: a failed, hung or damaged read never becomes a default.

    **Example:** ``cmdline = observe(KernelCmdline)``
    """
    state, host = current()
    answers, who = part(Answers), identity(host)
    read = Read.of(fact, **arguments)
    _drop_stale(state, host, answers)
    if (read, who) not in answers.known:
        # One change often follows another, as in a first deploy, and each outdates answers. So
        # after a change only the operation's own reads are made. Once an operation has changed
        # nothing, all that is wanted is read
        others = [r for r, i in answers.wanted if i == who]
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
    """Announce what the run will `observe`, so that the next remote command reads it too.

    + global_arguments: pyinfra's, of the operation that will observe them; by default those of the
      current operation
    """
    who = identity(current()[1], global_arguments)
    part(Answers).wanted.update(dict.fromkeys((read, who) for read in reads))


def expect(operation: OperationMeta, reads: Callable[[], Iterable[Read]]) -> None:
    """Note that an operation was registered for the current host.

    + reads: returns what it will `observe`
    """
    part(Answers).upcoming_reads[operation._hash] = reads


def begin(reads: Callable[[], Iterable[Read]]) -> None:
    """Note that an operation begins on the current host.

    + reads: returns what it will `observe`; called only if needed
    """
    answers = part(Answers)
    answers.operation_reads, answers.changing = reads, False


def gather() -> None:
    """Read all that is wanted and not known of the current host, by one remote command."""
    state, host = current()
    answers, who = part(Answers), identity(host)
    _drop_stale(state, host, answers)
    missing = [r for r, i in answers.wanted if i == who and (r, i) not in answers.known]
    if missing:
        _gather(host, answers, who, missing)


def note_change() -> None:
    """Note that the current operation changes the current host now."""
    answers = part(Answers)
    answers.drop_changed()
    answers.changing, answers.answered_ahead = True, None


def forget() -> None:
    """Drop all answers of the current host, such as after a reboot."""
    answers = part(Answers)
    answers.known.clear()
    answers.changing = False


def _drop_stale(state: State, host: Host, answers: Answers) -> None:
    before, answers.last_moment = answers.last_moment, moment()
    stage, executed = answers.last_moment
    # After the preview pyinfra asks whether to go on. Meanwhile people fix what it has listed
    resumed = before is not None and before[0] != stage and state.should_check_for_changes()  # type: ignore[no-untyped-call]
    if before is None or resumed:
        answers.known.clear()
    answers.drop_old()
    # Within a nested operation the count does not have the latest commands yet
    if before is not None and (before[1] != executed or host.nested_executing_op_hash):
        if answers.answered_ahead != answers.last_moment or host.nested_executing_op_hash:
            answers.drop_changed()
        answers.changing = before[0] == stage


def _gather(host: Host, answers: Answers, who: tuple[str, ...], reads: Iterable[Read]) -> None:
    if isinstance(host.connector, FakeConnector):  # it has a prepared answer for each command
        for read in reads:
            answers.keep([read], who, host.get_fact(read.fact, **dict(read.arguments)))
        return
    questions = combined(reads)
    values = _ask(host, questions)
    # A thing that makes a combined read fail, such as a path on a dead share, must not make the
    # reads of other things fail; nor must a part that hangs affect the parts behind it
    failed = (q for q in questions if q not in values or isinstance(values[q], NodeError))
    again = [read for question in failed for read in questions[question] if read not in values]
    if again:
        values |= _ask(host, again, apart=True)
    for question, answered_reads in questions.items():
        for read in answered_reads:
            answers.keep([read], who, values[read] if read in values else values[question])


def _ask(host: Host, reads: Iterable[Read], apart: bool = False) -> dict[Read, Any]:
    """Return the answer to each read by one remote command, a `NodeError` for one that failed.

    + apart: whether each read has a time limit of its own. If not, reads that the common limit cut
      off are missing
    """
    batch = tuple(reads)
    parts = _parts(host, batch, apart)
    if apart and len(parts) != len(batch):
        raise NodeError("its state could not be read: the answer is cut short; run again")
    return {read: value_of(read, part) for read, part in zip(batch, parts, strict=False)}


def _parts(host: Host, batch: tuple[Read, ...], apart: bool) -> list[Part]:
    """Return the parts of a batch's answer. Raises `NodeError` if the node cannot be read."""
    given = resolved(host)
    arguments = {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if key in given}
    arguments.pop("_stdin", None)
    problem = unsupported_arguments(arguments)
    if problem:
        raise NodeError(problem)
    with waiting(host, "reading its state") as doing:
        output = _read(host, batch, apart, arguments, doing)
    answer = marked(output.stdout_lines)
    try:
        parts = split(output.stdout_lines)
    except ValueError as error:
        problem = f"damaged: {error}; run again" if answer else silence_problem(output)
        raise NodeError(f"its state could not be read: {problem_of(host) or problem}") from error
    if current()[0].print_fact_info:
        host.log(f"Loaded {len(parts)} facts")
    return parts


def _read(
    host: Host, batch: tuple[Read, ...], apart: bool, arguments: Mapping[str, Any], doing: Doing
) -> CommandOutput:
    """Return the output of a batch's script, once no earlier run works on the node any more."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            if not host.connected:
                host.connect(reason="to read its state", raise_exceptions=True)
            prepare(host, arguments)
            output = _run_script(host, script(batch, apart), arguments)
            answer = marked(output.stdout_lines)
            if not answer and clear_obstacle(host, arguments, output):
                continue
        except (EOFError, OSError, SSHException, PyinfraError) as error:
            raise NodeError(f"its state could not be read: {problem_of(host, error)}") from error
        if "changed" in answer:
            raise NodeError(
                "scripts do not arrive on it as they were sent: its login shell reads quotes in "
                "another way than sh, as fish does, or starts another one; give the user another "
                "one: chsh -s /bin/bash"
            )
        if "busy" not in answer:
            return output
        if time.monotonic() > deadline:
            raise NodeError(
                "an earlier run was ended, but is still at work on it; lslocks tells which process "
                f"has {LOCK}: wait for that, or end it, and run again"
            )
        warn("an earlier run was ended, but is still at work on it; waiting for that")
        doing.now("waiting for an earlier run that is still at work on it", LOCK_SECONDS)


def _run_script(
    host: Host, text: str, arguments: Mapping[str, Any], retry: bool = True
) -> CommandOutput:
    """Return the output of a script, or of what refused to run it.

    The script goes by standard input: sudo would log it if it were an argument, and arguments have
    a size limit.
    """
    state = current()[0]
    shown = {"print_output": state.print_fact_output, "print_input": state.print_fact_input}

    def run(command: StringCommand, **more: Any) -> CommandOutput:
        return host.run_shell_command(command, **shown, **arguments, **more)[1]

    try:
        return run(StringCommand("sh -s", QuoteString(PROBE)), _stdin=[text])
    except OSError as error:
        if not retry or isinstance(error, TimeoutError) or problem_of(host):
            raise
    # sudo may refuse and end before all input is sent, and its message is lost. A command without
    # input shows the message
    output = run(StringCommand(f"echo; echo {MARK} runs"))
    runs = "runs" in marked(output.stdout_lines)
    return _run_script(host, text, arguments, retry=False) if runs else output
