"""Read many facts of a node by one remote command, and keep the answers while they are valid.

pyinfra runs one remote command for each fact and keeps no answer. An operation of this package
calls `observe` instead. The first call sends one command, which reads all facts that the run has
announced (`want`). The answers are kept until a command has run on that host, or pyinfra has asked
the user whether to go on. A command that changes the node also reads the facts for the next
operation (`Ahead`). So several changes in a row need only one command each. pyinfra can also read
each fact alone, as in ``pyinfra inventory.py fact ...``.

- A *read* is a fact with its arguments.
- A *batch* is a script that runs the commands of several facts. It uses the methods ``command`` and
  ``process`` of each fact. A fact's *part* is the exit status and output of the fact's command.
- An *identity* is the set of pyinfra's global arguments that decide how a host is read, such as the
  user. Answers of different identities are stored separately.

Facts use the modules `fact`, `read` and `batch`. Operations use `ask`. ``operations/engine`` uses
all modules. The modules import only `chaos_engine.facts.text` from the rest of this package.
"""

from chaos_engine.facts.observe.ahead import Ahead
from chaos_engine.facts.observe.answers import HostAnswers
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
from chaos_engine.facts.observe.batch import LOCK, NO_SYSTEMD, PATH
from chaos_engine.facts.observe.fact import NodeError, NodeFact, SeveralFact, Value, YesOrNo
from chaos_engine.facts.observe.host import current, of_host, warn
from chaos_engine.facts.observe.phase import Preparation, moment, phase
from chaos_engine.facts.observe.read import ComposedFact, Read

__all__ = [
    "LOCK",
    "LOCK_SECONDS",
    "NO_SYSTEMD",
    "PATH",
    "Ahead",
    "ComposedFact",
    "HostAnswers",
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
    "of_host",
    "phase",
    "usual_arguments",
    "want",
    "warn",
]
