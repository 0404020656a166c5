"""Change a node: each operation reads it, decides, and changes it in one transaction.

Each module or folder is a concern, except what several concerns use: the modules `apt` and
`compatibility`, and the folders `engine`, `files`, `rolling` and `undo`. Operations import facts,
and deploys call operations.
"""
