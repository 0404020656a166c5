"""Read a node: many facts, one remote command, kept until the node may have changed.

pyinfra spends one remote command a fact and keeps nothing. An operation of this package reads
through `observe` instead: the first call gathers everything that the run has said it will want
(`want`) in one command and keeps the answers until any command has run on that host, or somebody
was asked whether to go on. A command that changes the node ends with what the next operation will
ask (`Ahead`), so that one change after another costs one command each. The batch is composed of the
facts' own ``command`` and parsed by their own ``process``, so each fact also works alone:
``pyinfra inventory.py fact ...``.

Facts use `fact` and `batch`, operations `ask`, the engine of operations all of it. It imports
nothing of this package but `chaos_engine.facts.text`.
"""

from chaos_engine.facts.observe.ahead import Ahead
from chaos_engine.facts.observe.answers import Answers
from chaos_engine.facts.observe.arguments import usual_arguments
from chaos_engine.facts.observe.ask import (
    LOCK_SECONDS,
    begin,
    expect,
    forget,
    gather,
    note_change,
    observe,
    want,
)
from chaos_engine.facts.observe.batch import LOCK, NO_SYSTEMD, PATH, Read
from chaos_engine.facts.observe.fact import NodeError, NodeFact, SeveralFact, Value, YesOrNo
from chaos_engine.facts.observe.host import current, part, warn
from chaos_engine.facts.observe.phase import Preparation, moment, phase

__all__ = [
    "LOCK",
    "LOCK_SECONDS",
    "NO_SYSTEMD",
    "PATH",
    "Ahead",
    "Answers",
    "NodeError",
    "NodeFact",
    "Preparation",
    "Read",
    "SeveralFact",
    "Value",
    "YesOrNo",
    "begin",
    "current",
    "expect",
    "forget",
    "gather",
    "moment",
    "note_change",
    "observe",
    "part",
    "phase",
    "usual_arguments",
    "want",
    "warn",
]
