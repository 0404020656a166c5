"""Run pyinfra, and count the remote commands of each host at its connector.

python -m tests.cluster.count_commands inventory.py deploy.py -y

Ends with a line ``commands: {"pi1": 2, ...}`` on stderr.
"""

from __future__ import annotations

import atexit
import json
import sys
from collections import Counter
from typing import Any

from pyinfra.connectors.ssh import SSHConnector
from pyinfra_cli.main import main

_counts: Counter[str] = Counter()
_run = SSHConnector.run_shell_command


def _counted(self: SSHConnector, *arguments: Any, **keywords: Any) -> Any:
    _counts[self.host.name] += 1
    return _run(self, *arguments, **keywords)


if __name__ == "__main__":
    SSHConnector.run_shell_command = _counted  # type: ignore[method-assign]
    atexit.register(lambda: print(f"commands: {json.dumps(_counts)}", file=sys.stderr))
    main()
