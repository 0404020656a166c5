"""Reboot a node if a reboot is due, and check that it came back as wanted.

`reboot` is the operation, `boot_cycle` sends the node down and waits for it. The deploy
`chaos_engine.deploys.reboot` calls it.
"""

from chaos_engine.operations.reboot.reboot import reboot_node

__all__ = ["reboot_node"]
