"""Put files in place and make units run with them: all changes of files go through here.

`install` is the operation. An operation that does more calls its two steps itself: `decide` returns
the plan, and `transaction` does what the plan says, in one script. The modules behind them: `model`
says what files, units and plans are, `plan` decides, `replaceable` says what may be replaced, and
`script` composes the script. This folder imports facts and the engine; every concern that owns
files calls it.
"""

from chaos_engine.operations.files.install import decide, install, reads, transaction
from chaos_engine.operations.files.model import File, Plan, Unit

__all__ = ["File", "Plan", "Unit", "decide", "install", "reads", "transaction"]
