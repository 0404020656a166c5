"""Take nodes of a live cluster out of it and give them back, one batch after the other.

`turns` lets an operation's commands wait for the node's turn, `gate` hands out the turns of a run,
`cordon` drains a node and gives it back, `kubectl` calls the program on this computer. It imports
facts and the engine; operations that stop pods call `turns`.
"""
