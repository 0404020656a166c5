"""Provide the machinery that all operations are made with; nothing here knows a concern.

- `converge` turns a generator into a pyinfra operation, and `arguments` checks an operation's
  arguments
- `reasons` prints why an operation changes a node, `repairs` warns of things that have to be
  repaired in run after run, and `summary` prints at the end what became of each node
- `shell` composes the scripts that change a node, and `remote` runs a command in the middle of an
  operation

This folder imports only facts and templates. Every operation uses it.
"""
