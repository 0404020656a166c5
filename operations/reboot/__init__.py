"""Reboot a node if a change needs a reboot, and check that the change has taken effect.

The module `reboot` has the operation. The module `boot_cycle` reboots the node, and waits until the
node is back. The deploy `chaos_engine.deploys.reboot` calls the operation.
"""

from chaos_engine.operations.reboot.reboot import reboot_node

__all__ = ["reboot_node"]
