"""Undo what concerns have changed on a node. A concern is one subject of a deploy, such as Docker.

`concerns` has the operations and composes their scripts. `declaration` has the class `Undo`. With
an `Undo`, a concern declares how it is undone. The deploy `chaos_engine.deploys.undo` passes these
declarations to the operations. This folder imports the engine and `chaos_engine.operations.files`,
but no concern.
"""

from chaos_engine.operations.undo.concerns import forget_changes, undo_concern, undo_other_concerns
from chaos_engine.operations.undo.declaration import TakeOut, Undo

__all__ = ["TakeOut", "Undo", "forget_changes", "undo_concern", "undo_other_concerns"]
