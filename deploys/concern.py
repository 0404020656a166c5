"""The decorator of this package's deploys: concerns, and the roles that compose them.

pyinfra runs no operation before the first change under ``-y``, and a node that fails there has
been changed half-way. So a deploy's body runs three times on each host: once to say what it will
read (then one remote command reads it all), once to decide everything, and only if no operation
found a state that it does not handle, once to register its operations. Otherwise the node gets a
single operation that refuses it, for that reason, and none after it; what an earlier deploy has
registered for it is run as announced.
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
from chaos_engine.operations.engine.summary import REFUSE_NODE, Verdict, refuse
from chaos_engine.operations.undo import Undo

S = TypeVar("S", bound=Settings)
Concern = Callable[..., None]


@dataclass
class _Checked:
    """What was found out of a host before anything was registered for it.

    + passed: when each deploy was found to be possible, by its name
    + mistakes: what is wrong on this computer, such as in settings
    """

    passed: dict[str, Moment] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Declaration:
    """What a concern or role declares of itself.

    + title: its name in pyinfra's output
    + model: its settings
    + health: what tells whether its service does its work; none if its operations see all
    + asks: what more `verify` reads, from its settings
    + finds: what more is wrong, from its settings and what was read, each in words
    + undo: what is particular about its undoing
    """

    title: str
    model: type[Settings]
    health: tuple[Check, ...] = ()
    asks: Callable[[Any], Iterable[Read]] = lambda settings: ()
    finds: Callable[[Any], Iterable[str]] = lambda settings: ()
    undo: Undo = field(default_factory=Undo)


DECLARED: dict[str, Declaration] = {}
"""What each concern and role declares, by the name of its function."""


def concern(
    name: str,
    model: type[S],
    *,
    health: Iterable[Check] = (),
    asks: Callable[[S], Iterable[Read]] = lambda settings: (),
    finds: Callable[[S], Iterable[str]] = lambda settings: (),
    undo: Undo | None = None,
) -> Callable[[Callable[[S], None]], Concern]:
    """Make a deploy of a function that takes its settings and calls operations.

    + name: the deploy's name in pyinfra's output
    + model: its settings. The deploy takes them as a model, as a dictionary or as keywords, all by
      the names of fields; what is not given comes from ``host.data``, by names with ``chaos_``

    The function must call the same operations each time, and do nothing else that is felt
    outside: it runs more than once.

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
            name, model, tuple(health), asks, finds, undo or Undo()
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
                resolved = settings  # a role's, which are whole
            else:
                kind, values = given(name, model, settings, others, keywords)
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

        # pyinfra reads the signature for its arguments; without the settings' annotation it
        # would offer a model on the command line
        deployed = cast(Concern, deploy(name)(cast(Any, call)))

        @wraps(deployed)
        def entered(*args: Any, **kwargs: Any) -> None:
            # In a phase nothing is registered, so that pyinfra's own part would be in vain; a
            # keyword may be an argument of its own
            (call if part(Preparation).phase and not kwargs else deployed)(*args, **kwargs)

        return entered

    return decorate


def given(
    name: str,
    model: type[S],
    settings: object,
    others: tuple[object, ...],
    keywords: Mapping[str, Any],
) -> tuple[type[S], dict[str, Any]]:
    """The model that a concern's settings shall be of, and the values that its caller has given.

    + name: the concern's; settings, others, keywords: what it was called with

    Raises `SettingsError` for what are no settings of it.
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

    + concerns: deploys that are called after this one, without arguments

    Each deploy refuses a host before its own first change. Called before the first of several,
    this has the host refused before that of any, and reads it for all of them in one command. They
    check it themselves only if it may have changed since.

    **Example:** ``check(worker, proxy)``, then ``worker()`` and ``proxy()``
    """

    def call_all() -> None:
        for one in concerns:
            one()

    if not _refused(call_all):
        part(_Checked).passed = {one.__name__: moment() for one in concerns}


def _refused(body: Callable[[], None]) -> bool:
    """Whether the current host is refused, for what the operations of `body` find on it."""
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
    refuse(reason)
    return True


@cache
def _make_known(path: str) -> None:
    """Have Python's `inspect` know a deploy file, which pyinfra runs, as that of a module.

    At each operation of each host pyinfra asks it where each frame of the stack comes from
    (``get_operation_order_from_stack`` in pyinfra/api/util.py); for a file of no module it goes
    through all modules there are, each time.
    """
    module = ModuleType(os.path.abspath(path))
    module.__file__ = module.__name__
    sys.modules.setdefault(module.__name__, module)


def collect(body: Callable[[], None]) -> None:
    """Have operations say what they will read, and concerns what is wrong on this computer.

    + body: calls them

    Raises `SettingsError` for all mistakes of all concerns.
    """
    checked = part(_Checked)
    checked.mistakes = []
    with phase("collect"), collecting(checked.mistakes):
        body()
    if checked.mistakes:
        raise SettingsError(*checked.mistakes)


def _problems(body: Callable[[], None]) -> list[str]:
    """What forbids to touch this node: all that its operations find, before any is registered."""
    try:
        collect(body)
        want([Read.of(AsRoot)])
        gather()
        if not observe(AsRoot):  # what the facts say then is only half of it
            return [NOT_ROOT]
    except NodeError as error:
        return [str(error)]
    with phase("check") as (problems, _):
        body()
    return problems
