"""Change a node: each operation reads it, decides, and changes it in one transaction.

A module, or a folder, is a concern. The folders `engine`, `files`, `rolling` and `undo` are
machinery. It imports facts; deploys call it.
"""
