"""The decorator of this package's operations: validate, read, decide, yield.

An operation written with it reads the node by `observe` only, raises `NodeError` for a state that
it does not handle, and yields at most a few commands. That node then fails alone with one line;
pyinfra's own way (a fact that fails) lets the operation go on and act on a default.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import cache, partial, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

from paramiko import SSHException
from pyinfra import logger
from pyinfra.api.arguments import pop_global_arguments
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.connectors.util import CommandOutput
from typing_extensions import ParamSpec, override

from chaos_engine.facts.observe import (
    Ahead,
    NodeError,
    Preparation,
    Read,
    begin,
    current,
    expect,
    note_change,
    part,
    usual_arguments,
    want,
)
from chaos_engine.facts.observe.connection import prepare, trouble
from chaos_engine.facts.observe.host import concern_at_work, in_words, working_for
from chaos_engine.facts.observe.progress import run_shell_command
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.arguments import refuse
from chaos_engine.operations.engine.reasons import Reasons, shortened, tell
from chaos_engine.operations.engine.summary import Verdict

if TYPE_CHECKING:
    from pyinfra.api.arguments_typed import PyinfraOperation
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

P = ParamSpec("P")
Commands = Generator[Any, None, None]


def converge(
    reads: Callable[P, Iterable[Read]],
) -> Callable[[Callable[P, Commands]], PyinfraOperation[P]]:
    """Make an operation of a generator that reads by `observe` and yields commands.

    + reads: called with the operation's own arguments, says what it will `observe`; a pure
      function, so that a role can gather the reads of all its operations in one command

    An argument that does not fit its annotation (see `arguments`) stops the run when the operation
    is called, by pyinfra's ``OperationValueError``.

    **Example:** ``@converge(reads=lambda path: [Read.of(Files, paths=(path,))])``
    """

    def decorate(function: Callable[P, Commands]) -> PyinfraOperation[P]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> Commands:
            state = current()[0]
            begin(partial(reads, *args, **kwargs))
            part(Reasons).given.clear()
            try:
                for command in function(*args, **kwargs):
                    tell()
                    if state.is_executing:  # a retry, or a read after the yield, reads anew
                        note_change()
                    yield _contained(command)
            except NodeError as error:
                yield FunctionCommand(fail_host, (str(error),), {})

        @cache
        def registered(concern: str) -> Any:
            # pyinfra executes an operation when the deploy that called it is over
            @wraps(function)
            def owned(*args: P.args, **kwargs: P.kwargs) -> Commands:
                with working_for(concern):
                    yield from guarded(*args, **kwargs)

            return operation()(owned)

        takes = signature(function)

        def register(args: tuple[Any, ...], kwargs: dict[str, Any]) -> OperationMeta:
            meta = cast(OperationMeta, registered(concern_at_work())(*args, **kwargs))
            own = {key: value for key, value in kwargs.items() if key in takes.parameters}
            expect(meta, partial(reads, *args, **own))
            return meta

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> OperationMeta:
            state, host = current()
            at, reasons = part(Preparation), part(Reasons)
            if part(Verdict).refusal:
                return _nothing()
            if at.depth and not at.phase:  # the deploy around it has done all below
                return register(args, kwargs)
            own = dict(kwargs)
            if own.keys() - takes.parameters.keys() <= {"name"}:
                own.pop("name", None)
                resolved = usual_arguments()
            else:  # takes the keywords that are pyinfra's out of the dictionary
                resolved, _ = pop_global_arguments(state, host, own)
            refuse(function, takes.bind(*args, **own).arguments)
            want(reads(*args, **own), resolved)  # type: ignore[arg-type]
            if at.phase == "check":
                host.current_op_global_arguments = resolved
                reasons.given.clear()
                try:
                    if any(True for _ in function(*args, **own)):  # type: ignore[arg-type]
                        due = str(kwargs.get("name") or function.__name__)
                        why = "; ".join(shortened(reasons.given))
                        at.pending.append(f"{due}: {why}" if why else due)
                except NodeError as error:
                    at.problems.append(str(error))
                finally:
                    host.current_op_global_arguments = None
            if at.phase:
                return _nothing()
            return register(args, kwargs)

        call._inner = guarded  # type: ignore[attr-defined]
        call.reads = reads  # type: ignore[attr-defined]
        return cast("PyinfraOperation[P]", call)

    return decorate


@operation()
def refuse_node(reason: str) -> Commands:
    """Fail on this host, for `reason`, and change nothing.

    + reason: what was found on the node and what to do about it. It is printed unless a preview
      before this run has
    """
    yield FunctionCommand(_refuse, (reason,), {})


def _refuse(state: State, host: Host, reason: str) -> bool:
    said = state.check_for_changes and part(Verdict, host).refusal == reason
    return False if said else fail_host(state, host, reason)


def fail_host(state: State, host: Host, message: str) -> bool:
    """Print the reason and fail this host only: a raise here would print a traceback."""
    message = in_words(message)
    part(Verdict, host).fail(message)
    host.log_styled(printable(message), fg="red", log_func=logger.error)
    return False


class _Command(StringCommand):
    """A command that fails in words where pyinfra would print nothing, or end the run of all hosts:
    it knows neither a connection that ends in the middle nor a sudo that nobody answers."""

    @override
    def execute(self, state: State, host: Host, connector_arguments: Any) -> Any:
        ahead = Ahead.now()
        connector_arguments.update(self.connector_arguments)
        try:
            prepare(host, connector_arguments)
            command = ahead.behind(self) if ahead else self
            done, output = run_shell_command(host, command, connector_arguments)
            problem = "" if done else trouble(host, output=output)
        except (EOFError, OSError, SSHException, PyinfraError) as error:
            done, output, problem = False, CommandOutput([]), trouble(host, error)
        if problem:
            fail_host(state, host, problem)
        if done and ahead:
            ahead.take(output)
        return done, output


def _contained(command: Any) -> Any:
    """The command, so that whatever becomes of its connection fails this host alone."""
    if type(command) is StringCommand:
        return _Command(*command.bits, _separator=command.separator, **command.connector_arguments)
    if type(command) is FunctionCommand:
        function = command.function

        @wraps(function)
        def call(state: State, host: Host, *args: Any, **kwargs: Any) -> Any:
            try:
                return function(state, host, *args, **kwargs)
            except NodeError as error:
                return fail_host(state, host, str(error))
            except (EOFError, OSError, SSHException, PyinfraError) as error:
                return fail_host(state, host, trouble(host, error))

        return FunctionCommand(call, command.args, command.kwargs, **command.connector_arguments)
    return command


def _nothing() -> OperationMeta:
    """What an operation returns that was not registered: complete, without a change."""
    meta = OperationMeta("", is_change=False)
    meta.set_complete(True, [], CommandOutput([]))
    return meta
