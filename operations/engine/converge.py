"""Make operations of generators that validate, read, decide and yield.

Such an operation reads the node only by `observe`, raises `NodeError` for a state that it does not
handle, and yields at most a few commands. After a `NodeError` only that node fails, with one line.
In a plain pyinfra operation a fact that fails gives its default, and the operation acts on that.
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
from chaos_engine.facts.observe.connection import prepare, problem_of
from chaos_engine.facts.observe.host import concern_at_work, working_for
from chaos_engine.facts.observe.progress import run_shell_command
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.arguments import check_arguments
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

    + reads: function that takes the operation's own arguments and returns what it will `observe`.
      It has to be pure: a role gathers the reads of all its operations in one command

    An argument that does not fit its annotation (see `arguments`) raises pyinfra's
    ``OperationValueError`` when the operation is called, which stops the run.

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
                    if state.is_executing:  # so that a retry, or a read after the yield, is fresh
                        note_change()
                    yield _contained(command)
            except NodeError as error:
                yield FunctionCommand(fail_host, (str(error),), {})

        @cache
        def registered(concern: str) -> Any:
            # pyinfra executes an operation after the deploy that called it has returned, so it has
            # to remember its concern
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
            if at.depth and not at.phase:  # the surrounding deploy has already done what follows
                return register(args, kwargs)
            own = dict(kwargs)
            if own.keys() - takes.parameters.keys() <= {"name"}:
                own.pop("name", None)
                resolved = usual_arguments()
            else:  # this removes pyinfra's keywords from the dictionary
                resolved, _ = pop_global_arguments(state, host, own)
            check_arguments(function, takes.bind(*args, **own).arguments)
            want(reads(*args, **own), resolved)  # type: ignore[arg-type]
            if at.phase == "check":
                host.current_op_global_arguments = resolved
                reasons.given.clear()
                try:
                    if any(True for _ in function(*args, **own)):  # type: ignore[arg-type]
                        title = str(kwargs.get("name") or function.__name__)
                        why = "; ".join(shortened(reasons.given))
                        at.pending.append(f"{title}: {why}" if why else title)
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
    """Fail this host and change nothing on it.

    + reason: what was found on the node and what to do about it. It is printed, unless the preview
      before this run has printed it
    """
    yield FunctionCommand(_refuse, (reason,), {})


def _refuse(state: State, host: Host, reason: str) -> bool:
    printed = state.check_for_changes and part(Verdict, host).refusal == reason
    return False if printed else fail_host(state, host, reason)


def fail_host(state: State, host: Host, message: str) -> bool:
    """Print and note why this host fails, and return ``False``, by which pyinfra fails it alone.

    An exception would print a traceback.
    """
    part(Verdict, host).fail(message)
    host.log_styled(printable(message), fg="red", log_func=logger.error)
    return False


class _Command(StringCommand):
    """A shell command that prints why it failed, and fails its own host only.

    When a connection breaks or nobody answers sudo, pyinfra prints nothing, or ends the run of all
    hosts.
    """

    @override
    def execute(self, state: State, host: Host, connector_arguments: Any) -> Any:
        ahead = Ahead.now()
        connector_arguments.update(self.connector_arguments)
        try:
            prepare(host, connector_arguments)
            command = ahead.behind(self) if ahead else self
            done, output = run_shell_command(host, command, connector_arguments)
            problem = "" if done else problem_of(host, output=output)
        except (EOFError, OSError, SSHException, PyinfraError) as error:
            done, output, problem = False, CommandOutput([]), problem_of(host, error)
        if problem:
            fail_host(state, host, problem)
        if done and ahead:
            ahead.take(output)
        return done, output


def _contained(command: Any) -> Any:
    """Return the command in a form in which a broken connection fails only its own host."""
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
                return fail_host(state, host, problem_of(host, error))

        return FunctionCommand(call, command.args, command.kwargs, **command.connector_arguments)
    return command


def _nothing() -> OperationMeta:
    """Return the result of an operation that was not registered: complete, without a change."""
    meta = OperationMeta("", is_change=False)
    meta.set_complete(True, [], CommandOutput([]))
    return meta
