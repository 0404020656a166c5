"""Run pyinfra, and kill it at a chosen moment of an operation on a host, as by ``kill -9``.

python -m tests.cluster.killed pi1 'Run Docker' half inventory.py deploy.py -y --limit pi1

The moments belong to the operation's first command that is no read: *before* it is sent; when it is
*sent*, but nothing of its standard input; when *half* of that is sent; *after* it has ended. A run
in which the moment does not come ends normally.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from pyinfra.connectors import ssh
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import read_output_buffers, write_stdin
from pyinfra_cli.main import main

_run = SSHConnector.run_shell_command


class _Killer:
    """Kills this process at the chosen moment."""

    def __init__(self, host: str, operation: str, moment: str) -> None:
        self.host, self.operation, self.moment = host, operation, moment
        self._near = threading.local()

    @property
    def near(self) -> bool:
        """Tell whether this thread's command is one of the operation on the host."""
        return bool(getattr(self._near, "now", False))

    @near.setter
    def near(self, now: bool) -> None:
        self._near.now = now

    def now(self, *moments: str) -> None:
        """Kill this process if one of these moments, which are now, is the chosen one."""
        if self.near and self.moment in moments:
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self, connector: SSHConnector, command: Any, *rest: Any, **keywords: Any) -> Any:
        """Run a remote command, in place of the connector."""
        running = connector.host.executing_op_hash
        names = connector.state.op_meta[running].names if running else ()
        wanted = any(name.rpartition(" | ")[2] == self.operation for name in names)
        wanted = wanted and connector.host.name == self.host
        self.near = wanted and not command.get_raw_value().startswith("sh -s")
        self.now("before")
        answer = _run(connector, command, *rest, **keywords)
        self.now("after")
        return answer

    def write(self, text: Any, buffer: Any) -> None:
        """Write the standard input of a command, in place of pyinfra."""
        self.now("sent")
        if self.near and self.moment == "half":
            buffer.write(str(text)[: len(text) // 2].encode())
            buffer.flush()
            self.now("half")
        write_stdin(text, buffer)  # type: ignore[no-untyped-call]

    def read(self, *arguments: Any, **keywords: Any) -> Any:
        """Read the output of a command, in place of pyinfra."""
        self.now("sent", "half")
        return read_output_buffers(*arguments, **keywords)


if __name__ == "__main__":
    killer = _Killer(sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1))
    SSHConnector.run_shell_command = (  # type: ignore[method-assign]
        lambda self, command, *rest, **keywords: killer.run(self, command, *rest, **keywords)
    )
    ssh.write_stdin, ssh.read_output_buffers = killer.write, killer.read
    main()
