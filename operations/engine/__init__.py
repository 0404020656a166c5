"""Provide what all operations are made of; it knows no concern.

`converge` makes an operation of a generator, `arguments` checks its arguments, `reasons` says why
it changes a node, `repairs` says what keeps coming back, and `summary` what became of each node.
Four modules serve the scripts that change a node: `prelude` is their head, `originals` notes
changes for undo, `shell` quotes, and `remote` runs a script. It imports facts only; every operation
calls it.
"""
