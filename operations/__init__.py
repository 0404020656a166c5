"""Change a node: each operation reads the node's state, and changes the node in one transaction.

Most modules and folders belong to one concern, such as `docker`. Several concerns use the modules
`apt` and `compatibility`, and the folders `engine`, `files`, `rolling` and `undo`. Operations
import facts, and deploys call operations.
"""
