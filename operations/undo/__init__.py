"""Bring a node back to what it was before a concern changed it.

`concerns` has the operations, `merge` takes this package's part out of files that are the node's
own, `script` is the shell of it. The deploy `chaos_engine.deploys.undo` calls it.
"""

from chaos_engine.operations.undo.concerns import forget_changes, undo_concern, undo_other_concerns

__all__ = ["forget_changes", "undo_concern", "undo_other_concerns"]
