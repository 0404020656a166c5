"""Undo what concerns have changed on a node. A concern is one subject of a deploy, such as Docker.

An object of the class `Undo` says how one concern is undone. The module `declaration` has this
class. The module `concerns` has the operations and composes their scripts. The deploy
`chaos_engine.deploys.undo` passes the objects to the operations. The modules of this folder import
the engine and `chaos_engine.operations.files`, but no concern.
"""

from chaos_engine.operations.undo.concerns import forget_changes, undo_concern, undo_other_concerns
from chaos_engine.operations.undo.declaration import TakeOut, Undo

__all__ = ["TakeOut", "Undo", "forget_changes", "undo_concern", "undo_other_concerns"]
