"""Remove packages that a work node does not need, and keep apt from installing them again.

`packages` is the operation, `removed` keeps what undo needs to install them again. The deploy
`chaos_engine.deploys.packages` calls it.
"""

from chaos_engine.operations.packages.packages import NEEDED, remove_packages

__all__ = ["NEEDED", "remove_packages"]
