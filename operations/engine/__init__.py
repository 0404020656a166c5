"""What every operation is made of; no concern is in here.

`converge` makes an operation of a generator, `arguments` checks its arguments, `reasons` says why
it changes a node, `repairs` what keeps coming back, `summary` what became of each node in the end.
`prelude`, `originals`, `shell` and `remote` serve the scripts that change a node: their head, what
they note for undo, quoting, and running one. It imports facts only; every operation calls it.
"""
