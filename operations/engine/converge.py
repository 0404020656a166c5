"""Turn generators into pyinfra operations.

Each generator reads the node only by `observe`, decides what to do, and yields at most a few
commands. The generator raises `NodeError` if it cannot handle the node's state. `observe` raises
`NodeError` if a fact cannot be read. A `NodeError` fails only the node where it was raised, and one
line says why. So does an exception that a state of the node raises because nobody thought of it. If
a fact cannot be read, an ordinary pyinfra operation would go on with the fact's default value.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from functools import cache, partial, wraps
from inspect import signature
from typing import Any, cast

from pyinfra import logger
from pyinfra.api.arguments import pop_global_arguments
from pyinfra.api.arguments_typed import PyinfraOperation
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.api.state import State
from pyinfra.connectors.util import CommandOutput
from typing_extensions import ParamSpec, override

from chaos_engine.facts import observe
from chaos_engine.facts.observe import NodeError, Read, current, of_host
from chaos_engine.facts.observe.connection import problem_of
from chaos_engine.facts.observe.host import concern_at_work, working_for
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.arguments import check_arguments
from chaos_engine.operations.engine.reasons import Reasons, print_reasons, shortened
from chaos_engine.operations.engine.remote import BROKEN, execute
from chaos_engine.operations.engine.summary import Verdict

P = ParamSpec("P")
Commands = Generator[Any, None, None]

_UNFORESEEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What an operation may raise for a state of the node for which it has no `NodeError`. Without
`converge`, the exception would end the run for all hosts."""


def converge(
    reads: Callable[P, Iterable[Read]],
) -> Callable[[Callable[P, Commands]], PyinfraOperation[P]]:
    """Return a decorator that turns a generator function into an operation.

    + reads: a pure function that takes the operation's arguments. It returns a `Read` for each fact
      that the operation will `observe`. So one command can read the facts of all operations of a
      deploy

    The operation raises pyinfra's ``OperationValueError`` if an argument has the wrong form. The
    error stops the whole run. The module `arguments` defines the forms.

    **Example:** ``@converge(reads=lambda path: [Read.of(Files, paths=(path,))])``
    """

    def decorate(function: Callable[P, Commands]) -> PyinfraOperation[P]:
        guarded, takes = _guarded(function, reads), signature(function)
        operation_of = cache(partial(_operation, guarded))

        def register(args: tuple[Any, ...], kwargs: dict[str, Any]) -> OperationMeta:
            meta = cast(OperationMeta, operation_of(concern_at_work())(*args, **kwargs))
            own = {key: value for key, value in kwargs.items() if key in takes.parameters}
            observe.expect(meta, partial(reads, *args, **own))
            return meta

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> OperationMeta:
            state, host = current()
            at = of_host(observe.Preparation)
            if of_host(Verdict).refusal:
                return _nothing()
            if at.depth and not at.phase:  # the calling deploy has already collected and checked
                return register(args, kwargs)
            own = dict(kwargs)
            if own.keys() - takes.parameters.keys() <= {"name"}:
                own.pop("name", None)
                resolved = observe.usual_arguments()
            else:  # `pop_global_arguments` removes pyinfra's own arguments from `own`
                resolved, _ = pop_global_arguments(state, host, own)
            check_arguments(function, takes.bind(*args, **own).arguments)
            observe.want(reads(*args, **own), resolved)  # type: ignore[arg-type]
            if at.phase == "check":
                host.current_op_global_arguments = resolved
                title = str(kwargs.get("name") or function.__name__)
                _foresee(title, function(*args, **own))  # type: ignore[arg-type]
                host.current_op_global_arguments = None
            if at.phase:
                return _nothing()
            return register(args, kwargs)

        call._inner = guarded  # type: ignore[attr-defined]
        call.reads = reads  # type: ignore[attr-defined]
        return cast("PyinfraOperation[P]", call)

    return decorate


