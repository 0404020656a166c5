"""Remove packages that a work node does not need, and keep apt from installing them again.

`packages` has the operation, which the deploy `chaos_engine.deploys.packages` calls.
"""

from chaos_engine.operations.packages.packages import NEEDED, remove_packages

__all__ = ["NEEDED", "remove_packages"]
