"""Bring a node back to what it was before a concern changed it.

`concerns` has the operations, `declaration` what a concern says of its own undoing, `merge` takes
this package's part out of files that are the node's own, `script` is the shell of it. It imports
the engine and `chaos_engine.operations.files`, and no concern; concerns declare an `Undo`, and the
deploy `chaos_engine.deploys.undo` hands it to the operations.
"""

from chaos_engine.operations.undo.concerns import (
    forget_changes,
    undo_concern,
    undo_other_concerns,
)
from chaos_engine.operations.undo.declaration import TakeOut, Undo

__all__ = ["TakeOut", "Undo", "forget_changes", "undo_concern", "undo_other_concerns"]
