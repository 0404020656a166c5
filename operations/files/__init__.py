"""Write and remove files on a node, and run the systemd units that read them.

`install` is the operation. An operation with commands of its own calls `decide` and `transaction`
instead. `decide` returns a plan, and `decide_removal` one that removes a unit. `transaction`
carries out the plan in one script.

The module `model` defines files, units and plans. `plan` makes a plan. `replaceable` tells which
paths may be replaced. `script` composes the script. Every deploy and operation that writes files
uses this folder. The folder imports only `chaos_engine.facts`, `chaos_engine.operations.engine` and
`chaos_engine.templates`.
"""

from chaos_engine.operations.files.install import (
    decide,
    decide_removal,
    install,
    reads,
    transaction,
)
from chaos_engine.operations.files.model import File, Plan, Unit

__all__ = ["File", "Plan", "Unit", "decide", "decide_removal", "install", "reads", "transaction"]
