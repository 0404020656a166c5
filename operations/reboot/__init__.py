"""Reboot a node if a reboot is due, and check that it came back as wanted.

`reboot` has the operation, `boot_cycle` reboots the node and waits for it. The deploy
`chaos_engine.deploys.reboot` calls the operation.
"""

from chaos_engine.operations.reboot.reboot import reboot_node

__all__ = ["reboot_node"]
