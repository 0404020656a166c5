"""Drain nodes of a live cluster before work on them, and uncordon them after it, batch by batch.

`turns` lets an operation's commands wait for the node's turn, `gate` hands out the turns of a run,
`cordon` drains and uncordons a node, `kubectl` calls the program on this computer. It imports
facts and the engine; operations that stop pods call `turns`.
"""
