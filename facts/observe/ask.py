"""Ask the current host for facts: all that the run will want by one remote command."""

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
from chaos_engine.facts.observe.connection import prepare, repaired, silence, trouble, unsupported
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
"""A node on which an earlier run is still at work after so many seconds is given up."""


def observe(fact: type[FactBase[T]], **arguments: Any) -> T:
    """The fact's value on the current host, from what is known or by one gathered read.

    + fact: the fact's class
    + arguments: of its ``command``, hashable

    A program that the fact requires and the node lacks gives the fact's ``default()``. Raises
    `NodeError` if the node cannot be read: a failed, hung or damaged read never becomes a default.

    **Example:** ``cmdline = observe(KernelCmdline)``
    """
    state, host = current()
    answers, who = part(Answers), identity(host)
    read = Read.of(fact, **arguments)
    _drop_stale(state, host, answers)
    if (read, who) not in answers.known:
        # One change is often followed by another, as in a first deploy: then all but the
        # operation's own reads would be in vain. Once one has changed nothing, all is read again.
        also = [r for r, i in answers.wanted if i == who]
        if answers.changing:
            also = own if read in (own := list(answers.own())) else []
        missing = (r for r in [read, *also] if (r, who) not in answers.known)
        _gather(state, host, answers, who, dict.fromkeys(missing))
    value = answers.known[read, who]
    if isinstance(value, NodeError):
        raise value
    return cast(T, value)


def want(reads: Iterable[Read], global_arguments: AllArguments | None = None) -> None:
    """Say that the run will `observe` these, so that the next gathered read includes them.

    + global_arguments: pyinfra's, of the operation that will; else those of the one at work
    """
    who = identity(current()[1], global_arguments)
    part(Answers).wanted.update(dict.fromkeys((read, who) for read in reads))


def expect(operation: OperationMeta, reads: Callable[[], Iterable[Read]]) -> None:
    """Say that an operation was registered for the current host.

    + reads: says what it will `observe`
    """
    part(Answers).coming[operation._hash] = reads


def begin(reads: Callable[[], Iterable[Read]]) -> None:
    """Say that an operation begins on the current host.

    + reads: says what it will `observe`; called only if that matters
    """
    answers = part(Answers)
    answers.own, answers.changing = reads, False


def gather() -> None:
    """Read all that is wanted and not known of the current host, in one remote command."""
    state, host = current()
    answers, who = part(Answers), identity(host)
    _drop_stale(state, host, answers)
    missing = [r for r, i in answers.wanted if i == who and (r, i) not in answers.known]
    if missing:
        _gather(state, host, answers, who, missing)


def note_change() -> None:
    """Say that the operation at work changes the current host now."""
    answers = part(Answers)
    answers.drop_changed()
    answers.changing, answers.ahead = True, None


def forget() -> None:
    """Drop all that is known of the current host, such as after a reboot."""
    answers = part(Answers)
    answers.known.clear()
    answers.changing = False


def _drop_stale(state: State, host: Host, answers: Answers) -> None:
    before, answers.stamp = answers.stamp, moment()
    stage, executed = answers.stamp
    # Before a run that was preanswersed people wait at the prompt, or fix what it has listed.
    resumed = before is not None and before[0] != stage and state.should_check_for_changes()  # type: ignore[no-untyped-call]
    if before is None or resumed:
        answers.known.clear()
    answers.drop_old()
    # Inside a nested operation commands have run that the count does not show yet.
    if before is not None and (before[1] != executed or host.nested_executing_op_hash):
        if answers.ahead != answers.stamp or host.nested_executing_op_hash:
            answers.drop_changed()
        answers.changing = before[0] == stage


def _gather(
    state: State,
    host: Host,
    answers: Answers,
    who: tuple[str, ...],
    reads: Iterable[Read],
) -> None:
    if isinstance(host.connector, FakeConnector):  # its scripted answers are per command
        for read in reads:
            answers.learn([read], who, host.get_fact(read.fact, **dict(read.arguments)))
        return
    questions = combined(reads)
    values = _ask(host, questions)
    # What spoils a combined read, such as a path on a dead share, shall not spoil the others; nor
    # shall a part that hangs those behind it
    failed = (q for q in questions if q not in values or isinstance(values[q], NodeError))
    apart = [read for question in failed for read in questions[question] if read not in values]
    if apart:
        values |= _ask(host, apart, apart=True)
    for question, answered in questions.items():
        for read in answered:
            answers.learn([read], who, values[read] if read in values else values[question])


def _ask(host: Host, reads: Iterable[Read], apart: bool = False) -> dict[Read, Any]:
    """The answer to each read, a `NodeError` where there is none, by one remote command.

    Unless they are asked `apart`, those are missing that did not come in the time of all.
    """
    batch = tuple(reads)
    parts = _parts(host, batch, apart)
    if apart and len(parts) != len(batch):
        raise NodeError("its state could not be read: the answer is cut short; run again")
    return {read: value_of(read, part) for read, part in zip(batch, parts, strict=False)}


def _parts(host: Host, batch: tuple[Read, ...], apart: bool) -> list[Part]:
    """The parts of a batch, once no earlier run is at work on the node."""
    given = resolved(host)
    arguments = {key: given[key] for key in CONNECTOR_ARGUMENT_KEYS if key in given}
    arguments.pop("_stdin", None)
    problem = unsupported(arguments)
    if problem:
        raise NodeError(problem)
    with waiting(host, "reading its state") as doing:
        output = _read(host, batch, apart, arguments, doing)
    answer = marked(output.stdout_lines)
    try:
        parts = split(output.stdout_lines)
    except ValueError as error:
        why = trouble(host) or (f"damaged: {error}; run again" if answer else silence(output))
        raise NodeError(f"its state could not be read: {why}") from error
    if current()[0].print_fact_info:
        host.log(f"Loaded {len(parts)} facts")
    return parts


def _read(
    host: Host, batch: tuple[Read, ...], apart: bool, arguments: Mapping[str, Any], doing: Doing
) -> CommandOutput:
    """What a batch's script put out, once no earlier run is at work on the node."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            if not host.connected:
                host.connect(reason="to read its state", raise_exceptions=True)
            prepare(host, arguments)
            output = _answered(host, script(batch, apart), arguments)
            answer = marked(output.stdout_lines)
            if not answer and repaired(host, arguments, output):
                continue
        except (EOFError, OSError, SSHException, PyinfraError) as error:
            raise NodeError(f"its state could not be read: {trouble(host, error)}") from error
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


def _answered(
    host: Host, text: str, arguments: Mapping[str, Any], again: bool = True
) -> CommandOutput:
    """What a script put out that comes by standard input, or what has refused to run it.

    In its arguments sudo would log it, and they have a limit.
    """
    state = current()[0]
    shown = {"print_output": state.print_fact_output, "print_input": state.print_fact_input}

    def run(command: StringCommand, **more: Any) -> CommandOutput:
        return host.run_shell_command(command, **shown, **arguments, **more)[1]

    try:
        return run(StringCommand("sh -s", QuoteString(PROBE)), _stdin=[text])
    except OSError as error:
        if not again or isinstance(error, TimeoutError) or trouble(host):
            raise
    # What refuses it may be gone before all is sent: have it say why, with nothing to send
    output = run(StringCommand(f"echo; echo {MARK} runs"))
    runs = "runs" in marked(output.stdout_lines)
    return _answered(host, text, arguments, again=False) if runs else output
