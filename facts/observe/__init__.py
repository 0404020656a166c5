"""Read a node: many facts, one remote command, kept until the node may have changed.

pyinfra runs one remote command for each fact and keeps no answer. An operation of this package
calls `observe` instead. The first call reads all facts that the run has announced (`want`) by one
command. The answers are kept until a command has run on that host, or pyinfra has asked the user
whether to go on. A command that changes the node also answers the next operation's reads (`Ahead`),
so that several changes in a row cost one command each. The batch uses each fact's own ``command``
and ``process``, so each fact also works alone: ``pyinfra inventory.py fact ...``.

Facts use the modules `fact` and `batch`, operations use `ask`, and ``operations/engine`` uses all
modules. They import nothing of this package but `chaos_engine.facts.text`.
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
