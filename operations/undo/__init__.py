"""Undo what concerns have changed on a node.

`concerns` has the operations, `declaration` what a concern says of its own undo, `merge` removes
this package's part from merged files, `script` has the shell functions. It imports the engine and
`chaos_engine.operations.files`, and no concern. Concerns declare an `Undo`, and the deploy
`chaos_engine.deploys.undo` hands it to the operations.
"""

from chaos_engine.operations.undo.concerns import (
    forget_changes,
    undo_concern,
    undo_other_concerns,
)
from chaos_engine.operations.undo.declaration import TakeOut, Undo

__all__ = ["TakeOut", "Undo", "forget_changes", "undo_concern", "undo_other_concerns"]
