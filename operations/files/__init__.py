"""Put files in place, and make the units that read them run with them: the one door to a node.

An operation decides what has to be done (`decide`), may change that plan, and does it
(`transaction`); `install` is both in one. The rest of the folder is theirs alone: what a plan is
(`model`), how it comes about (`plan`), what may be replaced (`replaceable`), and the script of one
transaction (`script`). It imports facts and the engine; every concern that owns files calls it.
"""

from chaos_engine.operations.files.install import decide, install, reads, transaction
from chaos_engine.operations.files.model import File, Plan, Unit

__all__ = ["File", "Plan", "Unit", "decide", "install", "reads", "transaction"]
