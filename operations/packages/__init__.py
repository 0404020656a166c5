"""Remove packages that a work node does not need, and keep apt from bringing them back.

`packages` is the operation, `removed` keeps what undo needs to install them again. The deploy
`chaos_engine.deploys.packages` calls it.
"""

from chaos_engine.operations.packages.packages import NEEDED, remove_packages

__all__ = ["NEEDED", "remove_packages"]