def _guarded(
    function: Callable[P, Commands], reads: Callable[P, Iterable[Read]]
) -> Callable[P, Commands]:
    """Wrap the generator function of an operation for `converge`.

    The wrapped function stores which facts the operation will read, and prints the reasons for each
    change. If the operation raises `NodeError` or one of `_UNFORESEEN`, or the connection breaks,
    only the current host fails.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Commands:
        state = current()[0]
        observe.begin(partial(reads, *args, **kwargs))
        of_host(Reasons).given.clear()
        try:
            for command in function(*args, **kwargs):
                print_reasons()
                if state.is_executing:  # facts that were read before the command become invalid
                    observe.note_change()
                yield _contained(command)
        except NodeError as error:
            yield FunctionCommand(fail_host, (str(error),), {})
        except PyinfraError:  # an argument or a setting is wrong
            raise
        except _UNFORESEEN as error:
            yield FunctionCommand(fail_host, (_unforeseen(error),), {})

    return guarded


def _operation(function: Callable[P, Commands], concern: str) -> Any:
    """Turn a generator function into a pyinfra operation that works for one concern.

    + concern: the name of the concern (one subject of a deploy) that calls the operation

    pyinfra executes an operation only after the calling deploy has returned. So the operation has
    to remember the concern.
    """

    @wraps(function)
    def owned(*args: P.args, **kwargs: P.kwargs) -> Commands:
        with working_for(concern):
            yield from function(*args, **kwargs)

    return operation()(owned)


def _foresee(title: str, commands: Commands) -> None:
    """Find out what an operation would do to the current host, without executing it.

    + title: the operation's name
    + commands: the operation's generator

    If the operation would change the host, this function adds the operation's name and reasons to
    `Preparation.pending`. If the operation refuses the host, the function adds the reason to
    `Preparation.problems`.
    """
    at, reasons = of_host(observe.Preparation), of_host(Reasons)
    reasons.given.clear()
    try:
        if any(True for _ in commands):
            why = "; ".join(shortened(reasons.given))
            at.pending.append(f"{title}: {why}" if why else title)
    except NodeError as error:
        at.problems.append(str(error))
    except PyinfraError:  # an argument or a setting is wrong
        raise
    except _UNFORESEEN as error:
        at.problems.append(f"{title}: {_unforeseen(error)}")


def _unforeseen(error: Exception) -> str:
    """Return why an operation refuses a host whose state raised an exception.

    The traceback is shown with pyinfra's ``--debug``.
    """
    logger.debug("An operation cannot handle the node's state", exc_info=error)
    return f"the node is in a state that was not foreseen: {error!r}"


@operation()
def leave_node() -> Commands:
    """Do nothing, in place of all operations of a deploy that has nothing to do on the node."""
    current()[1].noop("the node is as wanted")
    yield from ()


@operation()
def refuse_node(reason: str) -> Commands:
    """Fail the current host without changing it.

    + reason: what was found on the node and what to do about it. If the preview has printed the
      reason, the run does not print it again
    """
    yield FunctionCommand(_refuse, (reason,), {})


def _refuse(state: State, host: Host, reason: str) -> bool:
    """Fail a host. Print the reason, unless the preview has already printed it."""
    printed = state.check_for_changes and of_host(Verdict, host).refusal == reason
    return False if printed else fail_host(state, host, reason)


def fail_host(state: State, host: Host, message: str) -> bool:
    """Print why a host fails, remember the reason for the summary, and return ``False``.

    pyinfra fails a host if the function of a `FunctionCommand` returns ``False``. For an exception,
    pyinfra would print a traceback.
    """
    of_host(Verdict, host).fail(message)
    host.log_styled(printable(message), fg="red", log_func=logger.error)
    return False


class _Command(StringCommand):
    """A shell command. If the connection breaks, only the command's own host fails.

    This class prints the reason. With an ordinary pyinfra command, pyinfra would print nothing, or
    end the run for all hosts.
    """

    @override
    def execute(self, state: State, host: Host, connector_arguments: Any) -> Any:
        ahead = observe.Ahead.now()
        connector_arguments.update(self.connector_arguments)
        command = ahead.behind(self) if ahead else self
        done, output, problem = execute(host, command, connector_arguments)
        if problem:
            fail_host(state, host, problem)
        if done and ahead:
            ahead.take(output)
        return done, output


def _contained(command: Any) -> Any:
    """Wrap a command so that a broken connection fails only the command's own host."""
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
            except BROKEN as error:
                return fail_host(state, host, problem_of(host, error))

        return FunctionCommand(call, command.args, command.kwargs, **command.connector_arguments)
    return command


def _nothing() -> OperationMeta:
    """Return the result of an operation that is skipped: success without a change."""
    meta = OperationMeta("", is_change=False)
    meta.set_complete(True, [], CommandOutput([]))
    return meta
