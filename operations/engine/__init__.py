"""Provide the machinery that every operation uses, whatever the operation changes.

- `converge` turns a generator into a pyinfra operation. `arguments` checks an operation's arguments
- `reasons` prints why an operation changes a node. `repairs` warns of things that every run has to
  set again. `summary` prints the result for each node at the end of a run
- `shell` composes the scripts that change a node. `remote` runs a command in the middle of an
  operation

Modules of this folder import only facts and templates.
"""
