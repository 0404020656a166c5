"""Remove packages that a work node does not need, and keep apt from installing them again.

The module `packages` has the operation. The deploy `chaos_engine.deploys.packages` calls it.
"""

from chaos_engine.operations.packages.packages import NEEDED, remove_packages

__all__ = ["NEEDED", "remove_packages"]
