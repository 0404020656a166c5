"""Drain nodes of a live cluster before work that stops their pods, and uncordon them after it.

`turns` makes the commands of an operation wait for the node's turn, `gate` decides which nodes may
have their turn at the same time, `cordon` drains and uncordons a node, and `kubectl` calls that
program on this computer. This folder imports facts and the engine. Operations that stop pods call
`turns`.
"""
