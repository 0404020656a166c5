"""Provide the decorator `concern`, which makes a deploy from a function.

With ``-y``, pyinfra runs an operation's code only after the commands of all earlier operations. So
an operation that cannot handle the node's state would fail after earlier operations have changed
the node. To find such a state before the first change, a deploy runs its function three times for
each host:

1. *collect*: each operation says what it will read. Then one remote command reads everything.
2. *check*: each operation decides what to do. A state that an operation cannot handle is a problem.
3. *register*: if there is no problem, pyinfra registers the operations.

With ``-y``, pyinfra registers a single operation for a host on which no operation has anything to
do. What pyinfra does for each operation and host would take half of such a run with many hosts.

If there is a problem, the deploy registers a single operation, which refuses the node and prints
the reason. Later deploys register nothing for this node. Operations of earlier deploys still run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
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
from chaos_engine.facts.observe import NodeError, Read, current, gather, observe, of_host, want
from chaos_engine.facts.observe.host import working_for
from chaos_engine.facts.observe.phase import Moment, Preparation, moment, phase
from chaos_engine.facts.text import printable
from chaos_engine.operations.engine.converge import leave_node, refuse_node
from chaos_engine.operations.engine.summary import LEAVE_NODE, REFUSE_NODE, Verdict, mark_refused
from chaos_engine.operations.undo import Undo

S = TypeVar("S", bound=Settings)
Concern = Callable[..., None]


@dataclass
class _Checked:
    """The results of two passes, *collect* and *check*, for one host.

    + passed: the deploys in which *check* found no problem. A key is a deploy's name, and the value
      is the time of the check (`Moment`)
    + as_wanted: whether the last check found that no operation has anything to do
    + skipped: how many deploys have registered a single operation, because of that
    + mistakes: a line for each mistake on this computer, such as a wrong setting
    """

    passed: dict[str, Moment] = field(default_factory=dict)
    as_wanted: bool = False
    skipped: int = 0
    mistakes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Declaration:
    """What a concern or role gives to the decorator `concern`.

    + title: name of the concern in pyinfra's output
    + model: model of the concern's settings
    + health: commands with which the deploy `verify` checks that the concern's service works
    + reads: function that takes the settings and returns the facts for `problems` and `says`
    + problems: function that takes the settings and returns problems that only `verify` reports
    + says: function that takes the settings and returns a text that `verify` prints after "ok", ""
      for no text
    + undo: what the deploy `undo` has to know about the concern. The concern's changes are not
      listed here. A file on the node lists them
    """

    title: str
    model: type[Settings]
    health: tuple[Check, ...] = ()
    reads: Callable[[Any], Iterable[Read]] = lambda settings: ()
    problems: Callable[[Any], Iterable[str]] = lambda settings: ()
    says: Callable[[Any], str] = lambda settings: ""
    undo: Undo = field(default_factory=Undo)


DECLARED: dict[str, Declaration] = {}
"""The declaration of each concern and role, by the name of its function, such as "docker"."""


def concern(
    name: str,
    model: type[S],
    *,
    health: Iterable[Check] = (),
    reads: Callable[[S], Iterable[Read]] = lambda settings: (),
    problems: Callable[[S], Iterable[str]] = lambda settings: (),
    says: Callable[[S], str] = lambda settings: "",
    undo: Undo | None = None,
) -> Callable[[Callable[[S], None]], Concern]:
    """Make a deploy from a function that takes settings and calls operations.

    + name: the deploy's name in pyinfra's output
    + model: the model of the settings. A caller of the deploy can give settings as this model, as
      a dictionary, or as keywords. All other settings come from ``host.data``, where their names
      begin with ``chaos_``
    + health, reads, problems, says, undo: see `Declaration`

    The function runs up to three times for each host. So the function must call the same operations
    each time, and must have no other effect.

    **Example:**

    .. code:: python

        @concern("Journal in RAM", JournaldSettings)
        def journald(settings: JournaldSettings) -> None:
            files.install(name="Keep the journal in RAM", files=[...])

        journald()                                          # all from host.data
        journald(journald_max_use="16M")                    # one given, the others from host.data
        journald(JournaldSettings(journald_max_use="16M"))  # the same
    """

    def decorate(function: Callable[[S], None]) -> Concern:
        DECLARED[function.__name__] = Declaration(
            name, model, tuple(health), reads, problems, says, undo or Undo()
        )

        @wraps(function)
        @summarized
        def call(settings: Any = None, *others: Any, **keywords: Any) -> None:
            if of_host(Verdict).refusal:
                return
            collects = of_host(Preparation).phase == "collect"
            with collecting(of_host(_Checked).mistakes) if collects else nullcontext():
                resolved = _resolved(function.__name__, model, settings, others, keywords)
                _enter(function, resolved, given=settings is not None or bool(keywords))

        # pyinfra reads the signature of a deploy. If the settings were annotated in it, pyinfra
        # would make them an argument on the command line
        deployed = cast(Concern, deploy(name)(cast(Any, call)))

        @wraps(deployed)
        def entered(*args: Any, **kwargs: Any) -> None:
            # The first two passes register nothing, so they skip pyinfra's deploy. A call with
            # keywords does not skip it: only pyinfra handles pyinfra's keywords, such as _sudo
            (call if of_host(Preparation).phase and not kwargs else deployed)(*args, **kwargs)

        return entered

    return decorate


def _resolved(
    name: str,
    model: type[S],
    settings: object,
    others: tuple[object, ...],
    keywords: Mapping[str, Any],
) -> S:
    """Return a concern's settings for the current host.

    + name: the concern's name
    + model: the model that the concern declares
    + settings: the first positional argument of the concern's call, ``None`` if there is none
    + others: all other positional arguments; there must be none
    + keywords: the keyword arguments

    Raises `SettingsError` for an argument that is neither a model nor a dictionary, and for
    mistakes in the settings.
    """
    if others or not (settings is None or isinstance(settings, (Mapping, model))):
        wrong = others[0] if others else settings
        raise SettingsError(
            f"{name} takes {model.__name__}, a dictionary or keywords, not {shown(wrong)}; to run "
            "several deploys, call pyinfra once for each, or write a deploy.py"
        )
    if not isinstance(settings, model):
        given = settings if isinstance(settings, Mapping) else {}
        return model.resolve({**given, **keywords}, name)
    at = of_host(Preparation)
    if (at.phase or at.depth) and not keywords:
        return settings  # a role calls this concern, and has resolved the settings already
    given = {field: getattr(settings, field) for field in settings.model_fields_set}
    return type(settings).resolve({**given, **keywords}, name)


def _enter(function: Callable[[S], None], settings: S, given: bool) -> None:
    """Run a concern's function for the current host, unless the host is refused.

    + settings: the resolved settings
    + given: whether the caller gave settings. If ``True``, this function checks the host even after
      a call of `check`, because `check` used only the settings in ``host.data``
    """
    name, at = function.__name__, of_host(Preparation)

    def body() -> None:
        with working_for(name):
            function(settings)

    if at.phase or at.depth:  # within another concern or role, which checks the host
        body()
        return
    passed = not given and of_host(_Checked).passed.get(name) == moment()
    if not passed and _refused(body):
        return
    if _has_nothing_to_do():
        of_host(_Checked).skipped += 1
        leave_node(name=LEAVE_NODE)
        return
    at.depth += 1
    try:
        body()
    finally:
        at.depth -= 1


def _has_nothing_to_do() -> bool:
    """Tell whether the current deploy has nothing to do on the current host.

    An operation that was registered before may change the host after the check. Without ``-y``, a
    user may change it while pyinfra waits for an answer. In these cases each operation looks again.
    """
    (state, host), checked = current(), of_host(_Checked)
    unchanged = len(state.ops[host]) == checked.skipped
    return checked.as_wanted and unchanged and not state.check_for_changes


@summarized
def check(*concerns: Concern) -> None:
    """Refuse the current host if one of several deploys would refuse it.

    + concerns: the deploys that the caller will call after this function, without arguments

    Without this function, a later deploy can refuse a host that an earlier deploy has changed. This
    function refuses the host before any deploy changes it. One remote command reads what all the
    deploys need. A deploy repeats its check only if the host may have changed since.

    **Example:** ``check(worker, proxy)``, then ``worker()`` and ``proxy()``
    """

    def call_all() -> None:
        for one in concerns:
            one()

    if not _refused(call_all):
        of_host(_Checked).passed = {one.__name__: moment() for one in concerns}


def _refused(body: Callable[[], None]) -> bool:
    """Refuse the current host if an operation in `body` finds a problem.

    Returns whether the host is refused.
    """
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
    """Add a deploy file, such as ``deploy.py``, to ``sys.modules``, to save time.

    For each operation and host, pyinfra asks `inspect` about each stack frame
    (``get_operation_order_from_stack`` in pyinfra/api/util.py). For a frame whose file is not in
    ``sys.modules``, `inspect` searches all modules each time. The deploy file is such a file,
    because pyinfra executes it without importing it.
    """
    module = ModuleType(os.path.abspath(path))
    module.__file__ = module.__name__
    sys.modules.setdefault(module.__name__, module)


def collect(body: Callable[[], None]) -> None:
    """Collect what the operations will read on the current host. This is the pass *collect*.

    + body: function that calls concerns or operations

    Raises one `SettingsError` with all mistakes that the concerns find in settings and in files on
    this computer.
    """
    checked = of_host(_Checked)
    checked.mistakes = []
    with phase("collect"), collecting(checked.mistakes):
        body()
    if checked.mistakes:
        raise SettingsError(*checked.mistakes)


def _problems(body: Callable[[], None]) -> list[str]:
    """Return all reasons to refuse the current host, without registering an operation."""
    try:
        collect(body)
        want([Read.of(AsRoot)])
        gather()
        if not observe(AsRoot):  # without root, the other facts' answers are incomplete
            return [NOT_ROOT]
    except NodeError as error:
        return [str(error)]
    with phase("check") as (problems, pending):
        body()
    of_host(_Checked).as_wanted = not (problems or pending)
    return problems
