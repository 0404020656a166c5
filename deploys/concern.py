"""Make deploys of functions: concerns, and the roles that call them.

Under ``-y`` pyinfra runs no operation's code before the first change. A node on which a later
operation fails has been changed half-way. So a deploy's body runs three times on each host:

1. *collect*: operations say what they will read. Then one remote command reads it all.
2. *check*: operations decide. A state that an operation does not handle is a problem.
3. *register*: without a problem, pyinfra registers the operations.

If there is a problem, the node gets one operation that refuses it for that reason, and none after
it. What an earlier deploy has registered for the node runs as announced.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from types import ModuleType
from typing import Any, TypeVar, cast

from pyinfra import logger
from pyinfra.api.deploy import deploy

from chaos_engine.deploys.settings import Settings, SettingsError, collecting, shown
from chaos_engine.deploys.summary import summarized
from chaos_engine.facts.health import Check
from chaos_engine.facts.node import NOT_ROOT, AsRoot
from chaos_engine.facts.observe import (
    NodeError,
    Preparation,
    Read,
    current,
    gather,
    moment,
    observe,
    part,
    phase,
    want,
)
from chaos_engine.facts.observe.host import working_for
from chaos_engine.facts.observe.phase import Moment
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.converge import refuse_node
from chaos_engine.operations.engine.summary import REFUSE_NODE, Verdict, mark_refused
from chaos_engine.operations.undo import Undo

S = TypeVar("S", bound=Settings)
Concern = Callable[..., None]


@dataclass
class _Checked:
    """The results of the first two passes on a host.

    + passed: the moment at which each deploy was found to be possible, by the deploy's name
    + mistakes: what is wrong on this computer, as in settings, a line each
    """

    passed: dict[str, Moment] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Declaration:
    """What a concern or role declares.

    + title: its name in pyinfra's output
    + model: the model of its settings
    + health: checks that tell whether its service works; none if its operations see everything
    + reads: returns what `verify` reads besides, from the settings
    + problems: returns problems that only `verify` looks for, each in words, from the settings
    + undo: how its undo differs from that of other concerns
    """

    title: str
    model: type[Settings]
    health: tuple[Check, ...] = ()
    reads: Callable[[Any], Iterable[Read]] = lambda settings: ()
    problems: Callable[[Any], Iterable[str]] = lambda settings: ()
    undo: Undo = field(default_factory=Undo)


DECLARED: dict[str, Declaration] = {}
"""The declaration of each concern and role, by the name of its function."""


def concern(
    name: str,
    model: type[S],
    *,
    health: Iterable[Check] = (),
    reads: Callable[[S], Iterable[Read]] = lambda settings: (),
    problems: Callable[[S], Iterable[str]] = lambda settings: (),
    undo: Undo | None = None,
) -> Callable[[Callable[[S], None]], Concern]:
    """Make a deploy of a function that takes its settings and calls operations.

    + name: the deploy's name in pyinfra's output
    + model: the model of its settings. A caller gives settings as a model, a dictionary or
      keywords, by the names of fields. The others come from ``host.data``, by names that begin with
      ``chaos_``
    + health, reads, problems, undo: see `Declaration`

    The function runs up to three times. So it must call the same operations each time, and have no
    other effect.

    **Example:**

    .. code:: python

        @concern("Journal in RAM", JournaldSettings)
        def journald(settings: JournaldSettings) -> None:
            files.install(name="Keep the journal in RAM", files=[...])

        journald()                                          # all from host.data
        journald(journald_max_use="16M")                    # one given, the others from there
        journald(JournaldSettings(journald_max_use="16M"))  # the same
    """

    def decorate(function: Callable[[S], None]) -> Concern:
        DECLARED[function.__name__] = Declaration(
            name, model, tuple(health), reads, problems, undo or Undo()
        )

        @wraps(function)
        @summarized
        def call(settings: Any = None, *others: Any, **keywords: Any) -> None:
            if part(Verdict).refusal:
                return
            if part(Preparation).phase == "collect":
                with collecting(part(_Checked).mistakes):
                    enter(settings, others, keywords)
                return
            enter(settings, others, keywords)

        def enter(settings: Any, others: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            name, at = function.__name__, part(Preparation)
            if isinstance(settings, model) and (at.phase or at.depth) and not keywords:
                resolved = settings  # from a role, which has resolved all of them
            else:
                kind, values = given_values(name, model, settings, others, keywords)
                resolved = kind.resolve(values, name)

            def body() -> None:
                with working_for(name):
                    function(resolved)

            if at.phase or at.depth:  # within another concern or role
                body()
                return
            passed = part(_Checked).passed.get(name) == moment()
            checked = settings is None and not keywords and passed
            if not checked and _refused(body):
                return
            at.depth += 1
            try:
                body()
            finally:
                at.depth -= 1

        # pyinfra reads the signature of a deploy; annotated, the settings would be an argument on
        # the command line
        deployed = cast(Concern, deploy(name)(cast(Any, call)))

        @wraps(deployed)
        def entered(*args: Any, **kwargs: Any) -> None:
            # Nothing is registered in the first two passes, so pyinfra's part is skipped. But a
            # keyword may be one of pyinfra's own arguments, as _sudo
            (call if part(Preparation).phase and not kwargs else deployed)(*args, **kwargs)

        return entered

    return decorate


def given_values(
    name: str,
    model: type[S],
    settings: object,
    others: tuple[object, ...],
    keywords: Mapping[str, Any],
) -> tuple[type[S], dict[str, Any]]:
    """Return the model to make of a concern's settings, and the values that its caller has given.

    + name: the concern's name
    + settings, others, keywords: the arguments of the call

    Raises `SettingsError` for arguments that are no settings.
    """
    if others or not (settings is None or isinstance(settings, (Mapping, model))):
        wrong = others[0] if others else settings
        raise SettingsError(
            f"{name} takes {model.__name__}, a dictionary or keywords, not {shown(wrong)}; pyinfra "
            "runs one deploy a call: call it once for each, or write a deploy.py"
        )
    if isinstance(settings, model):
        values = {field: getattr(settings, field) for field in settings.model_fields_set}
        return type(settings), {**values, **keywords}
    values = dict(settings) if isinstance(settings, Mapping) else {}
    return model, {**values, **keywords}


@summarized
def check(*concerns: Concern) -> None:
    """Refuse the current host if one of several deploys cannot be done to it.

    + concerns: the deploys that will be called after this function, without arguments

    A deploy alone refuses a host before its own first change. This function refuses it before the
    first change of any of them, and reads the host for all of them in one command. The deploys
    check the host again only if it may have changed in between.

    **Example:** ``check(worker, proxy)``, then ``worker()`` and ``proxy()``
    """

    def call_all() -> None:
        for one in concerns:
            one()

    if not _refused(call_all):
        part(_Checked).passed = {one.__name__: moment() for one in concerns}


def _refused(body: Callable[[], None]) -> bool:
    """Refuse the current host if the operations of `body` find a problem. Tell whether they did."""
    state, host = current()
    if state.current_deploy_filename:
        _make_known(state.current_deploy_filename)
    problems = _problems(body)
    if not problems:
        return False
    reason = printable("; ".join(dict.fromkeys(problems)))
    if state.check_for_changes:
        host.log_styled(f"Refused: {reason}", fg="red", log_func=logger.error)
    refuse_node(name=REFUSE_NODE, reason=reason)
    mark_refused(reason)
    return True


@cache
def _make_known(path: str) -> None:
    """Register a deploy file, which pyinfra runs, as a module, so that `inspect` finds it fast.

    At each operation of each host pyinfra asks `inspect` for the file of each frame of the stack
    (``get_operation_order_from_stack`` in pyinfra/api/util.py). For a file that belongs to no
    module `inspect` searches all modules, each time.
    """
    module = ModuleType(os.path.abspath(path))
    module.__file__ = module.__name__
    sys.modules.setdefault(module.__name__, module)


def collect(body: Callable[[], None]) -> None:
    """Let operations declare what they will read, and concerns find mistakes on this computer.

    + body: calls the concerns or operations

    Raises one `SettingsError` for all mistakes of all concerns.
    """
    checked = part(_Checked)
    checked.mistakes = []
    with phase("collect"), collecting(checked.mistakes):
        body()
    if checked.mistakes:
        raise SettingsError(*checked.mistakes)


def _problems(body: Callable[[], None]) -> list[str]:
    """Return all reasons to refuse the current host, before any operation is registered."""
    try:
        collect(body)
        want([Read.of(AsRoot)])
        gather()
        if not observe(AsRoot):  # the facts' answers are incomplete then
            return [NOT_ROOT]
    except NodeError as error:
        return [str(error)]
    with phase("check") as (problems, _):
        body()
    return problems
