"""Put files in place and make units run with them: all changes of files go through here.

An operation decides what has to be done (`decide`), may change that plan, and does it
(`transaction`); `install` does both. The other modules serve these three: `model` says what files,
units and plans are, `plan` decides, `replaceable` says what may be replaced, and `script` composes
the script of one transaction. It imports facts and the engine; every concern that owns files calls
it.
"""

from chaos_engine.operations.files.install import decide, install, reads, transaction
from chaos_engine.operations.files.model import File, Plan, Unit

__all__ = ["File", "Plan", "Unit", "decide", "install", "reads", "transaction"]
