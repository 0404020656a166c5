"""Undo what concerns have changed on a node.

`concerns` has the operations and composes their scripts; `declaration` has `Undo`, by which each
concern declares how it is undone. This folder imports the engine and
`chaos_engine.operations.files`, and no concern: the deploy `chaos_engine.deploys.undo` passes the
concerns' declarations to the operations.
"""

from chaos_engine.operations.undo.concerns import forget_changes, undo_concern, undo_other_concerns
from chaos_engine.operations.undo.declaration import TakeOut, Undo

__all__ = ["TakeOut", "Undo", "forget_changes", "undo_concern", "undo_other_concerns"]
